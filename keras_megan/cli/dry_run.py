"""`megan upscale --dry-run`: what would be done, how long it takes, how large it is."""

import contextlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from keras_megan.cli.report import Report
from keras_megan.video.errors import VideoError
from keras_megan.video.many import Outcome
from keras_megan.video.models.engines import Model
from keras_megan.video.models.loaded import Models
from keras_megan.video.progress import clock
from keras_megan.video.request.estimate import Estimate, estimate
from keras_megan.video.request.inputs import Clip
from keras_megan.video.upscale import Job, UpscaleOptions, check_job


def describe_clips(
    clips: Sequence[Clip], options: UpscaleOptions, models: Models, report: Report
) -> int:
    """Prints what would become of each clip; the exit code."""
    seconds = size = 0.0
    for clip in clips:
        try:
            with _writable(clip.output) as output:
                job = check_job(clip.source, output, options)
                info, model = job.clip.info, models.find(job.needs)
                runner = models.runner(info.height, info.width, job.needs)
                found = estimate(job, runner)
        except VideoError as error:
            if len(clips) == 1:
                raise
            report.outcome(Outcome(clip, error=str(error)))
            continue
        seconds, size = seconds + found.seconds, size + found.size
        if report.as_json:
            facts = {"input": str(clip.source), "output": str(clip.output)}
            print(json.dumps({"event": "plan", **facts, **asdict(found)}))
        else:
            print("\n".join(_lines(clip, job, model, found)))
    if len(clips) > 1 and not report.as_json:
        print(f"All: about {clock(seconds)}, {_megabytes(size)}.")
    return report.code


@contextlib.contextmanager
def _writable(output: Path) -> Iterator[Path]:
    """The output, or a stand-in for it while its own folder does not exist yet."""
    if output.parent.is_dir():
        yield output
        return
    with tempfile.TemporaryDirectory(prefix="megan-") as folder:
        yield Path(folder) / output.name


def _lines(clip: Clip, job: Job, model: Model, found: Estimate) -> list[str]:
    info = job.clip.info
    sound = ", ".join(info.audio) or "no sound"
    if job.codec is None:
        coding = "PNG images"
    else:
        quality = job.codec.crf if job.options.crf is None else job.options.crf
        crf = "" if quality is None else f", crf {quality}"
        coding = f"{job.codec.name} by {job.codec.encoder}{crf}"
    tiles = f"{found.tiles} tiles" if found.tiles > 1 else "1 tile"
    return [
        f"{clip.source} -> {clip.output}",
        f"  input   {info.width}x{info.height}, {found.frames_in} frames, "
        f"{float(info.rate):.4g} frames/s, {info.codec}, {sound}",
        f"  output  {found.width}x{found.height}, {found.frames_out} frames, "
        f"{found.fps:.4g} frames/s, {coding}",
        f"  model   {model.name} on {model.engine}, {tiles} of {found.tile} for each "
        f"window",
        *([f"          {model.why}"] if model.why else []),
        f"  time    about {clock(found.seconds)}",
        f"  disk    about {_megabytes(found.size)}, without the sound",
    ]


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.2f} GB"

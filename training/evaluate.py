"""Measures a model on real clips, beside baselines that need no network.

    python -m training.evaluate --model megan_edge --clips FOLDER --out runs/evaluate

Each sub-folder of images and each video file in FOLDER is a clip. Its frames are the
truth; every second one, reduced four times, is the input. Prints luma PSNR and SSIM per
clip and on average, separately for given and new frames, and how sharp new frames are
beside given ones; writes ``results.json`` and
``figure.png``. The protocol and its traps: docs/evaluation.md.
"""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from absl import app, flags
from rich.console import Console

from keras_megan.errors import run_program
from keras_megan.files import write_json, write_whole
from keras_megan.imaging.find import find_clips
from keras_megan.video.errors import writing
from training.data.codecs import parse_quality
from training.errors import TrainingError
from training.evaluation.baselines import BASELINES, Method
from training.evaluation.clips import DOWNSCALES, load_clip
from training.evaluation.figure import FigureMaker
from training.evaluation.network_method import (
    DEFAULT_NUM_INPUTS,
    deblocked,
    load_model,
    with_even_sharpness,
)
from training.evaluation.peers import PEERS, check_peer
from training.evaluation.report import (
    Results,
    make_table,
    results_document,
)
from training.evaluation.scored_windows import evaluation_windows
from training.evaluation.scoring import score_clip
from training.runs.progress import counted_progress


@dataclass(frozen=True)
class Settings:
    """What to measure.

    Attributes:
        clips: Folder of clips.
        out: Folder for ``results.json`` and ``figure.png``.
        model: Preset name, preset folder or ``.keras`` file; None: baselines alone.
        baselines: Names in the registry of baselines.
        peers: Names in the registry of networks that others publish.
        frames: Frames used of each clip, from its beginning; None: all.
        downscale: ``"1"``, ``"2"`` or ``"auto"``: area-shrinking before anything else.
        even_sharpness: Whether to measure the model with sharpened new frames as well.
        compress: Codec and quality that the small frames go through, such as
            ``"h264:32"``; None: none.
        deblock: Whether to measure the model behind a deblocking filter as well.
    """

    clips: str
    out: str
    model: str | None = None
    baselines: tuple[str, ...] = tuple(BASELINES)
    peers: tuple[str, ...] = ()
    frames: int | None = None
    downscale: str = "1"
    even_sharpness: bool = False
    compress: str | None = None
    deblock: bool = False


def evaluate(settings: Settings, console: Console | None = None) -> Results:
    """Runs an evaluation, prints the table, writes the files.

    Args:
        settings: What to measure.
        console: Where table and progress go; standard output by default.

    Returns:
        Clip -> method -> scores of its frames.

    Raises:
        TrainingError, VideoError: One line that says what is wrong.
    """
    console = console or Console()
    methods = _chosen(settings.baselines, BASELINES, "baseline")
    methods |= _chosen(settings.peers, PEERS, "peer")
    for name in settings.peers:
        check_peer(name)
    damage = parse_quality(settings.compress) if settings.compress else None
    sources = find_clips(settings.clips)
    num_inputs = DEFAULT_NUM_INPUTS
    if settings.model:
        model = load_model(settings.model)
        num_inputs = model.num_inputs
        taken = model.name in methods  # a file may be called trilinear.keras
        name = f"{model.name} (model)" if taken else model.name
        methods[name] = model
        if settings.even_sharpness:
            methods[f"{name}, sharpened"] = with_even_sharpness(model)
        if settings.deblock:
            methods[f"{name}, deblocked"] = deblocked(model)
    if not methods:
        raise TrainingError("Nothing to measure: give --model, --baselines or both.")
    out = Path(settings.out)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)

    results: dict[str, dict] = {}
    bits: dict[str, float | None] = {}
    figure = FigureMaker()
    with counted_progress(console, "windows,") as progress:
        task = progress.add_task("reading", total=None)
        for number, source in enumerate(sources, start=1):
            clip = load_clip(
                source,
                max_frames=settings.frames,
                downscale=settings.downscale,
                min_frames=2 * num_inputs - 1,
            )
            if damage:
                clip = clip.compressed(*damage)
                bits[clip.name] = clip.bits
            # Windows of clips not read yet are guessed to be as many as this one's.
            windows = len(evaluation_windows(len(clip.truth), num_inputs))
            done = progress.tasks[task].completed
            left = windows * (len(sources) - number + 1)
            progress.update(task, description=clip.name, total=done + left)
            figure.begin(clip, num_inputs)

            def observe(name, window, prediction, clip=clip):
                figure.observe(clip.name, name, window, prediction)

            results[clip.name] = score_clip(
                clip,
                methods,
                num_inputs,
                observe=observe,
                after_window=lambda: progress.advance(task),
            )
    console.print(make_table(results))
    for name, rate in bits.items():
        console.print(
            f"{name}: {settings.compress} took {rate:.3f} bits per small pixel"
        )
    document = results_document(results, {**asdict(settings), "num_inputs": num_inputs})
    if bits:
        document["bits_per_pixel"] = bits
    with writing(out):
        write_json(out / "results.json", document)
        write_whole(out / "figure.png", figure.png())
    console.print(f"Wrote {out / 'results.json'} and {out / 'figure.png'}")
    return results


def _chosen(names, registry: dict[str, Method], kind: str) -> dict[str, Method]:
    unknown = [name for name in names if name not in registry]
    if unknown:
        raise TrainingError(
            f"Unknown {kind} {unknown[0]!r}; choose from {', '.join(registry)}."
        )
    return {name: registry[name] for name in names}


_MODEL = flags.DEFINE_string(
    "model", None, "Preset name, preset folder or .keras file; none: baselines alone."
)
_CLIPS = flags.DEFINE_string(
    "clips", None, "Folder whose sub-folders of images and video files are the clips."
)
_OUT = flags.DEFINE_string(
    "out", "runs/evaluate", "Folder for results.json and figure.png."
)
_FRAMES = flags.DEFINE_integer(
    "frames", None, "Number of frames to use from the beginning of each clip."
)
_DOWNSCALE = flags.DEFINE_enum(
    "downscale",
    "1",
    DOWNSCALES,
    "Area-shrink clips by this before they serve as truth; auto: by 2 for video files "
    "of 480 lines and more.",
)
_EVEN_SHARPNESS = flags.DEFINE_bool(
    "even_sharpness",
    False,
    "Measure the model a second time, with its new frames sharpened to match the given "
    "ones.",
)
_COMPRESS = flags.DEFINE_string(
    "compress",
    None,
    "Codec and quality that the small frames go through before any method sees them, "
    "such as h264:32, h265:32, mpeg2:8 or vp9:44.",
)
_DEBLOCK = flags.DEFINE_bool(
    "deblock",
    False,
    "Measure the model a second time, behind FFmpeg's deblocking filter.",
)
_PEERS = flags.DEFINE_list(
    "peers", [], f"Networks of others to measure, if installed: {', '.join(PEERS)}."
)
_BASELINES = flags.DEFINE_list(
    "baselines", list(BASELINES), "Baselines to measure beside the model."
)


def _main(arguments: list[str]) -> int:
    if arguments:
        raise TrainingError(
            f"Unexpected argument '{arguments[0]}'; expected flags only."
        )
    if not _CLIPS.value:
        raise TrainingError("Expected --clips FOLDER: the clips to measure.")
    if _FRAMES.value is not None and _FRAMES.value < 1:
        raise TrainingError(f"--frames must be positive; received {_FRAMES.value}.")
    evaluate(
        Settings(
            clips=_CLIPS.value,
            out=_OUT.value,
            model=_MODEL.value,
            baselines=tuple(_BASELINES.value),
            peers=tuple(_PEERS.value),
            frames=_FRAMES.value,
            downscale=_DOWNSCALE.value,
            even_sharpness=_EVEN_SHARPNESS.value,
            compress=_COMPRESS.value,
            deblock=_DEBLOCK.value,
        )
    )
    return 0


def main(argv: list[str]) -> int:
    """The program: 0 on success; 1 and one line on standard error otherwise."""
    return run_program("evaluate", lambda: _main(argv[1:]))


if __name__ == "__main__":
    sys.exit(app.run(main))

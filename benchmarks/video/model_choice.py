"""From which damage on `megan_edge_real` makes the better picture than `megan_edge`.

    python -m benchmarks.video.model_choice CLIPS --frames 13 --output choice.json

The small version of each clip is written to a file by every codec of
`training.data.codecs`, at several qualities. Each file is measured as `megan upscale`
measures its input (`keras_megan.video.request.footage`), read, and enlarged by both
presets. A row shows the three measures and luma PSNR of both, means over the clips. The
limit of a measure lies where the difference changes its sign.
"""

import argparse
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from keras_megan.files import write_json
from keras_megan.imaging.find import find_clips
from keras_megan.video.io.reading.read import open_clip
from keras_megan.video.models.engines import DAMAGED_MODEL, DEFAULT_MODEL
from keras_megan.video.request.footage import look_at
from training.data.codecs import CODECS, RATE, Codec
from training.evaluation.clips import Clip, degrade, load_clip
from training.evaluation.network_method import load_model
from training.evaluation.scoring import Summary, score_clip

MODELS = (DEFAULT_MODEL, DAMAGED_MODEL)


def write_film(path: Path, frames: np.ndarray, codec: Codec, quality: int) -> None:
    """Writes frames, uint8 RGB (N, H, W, 3), as a video file."""
    with av.open(str(path), "w") as container:
        options = codec.options(quality)
        stream = container.add_stream(codec.encoder, rate=RATE, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, RATE)
        for image in frames:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def measure(clip: Clip, codec: Codec, quality: int, models: dict) -> dict:
    """One clip at one quality: the measures of its file, and PSNR of all frames."""
    height, width = (side // 8 * 8 for side in clip.truth.shape[1:3])
    truth = clip.truth[:, :height, :width]  # even sides of the small frames
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mkv"
        write_film(path, degrade(truth), codec, quality)
        opened = open_clip(path)
        seen = look_at(opened.info)
        frames = np.stack([frame.image for frame in opened.frames()])
    scores = score_clip(Clip(clip.name, truth, damaged=frames), models)
    return {
        "quantiser": seen.quantiser,
        "bits": seen.bits,
        "blockiness": seen.blockiness,
        **{name: Summary.of_frames(s).psnr["all"] for name, s in scores.items()},
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("clips", type=Path, help="folder of clips")
    parser.add_argument("--frames", type=int, default=13, help="frames of each clip")
    parser.add_argument("--qualities", type=int, default=6, help="tried of each codec")
    parser.add_argument("--output", type=Path, help="a JSON file for all rows")
    parsed = parser.parse_args(arguments)
    models = {name: load_model(name) for name in MODELS}
    clips = [
        load_clip(source, max_frames=parsed.frames)
        for source in find_clips(parsed.clips)
    ]
    rows = []
    print(
        f"{'codec':6} quality quantiser  bits blocky  " + "  ".join(MODELS) + "  gain"
    )
    for name, codec in CODECS.items():
        for quality in np.linspace(codec.best, codec.worst, parsed.qualities):
            found = [measure(clip, codec, round(quality), models) for clip in clips]
            told = [f["quantiser"] for f in found]
            mean = {
                key: float(np.mean([f[key] for f in found]))
                for key in ("bits", "blockiness", *MODELS)
            }
            mean["quantiser"] = None if None in told else float(np.mean(told))
            rows.append({"codec": name, "quality": round(quality), **mean})
            quantiser = "-" if None in told else f"{mean['quantiser']:.1f}"
            first, second = (mean[model] for model in MODELS)
            print(
                f"{name:6} {round(quality):7d} {quantiser:>9} {mean['bits']:.3f} "
                f"{mean['blockiness']:6.3f}  {first:10.2f}  {second:15.2f}  "
                f"{second - first:+.2f}",
                flush=True,
            )
    if parsed.output:
        write_json(parsed.output, {"rows": rows})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

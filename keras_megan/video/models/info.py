"""What `megan info` says of a model or a video.

A model: parameters, multiply-adds for one window, shapes. A video: size, frames, rate,
duration, scene cuts, sound. As aligned lines for people or as one JSON object.
"""

import json
import re
from pathlib import Path

from keras_megan.imaging.find import VIDEO_SUFFIXES
from keras_megan.video.errors import VideoError, reading
from keras_megan.video.io.reading.read import open_clip
from keras_megan.video.progress import clock
from keras_megan.video.scene_cuts import SceneCutDetector

_MODEL_SUFFIXES = {".keras", ".tflite"}


def describe_subject(subject: str, size: str, as_json: bool) -> None:
    """Prints the facts of a model or a video.

    Args:
        subject: A video file, folder of images, preset name, preset folder, `.keras`
            or `.tflite` file.
        size: "WxH" of the input for which a model's work is counted.
        as_json: Whether to print one JSON object.

    Raises:
        VideoError: If it is none of these.
    """
    path = Path(subject)
    with reading(path):
        is_file, has_images = path.is_file(), _has_images(path)
    if path.suffix.lower() in VIDEO_SUFFIXES and not (is_file or has_images):
        raise VideoError(f"Cannot read '{path}': no such file or folder.")
    is_model = path.suffix.lower() in _MODEL_SUFFIXES or not (is_file or has_images)
    facts = model_facts(subject, size) if is_model else video_facts(path)
    if as_json:
        print(json.dumps(facts))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        print(f"{name:<{width}}  {'none' if shown == '' else shown}")


def _has_images(path: Path) -> bool:
    # A preset folder holds a config; anything else that is a folder holds images.
    return path.is_dir() and not (path / "config.json").exists()


def video_facts(path: Path) -> dict:
    """Facts of a clip; decodes it once to find the scene cuts."""
    clip = open_clip(path)
    info = clip.info
    detector, cuts, durations, frames = SceneCutDetector(), [], set(), 0
    for frame in clip.frames():
        frames += 1
        durations.add(frame.duration)
        if detector.is_cut(frame.image):
            cuts.append(round(float(frame.time - info.start), 3))
    spread = max(durations) - min(durations)
    facts = {
        "video": str(path),
        "size": f"{info.width}x{info.height}",
        "frames": frames,
        "frames per second": round(float(info.rate), 3),
        "variable rate": "yes" if spread > 2 * info.time_base else "no",
        "duration": f"{float(info.duration):.3f} s ({clock(float(info.duration))})",
        "codec": f"{info.codec}, {info.pixel_format}",
        "scene cuts at": [f"{cut:.3f} s" for cut in cuts],
        "sound": list(info.audio),
        "subtitles": list(info.subtitles),
        "upscaled": f"{2 * frames - 1} frames of {4 * info.width}x{4 * info.height}",
    }
    if info.rotation:
        facts["rotated by"] = f"{info.rotation} degrees"
    if info.notes:
        facts["note"] = list(info.notes)
    return facts


def model_facts(name: str, size: str) -> dict:
    """Facts of a model, with its work for one window of the given size."""
    from keras_megan.video.models.runner import load_runner

    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", size)
    if match is None:
        raise VideoError(f"--size must look like 112x64. Received: '{size}'")
    width, height = int(match[1]), int(match[2])
    runner = load_runner(name)
    if hasattr(runner, "facts"):  # it knows more, and runs at one size only
        return runner.facts()
    model = getattr(runner, "model", None)
    facts = {
        "model": runner.name,
        "frames": f"{runner.frames_in} in, {runner.frames_out} out",
        "scale": runner.scale,
        "input": f"(batch, {runner.frames_in}, {height}, {width}, 3)",
        "output": f"(batch, {runner.frames_out}, {height * runner.scale}, "
        f"{width * runner.scale}, 3)",
    }
    if model is None:
        return facts
    facts["parameters"] = f"{model.count_params():,}"
    from keras_megan import net2net

    shape = (runner.frames_in, height, width, 3)
    if hasattr(net2net, "count_macs"):
        macs = net2net.count_macs(model, shape)
        facts["multiply-adds"] = f"{macs / 1e9:,.2f} G for one window of {size}"
    return facts

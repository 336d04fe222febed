"""Which encoder makes which kind of file, with options chosen once.

A registry: the name after `--codec` -> encoder, pixel format, quality and the file
types that hold it. The first entry that fits a file's ending is its default; for a
source of more than 8 bits, the first that keeps them.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

import av

from keras_megan.video.errors import VideoError
from keras_megan.video.io.hdr import Mastering

os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 else describes itself at length

_MASTERING = {
    "x265-params": Mastering.x265_params,
    "svtav1-params": Mastering.svtav1_params,
}


@dataclass(frozen=True)
class Codec:
    """How to encode.

    Attributes:
        name: As after `--codec`.
        encoder: FFmpeg's name of the encoder.
        pixel_format: What it is fed with.
        deep_format: What it is fed with if the source has more than 8 bits; empty if it
            writes 8 bits only.
        suffixes: File endings whose containers hold it.
        crf: Default quality (lower is better and larger); `None` if it has no such
            setting.
        crf_range: Smallest and largest value.
        options: Further options of the encoder.
        quality: What the encoder calls its quality setting.
        preset, presets: What the encoder calls its setting of speed against size, and
            the values it takes; none if it has no such setting.
        mastering: The option that takes mastering data; empty if none does.
    """

    name: str
    encoder: str
    pixel_format: str
    suffixes: tuple[str, ...]
    crf: int | None = None
    crf_range: tuple[int, int] = (0, 51)
    options: dict[str, str] = field(default_factory=dict)
    quality: str = "crf"
    preset: str = "preset"
    presets: tuple[str, ...] = ()
    deep_format: str = ""
    mastering: str = ""

    def encoder_options(
        self, crf: int | None, mastering: Mastering | None = None
    ) -> dict[str, str]:
        """Options for FFmpeg with this quality (`None`: the default)."""
        options = dict(self.options)
        if self.crf is not None:
            options[self.quality] = str(self.crf if crf is None else crf)
        if self.mastering and mastering is not None:
            given = [options[self.mastering]] if self.mastering in options else []
            parts = _MASTERING[self.mastering](mastering)
            options[self.mastering] = ":".join([*given, *parts])
        return options


_X264_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow"),
)
_MP4 = (".mp4", ".m4v", ".mov", ".mkv")
CODECS = {
    codec.name: codec
    for codec in (
        Codec(
            "h264",
            "libx264",
            "yuv420p",
            _MP4,
            16,
            (0, 51),
            # Macroblock trees give other bits in every run on processors with AVX-512;
            # without them a continued job equals one that ran through, byte for byte.
            {"preset": "fast", "x264-params": "mbtree=0:sliced-threads=0"},
            presets=_X264_PRESETS,
        ),
        Codec(
            "h265",
            "libx265",
            "yuv420p",
            (".mp4", ".mov", ".mkv"),
            20,
            (0, 51),
            {"preset": "fast", "x265-params": "log-level=none"},
            presets=_X264_PRESETS,
            deep_format="yuv420p10le",
            mastering="x265-params",
        ),
        Codec(
            "vp9",
            "libvpx-vp9",
            "yuv420p",
            (".webm", ".mkv", ".mp4"),
            24,
            (0, 63),
            {"b:v": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"},
            preset="cpu-used",
            presets=tuple(map(str, range(9))),
        ),
        Codec(
            "av1",
            "libsvtav1",
            "yuv420p10le",
            (".mp4", ".mkv", ".webm"),
            24,
            (0, 63),
            {"preset": "8"},
            presets=tuple(map(str, range(14))),
            deep_format="yuv420p10le",
            mastering="svtav1-params",
        ),
        Codec(
            "ffv1",
            "ffv1",
            "bgr0",
            (".mkv",),
            None,
            (0, 0),
            {"level": "3"},
            deep_format="gbrp16le",
        ),
        Codec(
            "prores",
            "prores_ks",
            "yuv422p10le",
            (".mov", ".mkv"),
            deep_format="yuv422p10le",
        ),
    )
}
SUFFIXES = tuple(dict.fromkeys(s for codec in CODECS.values() for s in codec.suffixes))


def choose_codec(
    output: Path, name: str | None, crf: int | None, depth: int = 8
) -> Codec | None:
    """The codec for an output; `None` for a folder of images.

    Args:
        output: Where the result goes. Without an ending it is a folder.
        name: A key of `CODECS`, or `None` for the usual one of the ending.
        crf: Quality, or `None`.
        depth: Bits of a colour value in the source.

    Raises:
        VideoError: If the three do not go together.
    """
    suffix = output.suffix.lower()
    if suffix == "" or output.is_dir():
        if name is not None or crf is not None:
            raise VideoError(
                f"'{output}' is a folder and gets PNG images: --codec and --crf are "
                f"for files ({', '.join(SUFFIXES)})."
            )
        return None
    if name is not None and name not in CODECS:
        raise VideoError(f"Unknown codec '{name}'. Known: {', '.join(CODECS)}.")
    fitting = [c for c in CODECS.values() if suffix in c.suffixes]
    if not fitting:
        raise VideoError(
            f"Cannot write '{output}': unknown ending '{suffix}'. Use one of "
            f"{', '.join(SUFFIXES)}, or a name without an ending for a folder of PNG "
            "images."
        )
    usual = [c for c in fitting if depth <= 8 or c.deep_format] or fitting
    codec = CODECS[name] if name is not None else usual[0]
    if codec not in fitting:
        raise VideoError(
            f"A {suffix} file cannot hold {codec.name}. Endings for it: "
            f"{', '.join(codec.suffixes)}."
        )
    if crf is not None:
        low, high = codec.crf_range
        if codec.crf is None or not low <= crf <= high:
            allowed = f"{low} to {high}" if codec.crf is not None else "no --crf"
            raise VideoError(f"The codec {codec.name} takes {allowed}. Received: {crf}")
    if codec.encoder not in av.codecs_available:
        raise VideoError(
            f"This build of FFmpeg has no encoder {codec.encoder}; choose another "
            "--codec."
        )
    return codec

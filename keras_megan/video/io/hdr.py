"""Mastering data of HDR clips: for which screen, and how bright, it was made.

In: a decoded frame. Out: a `Mastering`, and from it the options by which the encoders
write the same data into their streams. FFmpeg hands the data out as C structures, which
are taken apart here:

    AVMasteringDisplayMetadata   twelve fractions of two int32 (three primaries, white
                                 point, darkest, brightest), then two int32 flags
    AVContentLightMetadata       two uint32: brightest pixel, brightest average

Sources: SMPTE ST 2086 (the screen) and CTA-861.3 (the light levels).
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type

_SCREEN_BYTES = 88
_CHROMA, _LUMA = 50_000, 10_000  # parts of a unit, as H.265 counts


@dataclass(frozen=True)
class Mastering:
    """What a clip was made for.

    Attributes:
        primaries: x and y of red, green, blue and white, as CIE 1931 coordinates;
            empty if the clip does not say.
        luminance: Darkest and brightest of the screen in candela per square metre;
            empty if the clip does not say.
        light: Brightest pixel and brightest frame average of the clip in candela per
            square metre; empty if the clip does not say.
    """

    primaries: tuple[Fraction, ...] = ()
    luminance: tuple[Fraction, ...] = ()
    light: tuple[int, ...] = ()

    def x265_params(self) -> list[str]:
        """Parts of x265's `x265-params`."""
        parts = []
        if self.primaries and self.luminance:
            xy = [round(value * _CHROMA) for value in self.primaries]
            low, high = (round(value * _LUMA) for value in self.luminance)
            red, green, blue, white = (f"({xy[i]},{xy[i + 1]})" for i in (0, 2, 4, 6))
            screen = f"G{green}B{blue}R{red}WP{white}L({high},{low})"
            parts.append(f"master-display={screen}")
        if self.light:
            parts.append(f"max-cll={self.light[0]},{self.light[1]}")
        return parts

    def svtav1_params(self) -> list[str]:
        """Parts of SVT-AV1's `svtav1-params`."""
        parts = []
        if self.primaries and self.luminance:
            xy = [f"{float(value):.5f}" for value in self.primaries]
            low, high = (f"{float(value):.4f}" for value in self.luminance)
            red, green, blue, white = (f"({xy[i]},{xy[i + 1]})" for i in (0, 2, 4, 6))
            screen = f"G{green}B{blue}R{red}WP{white}L({high},{low})"
            parts.append(f"mastering-display={screen}")
        if self.light:
            parts.append(f"content-light={self.light[0]},{self.light[1]}")
        return parts


def read_mastering(frame: av.VideoFrame) -> Mastering | None:
    """The mastering data of a frame, `None` if it has none."""
    side_data: Any = frame.side_data  # its keys are typed as names
    held = {item.type: bytes(item) for item in side_data.keys()}
    primaries: tuple[Fraction, ...] = ()
    luminance: tuple[Fraction, ...] = ()
    light: tuple[int, ...] = ()
    screen = held.get(Type.MASTERING_DISPLAY_METADATA, b"")
    if len(screen) >= _SCREEN_BYTES:
        numbers = np.frombuffer(screen[:_SCREEN_BYTES], np.int32).tolist()
        pairs = [numbers[i : i + 2] for i in range(0, 20, 2)]
        if all(below > 0 for _, below in pairs):
            values = tuple(Fraction(above, below) for above, below in pairs)
            primaries = values[:8] if numbers[20] else ()
            luminance = values[8:] if numbers[21] else ()
    level = held.get(Type.CONTENT_LIGHT_LEVEL, b"")
    if len(level) >= 8:
        light = tuple(np.frombuffer(level[:8], np.uint32).tolist())
    found = Mastering(primaries, luminance, light)
    return found if found != Mastering() else None

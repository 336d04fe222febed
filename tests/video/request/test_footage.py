"""What shows that compression has damaged a clip, and which model is taken then."""

from fractions import Fraction

import cv2
import numpy as np
import pytest

from keras_megan.video.io.reading.read import open_clip
from keras_megan.video.models.engines import (
    AUTO,
    DAMAGED_MODEL,
    DEFAULT_MODEL,
    ModelChoice,
    Needs,
)
from keras_megan.video.request import footage
from keras_megan.video.request.footage import Footage, blockiness, look_at
from tests.video.clips import write_clip


def textured(index, height=96, width=128):
    noise = np.random.default_rng(0).random((height // 4 + 8, width // 4 + 8))
    wide = cv2.resize(noise, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    grey = (wide[:height, index : index + width].clip(0, 1) * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, 2)


IMAGES = [textured(index) for index in range(20)]


@pytest.mark.parametrize(
    ("codec", "suffix", "fine", "coarse"),
    [
        ("libx264", ".mp4", {"crf": "14"}, {"crf": "36"}),
        (
            "mpeg2video",
            ".mpg",
            {"qmin": "2", "qmax": "2"},
            {"qmin": "24", "qmax": "24"},
        ),
        ("libvpx-vp9", ".webm", {"crf": "8", "b": "0"}, {"crf": "58", "b": "0"}),
    ],
)
def test_decoders_tell_how_coarsely_a_clip_was_stored(
    tmp_path, codec, suffix, fine, coarse
):
    measured = []
    for name, options in (("fine", fine), ("coarse", coarse)):
        path = write_clip(
            tmp_path / f"{name}{suffix}",
            IMAGES,
            codec=codec,
            options=options,
            time_base=Fraction(1, 25),
        )
        measured.append(look_at(open_clip(path).info))
    good, bad = measured
    assert good.quantiser < footage.QUANTISER_LIMITS[good.codec] < bad.quantiser
    assert good.bits > bad.bits
    assert not good.damage
    assert bad.damage.startswith(f"{bad.codec} with a quantiser of ")


def test_bits_count_where_no_quantiser_is_told():
    def damage(codec, quantiser, bits, pixels=27_000):
        return Footage(codec, quantiser, bits, pixels, 1.0).damage

    assert damage("hevc", None, 0.05) == "hevc with 0.05 bits per pixel"
    assert not damage("hevc", None, 1.0)
    assert not damage("prores", None, 0.05)
    # A quantiser is believed rather than a size: dark scenes take few bits.
    assert not damage("h264", 18.0, 0.001)
    # The larger the picture, the fewer bits each of its pixels takes.
    assert damage("hevc", None, 0.2) and not damage("hevc", None, 0.2, 1920 * 1080)


def test_bits_per_pixel_are_those_of_the_packets(tmp_path):
    import av

    path = write_clip(tmp_path / "clip.mkv", IMAGES, sound=0.8)
    with av.open(str(path)) as container:
        size = sum(packet.size for packet in container.demux(video=0))
    expected = 8 * size / (20 * 96 * 128)
    assert open_clip(path).info.bits_per_pixel == pytest.approx(expected)


def test_blocks_are_seen_in_jpeg_images(tmp_path):
    for quality in (8, 95):
        folder = tmp_path / str(quality)
        folder.mkdir()
        for index, image in enumerate(IMAGES[:3]):
            options = [cv2.IMWRITE_JPEG_QUALITY, quality]
            cv2.imwrite(str(folder / f"{index}.jpg"), image, options)
    bad, good = (look_at(open_clip(tmp_path / name).info) for name in ("8", "95"))
    assert bad.blockiness > footage.BLOCKINESS_LIMIT > good.blockiness
    assert "edges between blocks" in bad.damage and not good.damage


def test_blockiness_of_known_pictures():
    flat = np.full((32, 32), 7, np.uint8)
    assert blockiness([flat]) == 1.0
    ramp = np.arange(32, dtype=np.uint8)[None] + np.arange(32, dtype=np.uint8)[:, None]
    assert blockiness([ramp]) == 1.0
    stepped = ramp + 2 * (np.arange(32, dtype=np.uint8) // 8)
    # Along rows 3 at edges and 1 elsewhere, along columns 1 everywhere.
    assert blockiness([stepped]) == pytest.approx((3 + 1) / (1 + 1))


def test_auto_takes_the_model_for_the_footage_and_says_why():
    damaged = Needs(damage="h264 with a quantiser of 34")
    clean, taken = ModelChoice().find(), ModelChoice(AUTO).find(damaged)
    assert (clean.name, clean.why) == (DEFAULT_MODEL, "")
    assert taken.name == DAMAGED_MODEL
    assert "h264 with a quantiser of 34" in taken.why and "Give --model" in taken.why
    asked = ModelChoice(DEFAULT_MODEL).find(damaged)
    assert (asked.name, asked.why) == (DEFAULT_MODEL, "")

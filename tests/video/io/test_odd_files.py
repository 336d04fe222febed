"""Files that are odd but good are read as a player shows them."""

from fractions import Fraction

import av
import numpy as np
import pytest

from keras_megan.video.io.reading.read import open_clip
from keras_megan.video.upscale import upscale
from tests.video.clips import PlainRunner, picture, read_images, write_clip
from tests.video.io.test_damaged_files import decoded


def test_pictures_that_an_avi_repeats_by_empty_packets_are_accepted(tmp_path):
    images = [picture(i) for i in range(20)]
    plain = write_clip(
        tmp_path / "plain.avi",
        images,
        codec="mpeg4",
        options={"b": "4000000"},
        time_base=Fraction(1, 25),
    )
    path = tmp_path / "repeats.avi"
    with av.open(str(plain)) as source, av.open(str(path), "w") as made:
        stream = made.add_stream_from_template(source.streams.video[0], opaque=True)
        for number, packet in enumerate(source.demux(video=0)):
            if packet.size and number % 5 == 3:
                empty = av.Packet(b"")
                empty.pts, empty.dts = packet.pts, packet.dts
                empty.time_base, packet = packet.time_base, empty
            elif not packet.size:
                continue
            packet.stream = stream
            made.mux(packet)
    clip = open_clip(path)
    assert clip.info.num_frames == 16
    assert float(clip.info.duration) == pytest.approx(0.8, abs=0.05)
    frames = list(clip.frames())
    assert len(frames) == 16 and clip.doubts == []
    assert sum(f.duration for f in frames) == clip.info.duration


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_a_piece_of_a_longer_clip_that_keeps_its_times_is_accepted(tmp_path, suffix):
    codec = {".mkv": "libx264", ".webm": "libvpx-vp9"}[suffix]
    times = [128_000 + 512 * i for i in range(20)]  # from 10 seconds on
    path = write_clip(
        tmp_path / f"piece{suffix}",
        [picture(i) for i in range(20)],
        times=times,
        codec=codec,
    )
    clip = open_clip(path)
    assert float(clip.info.start) == pytest.approx(10, abs=0.1)
    assert len(list(clip.frames())) == 20 and not clip.info.doubts
    upscale(path, tmp_path / "out.mp4", PlainRunner())
    assert len(read_images(tmp_path / "out.mp4")) == 39


@pytest.mark.parametrize("name, codec", [("a.flv", "libx264"), ("a.h264", "libx264")])
def test_formats_that_cannot_be_wound_back_are_read(tmp_path, name, codec):
    path = write_clip(tmp_path / name, [picture(i) for i in range(12)], codec=codec)
    assert decoded(path) == 12


def test_interlaced_frames_are_made_whole_pictures(tmp_path):
    # A white bar that moves 3 pixels from field to field.
    images = []
    for index in range(8):
        image = np.full((48, 64, 3), 30, np.uint8)
        for field in range(2):
            left = 2 + 6 * index + 3 * field
            image[field::2, left : left + 12] = 220
        images.append(image)
    path = write_clip(
        tmp_path / "fields.mp4", images, options={"crf": "4", "x264-params": "tff=1"}
    )

    def combs(clip):
        """How much lines differ from both neighbours, over all frames but the ends."""
        found = [np.int16(frame.image) for frame in clip.frames()]
        assert len(found) == 8
        return np.mean(
            [np.abs(2 * f[1:-1] - f[:-2] - f[2:]).mean() for f in found[1:-1]]
        )

    auto = open_clip(path)
    assert auto.info.interlaced and auto.deinterlaces
    times = [frame.time for frame in auto.frames()]
    assert times == [Fraction(i, 25) for i in range(8)]
    assert combs(auto) < combs(open_clip(path, deinterlace="off")) / 2
    progressive = write_clip(tmp_path / "whole.mp4", [picture(i) for i in range(4)])
    assert not open_clip(progressive).deinterlaces
    assert len(list(open_clip(progressive, deinterlace="on").frames())) == 4


def test_a_rotated_clip_is_read_upright(tmp_path):
    images = [np.zeros((24, 32, 3), np.uint8) for _ in range(3)]
    for image in images:
        image[:, :16] = 255  # the left half is white
    upright = open_clip(write_clip(tmp_path / "plain.mp4", images))
    first = next(upright.frames()).image
    assert first[:, :12].mean() > 230 and first[:, 20:].mean() < 25

    turned = write_clip(
        tmp_path / "turned.mp4",
        images,
        prepare=lambda container, stream: stream.set_display_rotation(90),
    )
    clip = open_clip(turned)
    assert (clip.info.width, clip.info.height) == (24, 32)
    image = next(clip.frames()).image
    assert image.shape == (32, 24, 3)
    # 90 degrees counter-clockwise: what was left is now at the bottom.
    assert image[20:].mean() > 230 and image[:12].mean() < 25


@pytest.mark.parametrize(
    "height, width, codec, pixel_format",
    [
        (23, 31, "ffv1", "yuv444p"),
        (24, 32, "libx265", "yuv420p10le"),
        (24, 32, "libx264", "yuv422p"),
        (24, 32, "ffv1", "gray"),
        (25, 33, "ffv1", "bgra"),
        (24, 32, "ffv1", "gbrp10le"),
    ],
)
def test_odd_sizes_depths_and_layouts_are_read_in_true_colour(
    tmp_path, height, width, codec, pixel_format
):
    gray = np.uint8(picture(0, height, width)[..., :1].repeat(3, -1))
    options = {"crf": "1", "x265-params": "log-level=none"} if "26" in codec else {}
    path = write_clip(
        tmp_path / "clip.mkv",
        [gray] * 3,
        codec=codec,
        pixel_format=pixel_format,
        options=options,
    )
    frames = list(open_clip(path).frames())
    assert len(frames) == 3 and frames[0].image.dtype == np.uint8
    assert np.abs(np.int16(frames[0].image) - gray).max() <= 4


def test_full_range_is_not_mistaken_for_limited(tmp_path):
    def full(container, stream):
        stream.codec_context.color_range = 2

    image = np.full((24, 32, 3), 250, np.uint8)
    path = write_clip(
        tmp_path / "full.mp4", [image] * 3, pixel_format="yuvj420p", prepare=full
    )
    assert np.abs(next(open_clip(path).frames()).image - 250.0).max() <= 2

"""More than 8 bits all the way, HDR data kept; pictures that repeat cost nothing."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from keras_megan.video.io.hdr import Mastering, read_mastering
from keras_megan.video.io.reading.read import open_clip
from keras_megan.video.jobs.schedule import Plan
from keras_megan.video.tiles import TiledRunner, to_pixels
from keras_megan.video.upscale import UpscaleOptions, upscale
from tests.video.clips import PlainRunner, picture, read_images, read_times, write_clip


class Deep(PlainRunner):
    """As `PlainRunner`, for frames of more than 8 bits as well."""

    def __call__(self, frames):
        if frames.dtype == np.uint8:
            return super().__call__(frames)
        assert frames.dtype == np.float32 and frames.max() <= 1
        return super().__call__(frames * np.float32(255))


SCREEN = Mastering(
    tuple(Fraction(n, 50_000) for n in (34000, 16000, 13250, 34500, 7500, 3000))
    + (Fraction(15635, 50_000), Fraction(16450, 50_000)),
    (Fraction(1, 200), Fraction(1000)),
    (1000, 400),
)


def ramp(index):
    """A ramp far finer than 8 bits can show, uint16 RGB, 32x24."""
    line = np.linspace(20_000, 24_000, 32)
    return (np.tile(line[None, :, None], (24, 1, 3)) + 300 * index).astype(np.uint16)


@pytest.fixture
def hdr(tmp_path):
    """Six 10-bit frames in PQ with mastering data."""
    path = tmp_path / "hdr.mkv"
    params = ":".join(["log-level=none", *SCREEN.x265_params()])
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx265", rate=25, options={"crf": "1", "x265-params": params}
        )
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p10le"
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace = 9, 16, 9
        for index in range(6):
            frame = av.VideoFrame.from_ndarray(ramp(index), format="rgb48le")
            frame = frame.reformat(format="yuv420p10le", dst_colorspace=9)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def first_frame(path):
    with av.open(str(path)) as container:
        return next(container.decode(video=0))


@pytest.mark.parametrize("name, codec", [("out.mp4", None), ("out.webm", None)])
def test_ten_bits_and_mastering_data_come_out_again(tmp_path, hdr, name, codec):
    assert read_mastering(first_frame(hdr)) == SCREEN
    output = tmp_path / name
    summary = upscale(hdr, output, Deep(), UpscaleOptions(codec=codec))
    assert summary.notes == []
    frame = first_frame(output)
    assert frame.format.name == "yuv420p10le"
    assert (frame.color_primaries, frame.color_trc, frame.colorspace) == (9, 16, 9)
    found = read_mastering(frame)
    assert found.light == SCREEN.light
    for got, given in zip(found.primaries, SCREEN.primaries, strict=True):
        assert float(got) == pytest.approx(float(given), abs=1e-3)
    # The ramp has more steps than 8 bits could give it.
    clip = open_clip(output, deep=True)
    image = next(clip.frames()).image
    assert image.dtype == np.uint16
    steps = len(np.unique(image[48, :, 1] // 64))
    assert steps > 1.5 * (24_000 - 20_000) / 257


def test_images_of_sixteen_bits_stay_exact(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(5):
        assert cv2.imwrite(str(folder / f"{index}.png"), ramp(index)[..., ::-1])
    upscale(folder, tmp_path / "out", Deep())
    for index in range(5):
        made = cv2.imread(
            str(tmp_path / "out" / f"frame_{2 * index:06d}.png"), cv2.IMREAD_UNCHANGED
        )
        assert made.dtype == np.uint16
        difference = made[::4, ::4, ::-1].astype(int) - ramp(index)
        assert np.abs(difference).max() <= 1


def test_eight_bits_are_said_to_be_eight(tmp_path, hdr):
    output = tmp_path / "out.mp4"
    summary = upscale(hdr, output, Deep(), UpscaleOptions(codec="h264"))
    assert first_frame(output).format.name == "yuv420p"
    text = " ".join(summary.notes)
    assert "10-bit PQ pictures are written with 8 bits" in text
    assert "mastering data are left out" in text


def test_tiles_of_deep_frames_are_seamless():
    frames = np.stack([np.tile(ramp(i), (5, 5, 1)) for i in range(4)])
    whole = TiledRunner(Deep(), *frames.shape[1:3], tile=0)(frames)
    tiled = TiledRunner(Deep(), *frames.shape[1:3], tile=60)
    assert tiled.num_tiles > 1
    difference = np.abs(tiled(frames).astype(int) - whole)
    assert whole.dtype == np.uint16 and difference.max() <= 1


def test_rounding_to_sixteen_bits():
    values = np.float32([-1, 0, 0.5, 1, 2])
    assert to_pixels(values, np.uint16).tolist() == [0, 0, 32768, 65535, 65535]
    assert to_pixels(np.uint8([0, 255]), np.uint16).tolist() == [0, 65535]


# === Pictures that repeat ===


def tasks_of(folder, size=4):
    plan = Plan(open_clip(folder).frames(), None, size)
    return plan, list(plan.tasks())


def write_sequence(folder, order):
    """Images without loss, in this order of pictures."""
    folder.mkdir()
    for number, index in enumerate(order):
        image = picture(index)[..., ::-1]
        assert cv2.imwrite(str(folder / f"{number:03d}.png"), image)
    return folder


@pytest.mark.parametrize(
    "order",
    [
        [0] * 9,
        [0, 0, 1, 1, 2, 2, 3, 3, 4, 4],
        [0, 1, 2, 2, 2, 2, 2, 3, 4, 5, 6, 6],
        [0, 0, 0, 1],
        [0, 1, 0, 1, 0, 1],
    ],
)
def test_repeated_pictures_are_shown_at_their_times_and_never_computed(tmp_path, order):
    folder = write_sequence(tmp_path / "in", order)
    runner = PlainRunner()
    summary = upscale(folder, tmp_path / "out", runner)
    distinct = 1 + sum(a != b for a, b in zip(order, order[1:], strict=False))
    assert summary.repeats == len(order) - distinct
    # One call more tries the tile.
    assert runner.calls == 1 + max(1, -(-(distinct - 1) // 3))
    made = [frame.image for frame in open_clip(tmp_path / "out").frames()]
    assert len(made) == 2 * len(order) - 1
    for index, image in enumerate(made):
        a, b = picture(order[index // 2]), picture(order[(index + 1) // 2])
        expected = (a.astype(float) + b) / 2
        assert np.abs(image[::4, ::4] - expected).max() <= 1


def test_times_of_repeated_pictures_are_those_of_their_frames(tmp_path):
    images = [picture(index) for index in (0, 1, 1, 1, 2, 3)]
    ticks = [0, 512, 700, 2100, 2613, 4000]
    source = write_clip(
        tmp_path / "in.mkv",
        images,
        times=ticks,
        codec="ffv1",
        time_base=Fraction(1, 12800),
    )
    times = read_times(source)
    output = tmp_path / "out.mp4"
    summary = upscale(source, output, PlainRunner())
    assert summary.repeats == 2
    made = read_times(output)
    assert made[::2] == times
    assert made[1::2] == [(a + b) / 2 for a, b in zip(times, times[1:], strict=False)]
    assert len(read_images(output)) == 11


def test_a_long_still_holds_no_memory(tmp_path):
    folder = write_sequence(tmp_path / "in", [0] * 40 + [1, 2])
    plan, tasks = tasks_of(folder)
    assert plan.frames == 42 and plan.repeats == 39
    assert sum(len(task.shots) for task in tasks) == 83 and len(tasks) == 1

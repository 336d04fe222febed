"""Damaged and odd files: one clear line, never a silently short result."""

from fractions import Fraction

import av
import numpy as np
import pytest

from keras_megan.video.errors import VideoError
from keras_megan.video.io.read import open_clip
from keras_megan.video.upscale import upscale
from tests.video.clips import PlainRunner, picture, write_clip

COUNT = 60


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Whole files of each container, by name."""
    folder = tmp_path_factory.mktemp("whole")
    generator = np.random.default_rng(0)
    images = [
        np.uint8(picture(i, 48, 64) // 2 + generator.integers(0, 120, (48, 64, 3)))
        for i in range(COUNT)
    ]
    files = {
        name: write_clip(folder / name, images)
        for name in ("clip.mp4", "clip.mkv", "clip.ts", "clip.mov")
    }
    files["fast.mp4"] = write_clip(
        folder / "fast.mp4", images, container_options={"movflags": "+faststart"}
    )
    files["sound.mkv"] = write_clip(folder / "sound.mkv", images, sound=2.4)
    files["clip.avi"] = write_clip(
        folder / "clip.avi",
        images,
        codec="mpeg4",
        options={"b": "4000000"},
        time_base=Fraction(1, 25),  # this container counts frames
    )
    files["clip.webm"] = write_clip(
        folder / "clip.webm",
        images,
        codec="libvpx-vp9",
        options={"cpu-used": "8", "deadline": "realtime"},
    )
    return files


def decoded(path):
    return sum(1 for _ in open_clip(path).frames())


NAMES = ["clip.mp4", "clip.mkv", "clip.ts", "clip.mov", "fast.mp4", "sound.mkv"]
NAMES += ["clip.avi", "clip.webm"]


@pytest.mark.parametrize("name", NAMES)
def test_whole_files_are_read_whole(whole, name):
    clip = open_clip(whole[name])
    assert clip.info.num_frames == COUNT
    frames = list(clip.frames())
    assert len(frames) == COUNT
    spans = sum(frame.duration for frame in frames)
    assert float(spans) == pytest.approx(COUNT / 25, abs=0.005)


@pytest.mark.parametrize("share", [0.15, 0.5, 0.85])
@pytest.mark.parametrize("name", [n for n in NAMES if n != "clip.ts"])
def test_files_that_are_cut_short_are_refused(whole, name, share, tmp_path):
    data = whole[name].read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: int(len(data) * share)])
    output = tmp_path / "out.mp4"
    with pytest.raises(VideoError) as caught:
        upscale(path, output, PlainRunner())
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_transport_stream_cut_in_the_middle_of_a_picture_is_refused(whole, tmp_path):
    # This format declares no duration, but its last picture does not decode.
    data = whole["clip.ts"].read_bytes()
    packets = [data[start : start + 188] for start in range(0, len(data), 188)]
    # Where something begins; the encoder's threads make another file each time, so the
    # largest piece of the later half is looked for.
    begins = [n for n, packet in enumerate(packets) if packet[1] & 0x40]
    later = [n for n in begins if n >= len(packets) // 2]
    longest = max(range(len(later) - 1), key=lambda i: later[i + 1] - later[i])
    cut = (later[longest] + later[longest + 1]) // 2
    assert later[longest] < cut
    path = tmp_path / "clip.ts"
    path.write_bytes(b"".join(packets[: cut + 1]))
    with pytest.raises(VideoError, match="damaged"):
        decoded(path)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", [1, 2])
def test_flipped_bytes_give_every_frame_or_an_error(whole, name, seed, tmp_path):
    data = bytearray(whole[name].read_bytes())
    generator = np.random.default_rng(seed)
    for position in generator.integers(len(data) // 10, len(data), 100):
        data[position] ^= int(generator.integers(1, 256))
    path = tmp_path / name
    path.write_bytes(bytes(data))
    try:
        clip = open_clip(path)
        frames = list(clip.frames())
    except VideoError as error:
        assert str(path) in str(error)
        return
    assert len(frames) >= clip.info.num_frames - 2
    end = frames[-1].time + frames[-1].duration
    assert float(clip.info.end - end) <= 0.13


@pytest.mark.parametrize(
    "name, data, words",
    [
        ("empty.mp4", b"", "is empty"),
        ("junk.mp4", bytes(range(256)) * 40, "not a video"),
        ("text.mkv", b"this is a diary, not a film\n" * 50, "not a video"),
        ("zeros.mp4", bytes(10_000), "not a video"),
    ],
)
def test_files_that_are_no_video_are_refused(tmp_path, name, data, words):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(VideoError, match=words):
        open_clip(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(VideoError, match=r"missing\.mp4.*no such file"):
        open_clip(tmp_path / "missing.mp4")


def test_sound_without_pictures_is_refused(tmp_path):
    path = tmp_path / "sound.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate, frame.pts = 48_000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(VideoError, match=r"no video stream.*audio"):
        open_clip(path)


def test_a_damaged_image_in_a_folder_is_named(tmp_path):
    import cv2

    for index in range(3):
        cv2.imwrite(str(tmp_path / f"{index}.jpg"), picture(index, 64, 64))
    damaged = tmp_path / "1.jpg"
    damaged.write_bytes(damaged.read_bytes()[:-200])
    with pytest.raises(VideoError, match=r"1\.jpg.*damaged or cut short"):
        decoded(tmp_path)


def test_images_of_different_sizes_are_refused(tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "0.png"), picture(0, 24, 32))
    cv2.imwrite(str(tmp_path / "1.png"), picture(0, 24, 36))
    with pytest.raises(VideoError, match=r"1\.png.*36x24.*32x24"):
        decoded(tmp_path)


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(VideoError, match="holds no images"):
        open_clip(tmp_path)


# === Odd but good ===


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

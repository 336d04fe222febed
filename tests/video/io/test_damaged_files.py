"""Damaged files: one clear line, never a silently short result."""

from fractions import Fraction

import av
import numpy as np
import pytest

from keras_megan.video.errors import VideoError
from keras_megan.video.io.reading.read import open_clip
from keras_megan.video.upscale import UpscaleOptions, upscale
from tests.video.clips import PlainRunner, picture, read_images, write_clip

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
    files["clip.wmv"] = write_clip(
        folder / "clip.wmv",
        images,
        codec="wmv2",
        options={"b": "2000000"},
        time_base=Fraction(1, 1000),  # this container counts milliseconds
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
NAMES += ["clip.avi", "clip.webm", "clip.wmv"]


@pytest.mark.parametrize("name", NAMES)
def test_whole_files_are_read_whole(whole, name):
    clip = open_clip(whole[name])
    assert clip.info.num_frames == COUNT
    frames = list(clip.frames())
    assert len(frames) == COUNT
    spans = sum(frame.duration for frame in frames)
    assert float(spans) == pytest.approx(COUNT / 25, abs=0.005)


@pytest.mark.parametrize("start", [0.3, 0.6])
def test_a_packet_of_wmv_that_lost_its_mark_is_no_silent_gap(whole, start, tmp_path):
    data = bytearray(whole["clip.wmv"].read_bytes())
    begin = int(len(data) * start)
    data[begin : begin + 4000] = bytes(4000)
    path = tmp_path / "clip.wmv"
    path.write_bytes(bytes(data))
    with pytest.raises(VideoError, match="damaged or cut short"):
        open_clip(path)


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


def pictures_of(path):
    """(position, end) in the file of each picture of a transport stream, in order."""
    with av.open(str(path)) as container:
        starts = [p.pos for p in container.demux(video=0) if p.size]
    return list(zip(starts, [*starts[1:], path.stat().st_size], strict=True))


def test_a_transport_stream_cut_in_the_middle_of_a_picture_is_refused(whole, tmp_path):
    # This format declares no duration, but its last picture does not decode. Where
    # pictures lie the file itself is asked: the encoder makes another one each time.
    pictures = pictures_of(whole["clip.ts"])
    later = pictures[len(pictures) // 2 :]
    begin, end = max(later, key=lambda span: span[1] - span[0])
    kept = begin + (end - begin) // 2 // 188 * 188
    assert (end - begin) >= 4 * 188
    path = tmp_path / "clip.ts"
    path.write_bytes(whole["clip.ts"].read_bytes()[:kept])
    with pytest.raises(VideoError, match="damaged"):
        decoded(path)


def test_a_transport_stream_cut_within_a_packet_is_refused(whole, tmp_path):
    path = tmp_path / "clip.ts"
    path.write_bytes(whole["clip.ts"].read_bytes()[:-100])
    with pytest.raises(VideoError, match="ends within a part.*--allow-damaged"):
        open_clip(path)


def test_a_transport_stream_is_never_certain_to_be_whole(whole):
    (doubt,) = open_clip(whole["clip.ts"]).info.doubts
    assert "does not say where it ends" in doubt
    assert open_clip(whole["clip.ts"], allow_damaged=True).info.doubts == ()


def test_a_transport_stream_with_a_hole_is_refused(whole, tmp_path):
    data = whole["clip.ts"].read_bytes()
    begin, end = pictures_of(whole["clip.ts"])[COUNT // 2]
    path = tmp_path / "clip.ts"
    path.write_bytes(data[:begin] + data[begin + 188 :])
    with pytest.raises(VideoError, match="packets are damaged"):
        open_clip(path)


@pytest.mark.parametrize("name", ["clip.mkv", "clip.webm", "sound.mkv"])
@pytest.mark.parametrize("lost", [1, 9, 60, 150, 199, 500])
def test_matroska_that_lacks_a_little_is_whole_or_refused(whole, name, lost, tmp_path):
    path = tmp_path / name
    path.write_bytes(whole[name].read_bytes()[:-lost])
    try:
        frames = decoded(path)
    except VideoError as error:
        assert "cut short" in str(error)
        return
    assert frames == COUNT  # only the index was cut


def test_frames_missing_in_the_middle_of_matroska_are_refused(whole, tmp_path):
    data = bytearray(whole["clip.mkv"].read_bytes())
    at = data.find(b"\xa3", len(data) // 2)  # where a block begins, or a byte like it
    data[at - 40 : at + 40] = bytes(80)
    path = tmp_path / "clip.mkv"
    path.write_bytes(bytes(data))
    try:
        frames = decoded(path)
    except VideoError:
        return
    assert frames == COUNT


def test_what_is_there_of_a_damaged_file_can_be_taken(whole, tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(whole["fast.mp4"].read_bytes()[:-1000])
    with pytest.raises(VideoError, match="--allow-damaged"):
        open_clip(path)
    options = UpscaleOptions(allow_damaged=True)
    summary = upscale(path, tmp_path / "out.mp4", PlainRunner(), options)
    assert COUNT // 2 < summary.frames_in < COUNT
    assert any("damaged" in note for note in summary.notes) and not summary.doubts
    assert len(read_images(tmp_path / "out.mp4")) == summary.frames_out


def test_damage_in_the_middle_is_passed_over_where_that_is_allowed(whole, tmp_path):
    data = bytearray(whole["clip.mp4"].read_bytes())
    generator = np.random.default_rng(0)
    for position in generator.integers(len(data) // 3, 2 * len(data) // 3, 60):
        data[position] ^= 255
    path = tmp_path / "clip.mp4"
    path.write_bytes(bytes(data))
    clip = open_clip(path, allow_damaged=True)
    frames = list(clip.frames())
    assert len(frames) > COUNT // 2
    assert any("damaged" in line for line in clip.remarks)


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

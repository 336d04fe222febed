"""A whole job: frames, times, sound, cuts, memory, and what a failure leaves behind."""

import json
import threading
import tracemalloc
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from keras_megan.video.errors import VideoError
from keras_megan.video.io.reading.read import open_clip
from keras_megan.video.io.writing import segments
from keras_megan.video.upscale import UpscaleOptions, upscale
from tests.video.clips import (
    Interrupted,
    PlainRunner,
    picture,
    read_images,
    read_times,
    write_clip,
)


def work_folders(folder):
    return list(folder.glob(".*.megan"))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 11])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_any_number_of_frames_becomes_twice_as_many_less_one(tmp_path, count, suffix):
    source = write_clip(tmp_path / "in.mp4", [picture(i) for i in range(count)])
    output = tmp_path / f"out{suffix}"
    summary = upscale(source, output, PlainRunner())
    assert (summary.frames_in, summary.frames_out) == (count, 2 * count - 1)
    images = read_images(output)
    assert len(images) == 2 * count - 1
    assert images[0].shape == (96, 128, 3)
    assert open_clip(output).info.duration == pytest.approx(count / 25, abs=1e-3)
    assert not work_folders(tmp_path)


def test_given_frames_come_out_at_even_places_and_blends_between(tmp_path):
    images = [picture(i) for i in range(9)]
    source = write_clip(tmp_path / "in.mp4", images)
    given = [frame.image.astype(float) for frame in open_clip(source).frames()]
    output = tmp_path / "out"
    upscale(source, output, PlainRunner())
    made = [frame.image for frame in open_clip(output).frames()]  # PNG: no loss
    assert len(made) == 17
    for index, image in enumerate(made):
        expected = (given[index // 2] + given[(index + 1) // 2]) / 2
        assert np.abs(image[::4, ::4] - expected).max() <= 1


def test_times_of_a_variable_rate_clip_are_exact_and_its_duration_stays(tmp_path):
    ticks = [0, 512, 700, 2100, 2101, 2613, 4000]
    source = write_clip(
        tmp_path / "in.mp4", [picture(i) for i in range(7)], times=ticks
    )
    times = read_times(source)
    assert times == [Fraction(tick, 12800) for tick in ticks]  # the clip is as meant
    output = tmp_path / "out.mp4"
    upscale(source, output, PlainRunner())
    made = read_times(output)
    assert made[::2] == times
    assert made[1::2] == [(a + b) / 2 for a, b in zip(times, times[1:], strict=False)]
    before, after = open_clip(source).info, open_clip(output).info
    assert after.duration == before.duration


def test_sound_is_copied_bit_for_bit_and_stays_in_place(tmp_path, clip):
    def packets(path):
        with av.open(str(path)) as container:
            return [
                (p.pts * p.time_base, bytes(p))
                for p in container.demux(audio=0)
                if p.size
            ]

    output = tmp_path / "out.mp4"
    upscale(clip, output, PlainRunner())
    assert len(packets(clip)) > 5
    assert packets(output) == packets(clip)


def test_sound_that_the_container_cannot_hold_is_re_encoded(tmp_path, clip):
    notes = []

    class Listener:
        begin = advance = staticmethod(lambda *args: None)
        note = staticmethod(notes.append)

    output = tmp_path / "out.webm"
    upscale(clip, output, PlainRunner(), reporter=Listener())
    with av.open(str(output)) as container:
        (sound,) = container.streams.audio
        assert sound.codec_context.name == "opus"
        frames = list(container.decode(audio=0))
        heard = sum(frame.samples for frame in frames) / 48_000
    assert heard == pytest.approx(0.44, abs=0.05)
    assert len(read_images(output)) == 21
    assert any("opus" in note for note in notes)


def test_colour_tags_and_pixel_shape_survive(tmp_path):
    def tag(container, stream):
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = 1, 1, 1
        context.color_range = 1
        context.sample_aspect_ratio = Fraction(4, 3)

    images = [picture(i) for i in range(4)]
    source = write_clip(tmp_path / "in.mp4", images, prepare=tag)
    output = tmp_path / "out.mp4"
    upscale(source, output, PlainRunner())
    before, after = open_clip(source).info, open_clip(output).info
    assert before.colour.matrix == 1 and before.pixel_aspect == Fraction(4, 3)
    assert after.colour == before.colour
    assert after.pixel_aspect == before.pixel_aspect


def test_the_same_colours_come_out_whatever_the_matrix(tmp_path):
    # Untagged small input is BT.601, untagged large output would be BT.709 to a player:
    # the output must say which it is.
    image = np.full((24, 32, 3), (200, 40, 90), np.uint8)
    source = write_clip(tmp_path / "in.mp4", [image] * 4)
    output = tmp_path / "out.mp4"
    upscale(source, output, PlainRunner())
    (seen,) = {tuple(f.image[40, 60]) for f in open_clip(output).frames()}
    (given,) = {tuple(f.image[10, 15]) for f in open_clip(source).frames()}
    assert np.abs(np.int16(seen) - np.int16(given)).max() <= 3
    assert open_clip(output).info.colour.matrix in (5, 6)


def test_nothing_is_blended_across_a_scene_cut(tmp_path):
    dark = [picture(i) // 4 for i in range(5)]
    light = [255 - picture(i)[::-1] // 3 for i in range(6)]
    source = write_clip(tmp_path / "in.mp4", dark + light)
    summary = upscale(source, tmp_path / "out", PlainRunner())
    assert summary.cuts == 1 and summary.frames_out == 21
    made = [frame.image for frame in open_clip(tmp_path / "out").frames()]
    assert np.array_equal(made[9], made[8])  # held at the cut
    assert not np.array_equal(made[7], made[6])
    means = [image.mean() for image in made]
    assert max(means[:10]) < 60 and min(means[10:]) > 150

    options = UpscaleOptions(scene_threshold=None)
    upscale(source, tmp_path / "blend", PlainRunner(), options)
    blended = [frame.image for frame in open_clip(tmp_path / "blend").frames()]
    assert 60 < blended[9].mean() < 150


def test_start_and_end_choose_frames_by_time(tmp_path, clip):
    options = UpscaleOptions(start=Fraction(2, 25), end=Fraction(6, 25))
    summary = upscale(clip, tmp_path / "out.mp4", PlainRunner(), options)
    assert (summary.frames_in, summary.frames_out) == (4, 7)
    times = read_times(tmp_path / "out.mp4")
    assert times == [Fraction(i, 50) for i in range(7)]
    made = open_clip(tmp_path / "out.mp4")
    assert made.info.duration == Fraction(4, 25)
    with av.open(str(tmp_path / "out.mp4")) as container:
        ends = [p.pts * p.time_base for p in container.demux(audio=0) if p.size]
    assert ends and ends[0] < Fraction(1, 20) and ends[-1] < Fraction(4, 25)


def test_images_in_and_out_keep_their_times(tmp_path):
    import cv2

    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(12):  # frame_10 after frame_9
        cv2.imwrite(str(folder / f"frame_{index}.png"), picture(index)[..., ::-1])
    (folder / "timestamps.txt").write_text(
        "# timestamp format v2\n" + "".join(f"{40 * i + i % 2}\n" for i in range(13))
    )
    upscale(folder, tmp_path / "out", PlainRunner())
    made = open_clip(tmp_path / "out")
    assert made.info.num_frames == 23
    assert [t * 1000 for t in made.times[::2]] == [40 * i + i % 2 for i in range(12)]
    given = [picture(i) for i in range(12)]
    for index, frame in enumerate(made.frames()):
        if index % 2 == 0:
            assert np.array_equal(frame.image[::4, ::4], given[index // 2])


def test_tiles_are_invisible_to_a_network_of_small_reach(tmp_path):
    images = [picture(i, 120, 200) for i in range(4)]
    source = write_clip(tmp_path / "in.mp4", images)
    upscale(source, tmp_path / "whole", PlainRunner(), UpscaleOptions(tile=0))
    tiled = PlainRunner()
    upscale(source, tmp_path / "tiled", tiled, UpscaleOptions(tile=72))
    assert tiled.calls > 6
    pairs = zip(
        open_clip(tmp_path / "whole").frames(),
        open_clip(tmp_path / "tiled").frames(),
        strict=True,
    )
    differences = [np.abs(np.int16(a.image) - b.image) for a, b in pairs]
    assert len(differences) == 7
    # Exact halves may round either way.
    assert max(d.max() for d in differences) <= 1
    assert np.mean(differences) < 0.01


@pytest.mark.parametrize("counts", [(24, 96)])
def test_memory_does_not_grow_with_the_clip(tmp_path, counts):
    peaks = []
    for count in counts:
        images = [picture(i, 48, 64) for i in range(count)]
        source = write_clip(tmp_path / f"in{count}.mp4", images)
        del images
        tracemalloc.start()
        upscale(source, tmp_path / f"out{count}.mp4", PlainRunner())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    one_frame = 192 * 256 * 3
    assert peaks[0] > 7 * one_frame  # frames are seen by the tracer at all
    # The queues between the threads hold two windows of results and what is computed of
    # the next; timing decides how much of that the short clip fills. Keeping the clip
    # would take 144 frames more.
    assert peaks[1] < peaks[0] + 40 * one_frame


# === Failures ===


def test_values_that_are_no_numbers_end_the_job_without_output(tmp_path, clip):
    class Broken(PlainRunner):
        def __call__(self, frames):
            result = super().__call__(frames)
            if self.calls == 3:
                result[2, 5, 5, 1] = np.nan
            return result

    with pytest.raises(VideoError, match="not numbers"):
        upscale(clip, tmp_path / "out.mp4", Broken())
    assert not (tmp_path / "out.mp4").exists() and not work_folders(tmp_path)


def test_an_error_of_the_network_reaches_the_caller_and_ends_all_threads(
    tmp_path, clip
):
    class Broken(PlainRunner):
        def __call__(self, frames):
            if self.calls == 2:
                raise RuntimeError("the network failed")
            return super().__call__(frames)

    before = threading.active_count()
    with pytest.raises(RuntimeError, match="the network failed"):
        upscale(clip, tmp_path / "out.mp4", Broken())
    assert threading.active_count() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clip.mp4"]


def test_a_full_disk_ends_the_job_with_one_line_and_no_deadlock(tmp_path, monkeypatch):
    source = write_clip(tmp_path / "in.mp4", [picture(i) for i in range(60)])
    write = segments.VideoEncoder.write

    def full(self, image, index):
        if index == 50:
            raise OSError(28, "No space left on device")
        write(self, image, index)

    monkeypatch.setattr(segments.VideoEncoder, "write", full)
    before = threading.active_count()
    with pytest.raises(VideoError, match="the disk is full"):
        upscale(source, tmp_path / "out.mp4", PlainRunner())
    assert threading.active_count() == before
    assert not (tmp_path / "out.mp4").exists()
    (folder,) = work_folders(tmp_path)  # the finished segment waits for the next run
    assert (folder / "segment_00000.json").exists()


# === Continuing ===


@pytest.fixture
def long_clip(tmp_path):
    """75 frames with two cuts: 149 output frames, four segments."""
    images = [picture(i) for i in range(24)]  # the cut meets a segment's border
    images += [255 - picture(i)[::-1] // 3 for i in range(26)]
    images += [picture(i) // 4 for i in range(25)]
    return write_clip(tmp_path / "long.mp4", images, sound=3.0)


@pytest.mark.parametrize("at", [12, 18, 24])
def test_an_interrupted_job_continues_and_equals_one_that_ran_through(
    tmp_path, long_clip, at
):
    whole, resumed = tmp_path / "whole.mp4", tmp_path / "resumed.mp4"
    straight = PlainRunner()
    assert upscale(long_clip, whole, straight).cuts == 2
    with pytest.raises(KeyboardInterrupt):
        upscale(long_clip, resumed, Interrupted(at))
    assert not resumed.exists()
    again = PlainRunner()
    summary = upscale(long_clip, resumed, again)
    assert summary.resumed_frames in (48, 96)
    assert again.calls < straight.calls
    assert summary.frames_out == 149
    assert read_times(resumed) == read_times(whole)
    assert resumed.read_bytes() == whole.read_bytes()
    assert not work_folders(tmp_path)


@pytest.mark.parametrize(
    "change, named",
    [
        (lambda o: replace(o, crf=30), "--crf: then None, now 30"),
        (lambda o: replace(o, scene_threshold=50.0), "--scene-threshold"),
        (None, "the input differs"),
    ],
)
def test_changed_settings_or_input_never_delete_finished_work_unasked(
    tmp_path, long_clip, change, named
):
    options, output = UpscaleOptions(), tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt):
        upscale(long_clip, output, Interrupted(18), options)
    (folder,) = work_folders(tmp_path)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    if change is None:
        images = [picture(i + 5) for i in range(9)]
        write_clip(long_clip, images)
    else:
        options = change(options)
    with pytest.raises(VideoError, match="--restart") as caught:
        upscale(long_clip, output, PlainRunner(), options)
    assert named in str(caught.value)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    summary = upscale(long_clip, output, PlainRunner(), replace(options, restart=True))
    assert summary.resumed_frames == 0 and output.exists()


def test_a_renamed_input_keeps_what_is_finished(tmp_path, long_clip):
    output = tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt):
        upscale(long_clip, output, Interrupted(18))
    moved = long_clip.rename(tmp_path / "another name.mp4")
    # How many segments were closed by then depends on how far the writer had come.
    assert upscale(moved, output, PlainRunner()).resumed_frames in (48, 96)


def test_another_model_is_not_mixed_with_what_is_finished(tmp_path, long_clip):
    output = tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt):
        upscale(long_clip, output, Interrupted(18))
    other = PlainRunner()
    other.fingerprint = "plain-2"
    with pytest.raises(VideoError, match="the model differs"):
        upscale(long_clip, output, other)


def test_a_segment_without_a_record_is_rebuilt(tmp_path, long_clip):
    output = tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt):
        upscale(long_clip, output, Interrupted(18))
    (folder,) = work_folders(tmp_path)
    record = sorted(folder.glob("segment_*.json"))[-1]
    assert json.loads(record.read_text())["first"] % 48 == 0
    record.unlink()
    record.with_suffix(".mp4").write_bytes(b"half a segment")
    summary = upscale(long_clip, output, PlainRunner())
    assert len(read_images(output)) == summary.frames_out == 149


def test_two_processes_do_not_work_on_one_output(tmp_path, clip):
    pytest.importorskip("fcntl")
    from keras_megan.video.jobs.journal import open_journal

    output = tmp_path / "out.mp4"
    with open_journal(output, {}), pytest.raises(VideoError, match="Another process"):
        upscale(clip, output, PlainRunner())

"""Sound, subtitles and what else goes beside the pictures: no job is lost to it."""

from fractions import Fraction

import av
import numpy as np
import pytest

from benchmarks.video.containers import heard as seconds_heard
from benchmarks.video.containers import make
from keras_megan.video.io.writing import assemble, tracks, trial
from keras_megan.video.upscale import UpscaleOptions, upscale
from tests.video.clips import PlainRunner, picture, read_images, write_clip

SECONDS = 0.48


class Listener:
    """Collects notes and progress in the order in which they come."""

    def __init__(self):
        self.events = []

    def begin(self, total, done):
        self.events.append("begin")

    def advance(self):
        self.events.append("frame")

    def note(self, line):
        self.events.append(line)


def clip_with(path, codec, rate=48_000, layout="stereo", options=None, prepare=None):
    """Twelve frames and a tone."""
    with av.open(str(path), "w", options={"strict": "experimental"}) as container:
        video = "wmv2" if path.suffix == ".wmv" else "mpeg4"
        stream = container.add_stream(video, rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        sound = container.add_stream(
            codec,
            rate=rate,
            layout=layout,
            options={"strict": "experimental", **(options or {})},
        )
        sound.bit_rate = 64_000
        for index in range(12):
            frame = av.VideoFrame.from_ndarray(picture(index), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if not sound.codec_context.is_open:
            sound.codec_context.open()
        context = sound.codec_context
        count = context.layout.nb_channels
        moments = np.arange(round(rate * SECONDS)) / rate
        tone = (9000 * np.sin(2 * np.pi * 440 * moments)).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(
            tone.repeat(count)[None], format="s16", layout=layout
        )
        frame.sample_rate, frame.pts = rate, 0
        resampler = av.AudioResampler(
            context.format, context.layout, rate, context.frame_size or 1024
        )
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(sound.encode(piece))
        container.mux(sound.encode(None))
    return path


def heard(path):
    """(codec, seconds, loudness) of the first sound track."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        context = stream.codec_context
        resampler = av.AudioResampler("flt", context.layout, context.sample_rate)
        frames = list(container.decode(stream))
        name = context.name
    pieces = [p.to_ndarray() for f in frames for p in resampler.resample(f)]
    samples = np.concatenate([piece.ravel() for piece in pieces])
    seconds = sum(frame.samples / frame.sample_rate for frame in frames)
    return name, seconds, float(np.sqrt(np.square(samples).mean()))


@pytest.mark.parametrize(
    "name, codec, rate, suffix",
    [
        ("in.mkv", "ac3", 32_000, ".mp4"),
        ("in.avi", "pcm_s16le", 22_050, ".mp4"),
        ("in.mkv", "pcm_s24le", 48_000, ".mp4"),
        ("in.mkv", "libopus", 48_000, ".mov"),
        ("in.mkv", "flac", 44_100, ".mov"),
        ("in.mkv", "libmp3lame", 8_000, ".mp4"),
        ("in.mkv", "tta", 44_100, ".mp4"),
        ("in.mkv", "alac", 44_100, ".webm"),
        ("in.wmv", "wmav2", 44_100, ".mp4"),
    ],
)
def test_no_sound_loses_the_job(tmp_path, name, codec, rate, suffix):
    source, output = clip_with(tmp_path / name, codec, rate), tmp_path / f"out{suffix}"
    listener = Listener()
    upscale(source, output, PlainRunner(), reporter=listener)
    assert len(read_images(output)) == 23
    before, after = heard(source), heard(output)
    assert after[1] == pytest.approx(before[1], abs=0.06)
    assert after[2] == pytest.approx(before[2], rel=0.1)
    # What was to be said was said before the first frame.
    notes = [event for event in listener.events if "re-encoded" in event]
    assert listener.events.index("begin") == len(listener.events) - 24
    assert bool(notes) == (before[0] != after[0])


def test_sound_with_an_unnamed_layout_is_taken_for_stereo(tmp_path):
    # Two channels without names, as old recorders write them.
    path = tmp_path / "in.avi"
    clip_with(path, "pcm_s16le", 44_100, "2 channels")
    output = tmp_path / "out.webm"
    upscale(path, output, PlainRunner())
    codec, seconds, loudness = heard(output)
    assert codec == "opus" and seconds == pytest.approx(SECONDS, abs=0.06)
    assert loudness == pytest.approx(heard(path)[2], rel=0.1)
    with av.open(str(output)) as container:
        assert container.streams.audio[0].codec_context.layout.name == "stereo"


@pytest.mark.parametrize("layout", ["mono", "5.1", "7.1"])
@pytest.mark.parametrize("codec", ["pcm_f32le", "aac"])  # interleaved and in planes
def test_samples_of_any_number_of_channels_are_read(tmp_path, layout, codec):
    source = clip_with(tmp_path / "in.mkv", codec, layout=layout)
    with av.open(str(source)) as container:
        found = [tracks.samples_of(f) for f in container.decode(audio=0)]
    samples = np.concatenate(found, axis=1)
    assert samples.shape[0] == av.AudioLayout(layout).nb_channels
    loudness = np.sqrt(np.square(samples, dtype=np.float64).mean(axis=1))
    assert loudness[0] == pytest.approx(0.19, rel=0.2)


def test_joined_transport_streams_keep_all_their_sound(tmp_path):
    one = clip_with(tmp_path / "one.ts", "aac")
    both = tmp_path / "both.ts"
    both.write_bytes(one.read_bytes() * 2)  # its clock goes back in the middle
    output = tmp_path / "out.mp4"
    summary = upscale(both, output, PlainRunner(), UpscaleOptions(allow_damaged=True))
    assert summary.frames_in == 24
    with av.open(str(output)) as container:
        times = [p.dts for p in container.demux(audio=0) if p.size]
    assert len(times) > 40 and times == sorted(set(times))
    assert heard(output)[1] == pytest.approx(2 * heard(one)[1], abs=0.06)


def test_small_disorder_in_times_does_not_shift_what_follows(tmp_path, clip):
    from keras_megan.video.io.writing.tracks import Copy, Way

    base = Fraction(1, 48_000)
    given = [0, 1024, 1024, 1023, 4096, 5120, 100_000, 500, 1524]
    with (
        av.open(str(clip)) as source,
        av.open(str(tmp_path / "out.mkv"), "w") as output,
    ):
        sound = source.streams.audio[0]
        track = Copy(output, sound, Way(sound.index, "copy"))
        made = []
        for time in given:
            packet = av.Packet(bytes(8))
            packet.pts = packet.dts = time
            packet.duration, packet.time_base = 1024, base
            made += [p.dts for _, _, p in track.feed(packet, Fraction(0))]
    # Repeats move by a tick; only a clock that goes back far moves all that follows.
    assert made == [0, 1024, 1025, 1026, 4096, 5120, 100_000, 101_024, 102_048]


def test_a_failure_at_the_last_packet_costs_the_sound_and_not_the_job(
    tmp_path, clip, monkeypatch
):
    copy = assemble.open_track

    def broken(output, source, way):
        track = copy(output, source, way)
        if tried:
            track.flush = lambda: (_ for _ in ()).throw(ValueError("no more room"))
        return track

    tried = []
    find_ways = trial.find_ways

    def then_break(*arguments, **options):
        ways = find_ways(*arguments, **options)
        tried.append(ways)
        return ways

    monkeypatch.setattr(assemble, "open_track", broken)
    monkeypatch.setattr("keras_megan.video.upscale.find_ways", then_break)
    output = tmp_path / "out.mp4"
    summary = upscale(clip, output, PlainRunner())
    assert tried[0][0].kind == "copy"
    assert len(read_images(output)) == 21
    assert any("no more room" in note for note in summary.notes)


def test_sound_is_left_out_on_request(tmp_path, clip):
    output = tmp_path / "out.mp4"
    upscale(clip, output, PlainRunner(), UpscaleOptions(audio=False))
    with av.open(str(output)) as container:
        assert not container.streams.audio


# === What cannot come along is named ===


def rich_clip(path):
    """A clip with chapters, an attached font, a second video and a timecode."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        sound = container.add_stream("aac", rate=48_000, layout="mono")
        sound.metadata["language"] = "fra"
        sound.disposition = av.stream.Disposition.default
        second = container.add_stream("ffv1", rate=25)
        second.width, second.height, second.pix_fmt = 16, 16, "yuv420p"
        container.add_attachment("letters.ttf", "font/ttf", b"\0\1\0\0" + bytes(60))
        base = Fraction(1, 1000)
        container.set_chapters(
            [
                {
                    "id": i,
                    "start": 160 * i,
                    "end": 160 * (i + 1),
                    "time_base": base,
                    "metadata": {"title": f"part {i}"},
                }
                for i in range(3)
            ]
        )
        for index in range(12):
            frame = av.VideoFrame.from_ndarray(picture(index), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        frame = av.VideoFrame.from_ndarray(picture(0, 16, 16), format="rgb24")
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        container.mux(second.encode(frame))
        container.mux(second.encode(None))
        silence = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        silence.sample_rate, silence.pts = 48_000, 0
        container.mux(sound.encode(silence))
        container.mux(sound.encode(None))
    return path


def test_fonts_flags_and_chapters_come_along_where_the_container_holds_them(tmp_path):
    source = rich_clip(tmp_path / "in.mkv")
    summary = upscale(source, tmp_path / "out.mkv", PlainRunner())
    with av.open(str(tmp_path / "out.mkv")) as container:
        fonts = [s for s in container.streams if s.type == "attachment"]
        assert [s.data for s in fonts] == [b"\0\1\0\0" + bytes(60)]
        assert [c["metadata"]["title"] for c in container.chapters()] == [
            "part 0",
            "part 1",
            "part 2",
        ]
        sound = container.streams.audio[0]
        assert sound.metadata["language"] == "fra"
        assert sound.disposition & av.stream.Disposition.default
    assert any("second video" in note for note in summary.notes)

    summary = upscale(source, tmp_path / "out.mp4", PlainRunner())
    assert any("letters.ttf" in note for note in summary.notes)


def test_chapters_move_along_with_the_start(tmp_path):
    source = rich_clip(tmp_path / "in.mkv")
    options = UpscaleOptions(start=Fraction(1, 5), end=Fraction(2, 5))
    upscale(source, tmp_path / "out.mkv", PlainRunner(), options)
    with av.open(str(tmp_path / "out.mkv")) as container:
        found = [
            (c["metadata"]["title"], c["start"] * c["time_base"])
            for c in container.chapters()
        ]
    assert [title for title, _ in found] == ["part 1", "part 2"]
    assert [float(start) for _, start in found] == pytest.approx([0, 0.12], abs=0.002)


@pytest.mark.parametrize(
    "pixel_format, words",
    [
        ("yuva420p", "transparency"),
        ("yuv422p", "colour resolution"),
        ("yuv444p", "colour resolution"),
        ("yuv420p", ""),
    ],
)
def test_what_pictures_lose_is_said(tmp_path, pixel_format, words):
    source = write_clip(
        tmp_path / "in.mkv",
        [picture(i) for i in range(3)],
        codec="ffv1",
        pixel_format=pixel_format,
    )
    summary = upscale(source, tmp_path / "out.mp4", PlainRunner())
    assert (words in " ".join(summary.notes)) if words else not summary.notes


def test_the_last_packet_is_kept_where_packets_do_not_say_how_long_they_are(tmp_path):
    # Matroska keeps no durations of ALAC's packets, and MP4 ended before the last.
    source = make(tmp_path / "in.mkv", "mpeg4", [("alac", 11025, "mono")])
    upscale(source, tmp_path / "out.m4v", PlainRunner())
    (before,), (after,) = map(seconds_heard, (source, tmp_path / "out.m4v"))
    assert before > 0.45 and after == pytest.approx(before, abs=0.01)

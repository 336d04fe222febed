"""When output frames appear: exact moments, given frames kept, cuts held."""

from fractions import Fraction

import numpy as np
import pytest

from keras_megan.video.errors import VideoError
from keras_megan.video.io.reading.read import Frame, open_clip
from keras_megan.video.jobs.schedule import Plan
from keras_megan.video.models.runner import KerasRunner
from keras_megan.video.request.rate import Constant, Multiple, choose_rate
from keras_megan.video.upscale import UpscaleOptions, upscale
from tests.video.clips import PlainRunner, picture, read_times, write_clip


class BlendRunner(PlainRunner):
    """Blends linearly to the time it is asked for; the oracle is the same line."""

    takes_times = True

    def run(self, frames, times=None):
        self.calls += 1
        times = np.full(len(frames) - 1, 0.5) if times is None else times
        assert times.shape == (len(frames) - 1,)
        assert ((times > 0) & (times < 1)).all()
        given = frames.astype(np.float32) / 255
        every = np.empty((self.frames_out, *given.shape[1:]), np.float32)
        every[::2] = given
        share = np.asarray(times, np.float32)[:, None, None, None]
        every[1::2] = given[:-1] * (1 - share) + given[1:] * share
        return every.repeat(self.scale, axis=1).repeat(self.scale, axis=2)


def frames_at(times, images=None):
    """Frames that appear at these times; the last time is the end."""
    times = [Fraction(time) for time in times]
    images = images or [picture(index) for index in range(len(times) - 1)]
    return [
        Frame(image, time, after - time)
        for image, time, after in zip(images, times, times[1:], strict=False)
    ]


def blended(frames, moment):
    """What a viewer of the input sees at a moment, blended between frames."""
    for frame, after in zip(frames, frames[1:], strict=False):
        if frame.time <= moment < after.time:
            share = float((moment - frame.time) / frame.duration)
            if 0.01 < share < 0.99:
                return frame.image * (1 - share) + after.image * share
            return (frame if share < 0.5 else after).image.astype(float)
    return frames[-1].image.astype(float)


@pytest.mark.parametrize("factor", [1, 2, 3, 5])
def test_a_whole_factor_divides_each_gap_evenly_and_keeps_a_variable_rate(
    tmp_path, factor
):
    ticks = [0, 600, 900, 2100, 2700, 3300]
    source = write_clip(
        tmp_path / "in.mp4", [picture(i) for i in range(6)], times=ticks
    )
    output = tmp_path / "out.mp4"
    options = UpscaleOptions(factor=Fraction(factor), scene_threshold=None)
    summary = upscale(source, output, BlendRunner(), options)
    times = [Fraction(tick, 12800) for tick in ticks]
    expected = [
        a + (b - a) * Fraction(k, factor)
        for a, b in zip(times, times[1:], strict=False)
        for k in range(factor)
    ]
    assert read_times(output) == [*expected, times[-1]]
    assert summary.frames_out == factor * 5 + 1
    before, after = open_clip(source).info, open_clip(output).info
    assert after.duration == pytest.approx(before.duration, abs=1e-3)


@pytest.mark.parametrize("fps", ["60", "60000/1001", "10", "24000/1001", "125"])
@pytest.mark.parametrize("ticks", [None, [0, 500, 1300, 1700, 3000, 3300, 4000]])
def test_a_constant_rate_has_exact_times_and_the_blend_of_each_moment(
    tmp_path, fps, ticks
):
    fps = Fraction(fps)
    source = write_clip(
        tmp_path / "in.mp4", [picture(i) for i in range(7)], times=ticks
    )
    given = list(open_clip(source).frames())
    length = given[-1].time + given[-1].duration
    output = tmp_path / "out"
    options = UpscaleOptions(fps=fps, scene_threshold=None)
    summary = upscale(source, output, BlendRunner(), options)
    made = list(open_clip(output).frames())
    assert len(made) == summary.frames_out
    assert abs(len(made) / fps - length) <= 1 / fps / 2 + Fraction(1, 10**6)
    for index, frame in enumerate(made):
        moment = index / fps
        assert abs(frame.time - moment) < Fraction(1, 10**6)  # text, in milliseconds
        error = np.abs(frame.image[::4, ::4] - blended(given, moment))
        assert error.max() <= 1, index


def test_exact_times_reach_the_file(tmp_path):
    source = write_clip(tmp_path / "in.mp4", [picture(i) for i in range(5)])
    output = tmp_path / "out.mp4"
    fps = Fraction(60000, 1001)
    upscale(source, output, BlendRunner(), UpscaleOptions(fps=fps))
    assert read_times(output) == [k / fps for k in range(12)]


def test_an_input_that_has_the_rate_already_comes_through_untouched():
    frames = frames_at([Fraction(k, 25) for k in range(8)])
    plan = Plan(iter(frames), None, 4, Constant(Fraction(25), Fraction(25)))
    tasks = list(plan.tasks())
    shots = [shot for task in tasks for shot in task.shots]
    assert [shot.moment for shot in shots] == [frame.time for frame in frames]
    assert all(shot.position % 2 == 0 for shot in shots)


def test_a_moment_within_a_hundredth_of_a_gap_is_the_given_frame():
    near = Fraction(1, 125)
    frames = frames_at([0, 1 + near, 2 - near, 3, 4])
    plan = Plan(iter(frames), None, 4, Constant(Fraction(1), Fraction(1)))
    shots = [shot for task in plan.tasks() for shot in task.shots]
    assert [shot.moment for shot in shots] == [0, 1, 2, 3]
    assert all(shot.position % 2 == 0 for shot in shots)


def test_nothing_is_made_across_a_cut_at_any_rate():
    dark = [np.full((24, 32, 3), 20 + i, np.uint8) for i in range(4)]
    light = [np.full((24, 32, 3), 220 + i, np.uint8) for i in range(4)]
    frames = frames_at([Fraction(k, 10) for k in range(9)], dark + light)
    for rate in (Constant(Fraction(37), Fraction(10)), Multiple(4)):
        plan = Plan(iter(frames), 16.0, 4, rate)
        tasks = list(plan.tasks())
        for task in tasks:
            scenes = {bool(item.image.mean() > 100) for item in task.window.items}
            assert len(scenes) == 1
        moments = [shot.moment for task in tasks for shot in task.shots]
        assert moments == sorted(moments) and plan.cuts == 1
        if isinstance(rate, Constant):
            assert moments == [Fraction(k, 37) for k in range(len(moments))]
        else:
            assert moments == [Fraction(k, 40) for k in range(29)]


@pytest.mark.parametrize("rate", [Multiple(2), Multiple(3), Constant(30, 10)])
def test_equal_frames_cost_no_call_and_are_shown_again(rate):
    images = [picture(i // 3) for i in range(12)]
    frames = frames_at([Fraction(k, 10) for k in range(13)], images)
    plan = Plan(iter(frames), None, 4, rate)
    tasks = list(plan.tasks())
    assert len(tasks) == 1  # four pictures that differ
    moments = [shot.moment for task in tasks for shot in task.shots]
    assert moments == sorted(set(moments)) and len(moments) == plan.outputs
    assert plan.repeats == 8 and plan.frames == 12
    assert plan.outputs == rate.expected(12, Fraction(12, 10))


def test_networks_that_make_the_middle_only_refuse_other_times(tmp_path):
    source = write_clip(tmp_path / "in.mp4", [picture(i) for i in range(5)])
    for refused in (
        UpscaleOptions(fps=Fraction(60)),
        UpscaleOptions(factor=Fraction(3)),
        UpscaleOptions(factor=Fraction(5, 2)),
    ):
        with pytest.raises(VideoError, match="half-way between two given ones"):
            upscale(source, tmp_path / "out.mp4", PlainRunner(), refused)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]
    for index, (asked, count) in enumerate(
        {
            UpscaleOptions(fps=Fraction(50)): 10,
            UpscaleOptions(fps=Fraction(25)): 5,
            UpscaleOptions(factor=Fraction(2)): 9,
            UpscaleOptions(factor=Fraction(1)): 5,
            UpscaleOptions(fps=Fraction(25, 2)): 3,
        }.items()
    ):
        summary = upscale(source, tmp_path / f"{index}.mp4", PlainRunner(), asked)
        assert summary.frames_out == count


@pytest.mark.parametrize(
    ("fps", "factor", "words"),
    [
        (Fraction(25), Fraction(2), "exclude each other"),
        (Fraction(0), None, "above 0, at most 1000"),
        (None, Fraction(100), "at most 64"),
    ],
)
def test_rates_out_of_range_are_refused(fps, factor, words):
    with pytest.raises(VideoError, match=words):
        choose_rate(fps, factor, Fraction(25))


def timed_model(as_dict):
    """Pixels repeated twice; new frames blended to the time that is fed."""
    import keras

    frames = keras.Input((3, None, None, 3), name="frames")
    times = keras.Input((2,), name="times")
    share = keras.ops.reshape(times, (-1, 2, 1, 1, 1))
    new = frames[:, :-1] * (1 - share) + frames[:, 1:] * share
    parts = [frames[:, :1], new[:, :1], frames[:, 1:2], new[:, 1:], frames[:, 2:]]
    every = keras.ops.concatenate(parts, axis=1)
    large = keras.layers.UpSampling3D((1, 2, 2))(every)
    inputs = {"frames": frames, "times": times} if as_dict else [frames, times]
    return keras.Model(inputs, large)


@pytest.mark.parametrize("as_dict", [False, True])
def test_a_keras_model_with_a_second_input_is_told_the_times(as_dict):
    runner = KerasRunner(timed_model(as_dict))
    assert runner.takes_times and (runner.frames_in, runner.scale) == (3, 2)
    frames = np.stack([picture(4 * index) for index in range(3)])
    for times in (None, np.array([0.25, 0.8])):
        made = runner.run(frames, times)[:, ::2, ::2]
        np.testing.assert_allclose(made[::2], frames / 255, atol=1e-6)
        for gap, time in enumerate([0.5, 0.5] if times is None else times):
            expected = frames[gap] * (1 - time) + frames[gap + 1] * time
            np.testing.assert_allclose(made[2 * gap + 1] * 255, expected, atol=1e-3)


def test_a_megan_with_large_results_of_its_own_makes_any_time():
    from keras_megan import MEGAN

    model = MEGAN(
        filters=4,
        num_frames=2,
        extraction_blocks=1,
        alignment="window",
        alignment_options={"levels": 2, "reach": 2},
        memory=None,
        non_local_blocks=0,
        fusion_blocks=0,
        reconstruction_blocks=0,
        tail="light",
        still_blocks=1,
    )
    runner = KerasRunner(model)
    assert runner.takes_times
    frames = np.stack([picture(index, 16, 16) for index in range(2)])
    times = np.array([0.2], np.float32)
    expected = model.at_times([frames[None].astype(np.float32) / 255, times[None]])
    np.testing.assert_allclose(runner.run(frames, times), expected[0], atol=1e-5)


def test_a_megan_without_them_makes_the_middle_only():
    class Plain:
        """What `KerasRunner` asks of a model; its property refuses as MEGAN's does."""

        name, input_shape, inputs, weights = "plain", (None, 2, 8, 8, 3), [None], []

        def compute_output_shape(self, shape):
            return (1, 3, 32, 32, 3)

        def get_config(self):
            return {}

        @property
        def at_times(self):
            raise ValueError("needs a network with still_blocks")

    runner = KerasRunner(Plain())
    assert not runner.takes_times
    with pytest.raises(ValueError, match="takes no times"):
        runner.run(np.zeros((2, 8, 8, 3), np.uint8), np.array([0.25]))

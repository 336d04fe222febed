"""The window plan: every output once, in order, from a window that really spans it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_megan.video.windows import plan_windows, stream_windows


@settings(max_examples=200, deadline=None)
@given(num_frames=st.integers(1, 60), window_size=st.integers(2, 7))
def test_every_output_is_planned_once_in_order_and_at_its_true_time(
    num_frames, window_size
):
    times = []
    for window in plan_windows(num_frames, window_size):
        assert len(window.items) == window_size
        # Time of prediction k: the given frames and the midpoints between them.
        predicted = [
            (window.items[k // 2] + window.items[(k + 1) // 2]) / 2
            for k in range(2 * window_size - 1)
        ]
        assert list(window.outputs) == list(
            range(len(times), len(times) + window.num_outputs)
        )
        times += predicted[window.keep]
    assert times == [index / 2 for index in range(2 * num_frames - 1)]


@settings(max_examples=100, deadline=None)
@given(num_frames=st.integers(2, 60), window_size=st.integers(2, 7))
def test_neighbouring_windows_step_by_one_frame_less_than_a_window(
    num_frames, window_size
):
    windows = plan_windows(num_frames, window_size)
    starts = [window.items[0] for window in windows]
    steps = [b - a for a, b in zip(starts, starts[1:], strict=False)]
    assert all(step == window_size - 1 for step in steps[:-1])
    assert all(1 <= step <= window_size - 1 for step in steps)
    assert windows[-1].items[-1] == num_frames - 1


def test_first_prediction_wins_on_overlaps():
    first, second = plan_windows(7, 4)
    assert first.keep == slice(0, 7)
    assert second.keep == slice(1, 7)  # frame 3 was predicted by the first window


@pytest.mark.parametrize("num_frames", [1, 2, 3])
def test_short_clips_are_filled_with_their_last_frame_and_cropped(num_frames):
    (window,) = plan_windows(num_frames, 4)
    last = num_frames - 1
    assert window.items == tuple(min(index, last) for index in range(4))
    assert window.keep == slice(0, 2 * num_frames - 1)


def test_vid4_clips_score_all_171_frames():
    # Given frames of calendar 41, city 34, foliage 49, walk 47 after dropping every
    # second one; the outputs are the odd-length clips they span.
    totals = [len(range(0, n, 2)) for n in (41, 34, 49, 47)]
    outputs = [sum(window.num_outputs for window in plan_windows(n, 4)) for n in totals]
    assert outputs == [41, 33, 49, 47]  # the 34th of city lies beyond the last given


def test_streaming_holds_only_one_window_and_emits_as_soon_as_complete():
    pulled = []

    def source():
        for index in range(100):
            pulled.append(index)
            yield index

    windows = stream_windows(source(), 4)
    assert next(windows).items == (0, 1, 2, 3) and pulled == [0, 1, 2, 3]
    assert next(windows).items == (3, 4, 5, 6) and pulled[-1] == 6


def test_an_empty_stream_gives_no_windows():
    assert list(stream_windows(iter(()), 4)) == []


@pytest.mark.parametrize("num_frames, window_size", [(0, 4), (-1, 4), (5, 1)])
def test_impossible_plans_are_refused(num_frames, window_size):
    with pytest.raises(ValueError, match="Received"):
        plan_windows(num_frames, window_size)

"""Given frames that see their neighbours along known motion."""

import keras
import numpy as np
import pytest

from keras_megan import MEGAN
from keras_megan.layers import JoinNeighbours, MotionToNeighbours, NeighbourFusion
from keras_megan.layers.pixels.still_network import StillNetwork

NEIGHBOURS = {"before": [1], "moved_filters": 4, "hidden_filters": 6}


def _network(**options):
    return MEGAN(
        filters=8,
        num_frames=3,
        extraction_blocks=0,
        alignment="window",
        alignment_options={"levels": 2, "reach": 2},
        memory=None,
        non_local_blocks=0,
        fusion_blocks=0,
        still_blocks=2,
        **options,
    )


def test_even_motion_leads_each_frame_to_the_other():
    flow = np.zeros((1, 12, 16, 4), "float32")
    flow[...] = [-1.0, 0.5, 1.0, -0.5]  # an object that moves by (2, -1) in the gap
    to_right, to_left = (np.asarray(part) for part in MotionToNeighbours(2)(flow))
    np.testing.assert_allclose(to_right, np.broadcast_to([2.0, -1.0], to_right.shape))
    np.testing.assert_allclose(to_left, np.broadcast_to([-2.0, 1.0], to_left.shape))


def test_motion_is_looked_up_where_it_is_halfway():
    flow = np.zeros((1, 12, 20, 4), "float32")
    # Halfway, what lies in columns 8 to 11 moves by four pixels to the right in all.
    flow[:, :, 8:12] = [0.0, -2.0, 0.0, 2.0]
    to_right, to_left = (np.asarray(part) for part in MotionToNeighbours(4)(flow))
    # A still pixel is looked up at itself, one that moves two pixels on.
    np.testing.assert_allclose(to_right[0, 5, 8:10], [[0.0, 4.0]] * 2)
    np.testing.assert_allclose(to_left[0, 5, 10:12], [[0.0, -4.0]] * 2)
    assert not to_right[0, 5, :8].any() and not to_left[0, 5, 12:].any()


@pytest.mark.parametrize("clips", [1, 2])
def test_ends_of_a_clip_stand_in_for_the_neighbour_that_they_lack(clips, rng):
    own = rng.normal(size=(clips, 3, 2, 2, 1)).astype("float32")
    left, right = rng.normal(size=(2, clips, 2, 2, 2, 1)).astype("float32")
    joined = JoinNeighbours(3)(*(x.reshape(-1, 2, 2, 1) for x in (own, left, right)))
    joined = np.asarray(joined).reshape(clips, 3, 2, 2, 3)
    np.testing.assert_array_equal(joined[..., :1], own)
    np.testing.assert_array_equal(joined[:, 1:, ..., 1:2], left)
    np.testing.assert_array_equal(joined[:, :2, ..., 2:], right)
    np.testing.assert_array_equal(joined[:, 0, ..., 1], own[:, 0, ..., 0])
    np.testing.assert_array_equal(joined[:, -1, ..., 2], own[:, -1, ..., 0])


def test_a_fusion_sees_its_neighbours_where_motion_has_taken_them(rng):
    layer = NeighbourFusion(2, 2, 2, 3, reach=4)
    layer.build((None, None, None, 2), *[(None, None, None, 2)] * 2)
    for weight in layer.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    scene = rng.normal(size=(1, 16, 24, 2)).astype("float32")
    pair = np.concatenate([scene[:, :, :-3], scene[:, :, 3:]])  # moves left by three
    to_right = np.broadcast_to([0.0, -3.0], (1, 16, 21, 2)).astype("float32")
    moving = np.asarray(layer(pair, to_right, -to_right))
    none = np.zeros((1, 16, 24, 2), "float32")
    still = np.asarray(layer(np.concatenate([scene, scene]), none, none))
    inside = np.s_[2:-2, 5:-5]
    np.testing.assert_allclose(
        moving[0][inside], still[0][:, :21][inside], rtol=1e-4, atol=1e-4
    )


def test_a_new_fusion_changes_nothing(rng):
    frames = rng.uniform(size=(2, 3, 12, 16, 3)).astype("float32")
    alone = _network()
    for weight in alone.trainable_weights:
        weight.assign(rng.normal(size=weight.shape, scale=0.1))
    joined = _network(neighbours=NEIGHBOURS)
    known = {weight.path: weight for weight in joined.weights}
    for weight in alone.weights:
        known[weight.path].assign(weight)
    assert joined.count_params() > alone.count_params()
    np.testing.assert_array_equal(joined(frames), alone(frames))


def test_a_given_frame_sees_its_neighbours_and_no_further(rng):
    network = _network(neighbours=NEIGHBOURS)
    for weight in network.trainable_weights:
        weight.assign(rng.normal(size=weight.shape, scale=0.1))
    frames = rng.uniform(size=(1, 3, 12, 16, 3)).astype("float32")
    changed = frames.copy()
    changed[:, 2] += 0.1
    difference = np.abs(np.asarray(network(changed)) - network(frames)).max(
        (0, 2, 3, 4)
    )
    assert difference[0] == 0
    assert difference[1:].all()


def test_frames_can_still_be_enlarged_one_by_one(rng):
    network = _network(neighbours=NEIGHBOURS)
    image = rng.uniform(size=(1, 12, 16, 3)).astype("float32")
    assert network.get_layer("still")(image).shape == (1, 48, 64, 3)


def test_blocks_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match=r"0 to 1\. Received: \[2\]"):
        StillNetwork(4, 2, neighbours={**NEIGHBOURS, "before": [2]})


def test_it_survives_saving(tmp_path, rng):
    network = _network(neighbours=NEIGHBOURS)
    for weight in network.trainable_weights:
        weight.assign(rng.normal(size=weight.shape, scale=0.1))
    network.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    frames = rng.uniform(size=(1, 3, 8, 12, 3)).astype("float32")
    np.testing.assert_array_equal(network(frames), again(frames))

"""What a Keras user may expect of any layer, checked on all of them."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_megan import layers

CLIPS, FRAMES, SIDE = 2, 3, 8
#: Layers whose output is a picture, in float32 whatever they compute in.
PICTURES = ("StillNetwork", "LargeInterpolation")
#: Layers of which each case takes seconds.
COMPOSITES = {
    *("FrameInterpolation", "LargeInterpolation", "MemoryGraphAggregation"),
    *("MotionField", "NeighbourFusion", "NeighbourMotion", "PyramidAlignment"),
    "StillNetwork",
}


def _shape(channels, frames=FRAMES, clips=CLIPS, side=SIDE):
    return (clips * frames, side, side, channels)


def _pyramid(channels, levels):
    return [_shape(channels, side=SIDE >> level) for level in range(levels)]


# name -> (a function that makes the layer, shapes of its call arguments)
CASES = {
    "FoldFrames": (layers.FoldFrames, [(2, 3, 8, 8, 4)]),
    "UnfoldFrames": (lambda **k: layers.UnfoldFrames(3, **k), [_shape(4)]),
    "FramesToChannels": (lambda **k: layers.FramesToChannels(3, **k), [_shape(4)]),
    "ChannelsToFrames": (lambda **k: layers.ChannelsToFrames(3, **k), [(2, 8, 8, 12)]),
    "SelectFrames": (lambda **k: layers.SelectFrames(3, 1, 3, **k), [_shape(4)]),
    "InterleaveFrames": (
        lambda **k: layers.InterleaveFrames(3, **k),
        [_shape(4), _shape(4, frames=2)],
    ),
    "AddToFrames": (
        lambda **k: layers.AddToFrames(3, **k),
        [_shape(4), _shape(4, frames=1)],
    ),
    "BilinearUpsampling": (lambda **k: layers.BilinearUpsampling(4, **k), [_shape(4)]),
    "PadToMultiple": (lambda **k: layers.PadToMultiple(5, **k), [_shape(4)]),
    "CropToScale": (
        lambda **k: layers.CropToScale(2, **k),
        [_shape(4, side=20), _shape(3)],
    ),
    "AdaptiveAveragePooling": (
        lambda **k: layers.AdaptiveAveragePooling(3, **k),
        [_shape(4)],
    ),
    "AdaptiveAveragePooling-grids": (
        lambda **k: layers.AdaptiveAveragePooling((1, 2), **k),
        [_shape(4)],
    ),
    "PixelShuffle": (lambda **k: layers.PixelShuffle(2, **k), [_shape(8)]),
    "WindowAlignment": (
        lambda **k: layers.WindowAlignment(3, **k),
        [_shape(4), _shape(2)],
    ),
    "BilateralCorrelation": (
        lambda **k: layers.BilateralCorrelation(2, **k),
        [_shape(4), _shape(4)],
    ),
    "NoMotion": (layers.NoMotion, [_shape(6)]),
    "SampleBothSides": (
        lambda **k: layers.SampleBothSides(3, **k),
        [_shape(4), _shape(4), _shape(4)],
    ),
    "OcclusionBlend": (
        layers.OcclusionBlend,
        [_shape(4), _shape(4), _shape(1), _shape(4)],
    ),
    "LargeAlignment": (
        lambda **k: layers.LargeAlignment(2, **k),
        [_shape(3, side=4 * SIDE), _shape(2)],
    ),
    "LeftShare": (layers.LeftShare, [_shape(1), _shape(4)]),
    "PixelUnshuffle": (lambda **k: layers.PixelUnshuffle(2, **k), [_shape(4)]),
    "MotionAtTime": (
        lambda **k: layers.MotionAtTime(3, **k),
        [_shape(4), _shape(1), _shape(5), _shape(1, side=1)],
    ),
    "NeighbourMotion": (
        lambda **k: layers.NeighbourMotion(3, 2, 2, 6, 4, **k),
        [_shape(6), _shape(3)],
    ),
    "MotionToNeighbours": (
        lambda **k: layers.MotionToNeighbours(3, **k),
        [_shape(4, frames=2)],
    ),
    "JoinNeighbours": (
        lambda **k: layers.JoinNeighbours(3, **k),
        [_shape(4), *[_shape(4, frames=2)] * 2],
    ),
    "NeighbourFusion": (
        lambda **k: layers.NeighbourFusion(6, 3, 4, 5, 4, **k),
        [_shape(6), *[_shape(2, frames=2)] * 2],
    ),
    "StillNetwork-neighbours": (
        lambda **k: layers.StillNetwork(
            6,
            2,
            neighbours={
                "before": [1],
                "num_frames": 3,
                "moved_filters": 4,
                "hidden_filters": 5,
                "reach": 4,
            },
            **k,
        ),
        [_shape(3), *[_shape(2, frames=2)] * 2],
    ),
    "StillNetwork": (lambda **k: layers.StillNetwork(6, 1, **k), [_shape(3)]),
    "LargeInterpolation": (
        lambda **k: layers.LargeInterpolation(6, 2, **k),
        [
            *[_shape(3, side=4 * SIDE)] * 2,
            _shape(4),
            _shape(1),
            _shape(5),
        ],
    ),
    "MotionField": (
        lambda **k: layers.MotionField(6, levels=3, reach=4, **k),
        [_pyramid(4, 3), _pyramid(4, 3), _shape(3), _shape(3)],
    ),
    "FeaturePyramid": (lambda **k: layers.FeaturePyramid(6, 3, **k), [_shape(4)]),
    "PyramidAlignment": (
        lambda **k: layers.PyramidAlignment(4, 3, offset_groups=2, **k),
        [_pyramid(4, 3), _pyramid(4, 3)],
    ),
    "DeformableConv2D": (
        lambda **k: layers.DeformableConv2D(6, 3, offset_groups=2, **k),
        [_shape(4)],
    ),
    "FrameInterpolation-deformable": (
        lambda **k: layers.FrameInterpolation(4, 3, "deformable", offset_groups=2, **k),
        [_shape(4), _shape(3)],
    ),
    "FrameInterpolation-window": (
        lambda **k: layers.FrameInterpolation(4, 3, "window", levels=3, reach=4, **k),
        [_shape(4), _shape(3)],
    ),
    **{
        f"MemoryGraphAggregation-{memory}": (
            lambda memory=memory, **k: layers.MemoryGraphAggregation(
                4, 3, memory, descriptor_size=4, **k
            ),
            [_shape(4)],
        )
        for memory in ("bank", "recurrent", "intra")
    },
    **{
        f"NonLocalResidualBlock-{pool}": (
            lambda pool=pool, **k: layers.NonLocalResidualBlock(
                4, pool, bins=(1, 3), **k
            ),
            [_shape(4)],
        )
        for pool in ("pyramid", "full")
    },
    "ResidualBlock": (lambda **k: layers.ResidualBlock(4, **k), [_shape(4)]),
    "ProgressiveFusionBlock": (
        lambda **k: layers.ProgressiveFusionBlock(4, 3, **k),
        [_shape(4)],
    ),
    "Reconstruction-full": (
        lambda **k: layers.Reconstruction(4, 1, "full", **k),
        [_shape(4)],
    ),
    "Reconstruction-light": (
        lambda **k: layers.Reconstruction(4, 1, "light", 3, **k),
        [_shape(4)],
    ),
}


def _is_shape(value):
    return isinstance(value, tuple)


def _map(function, tree):
    return (
        [_map(function, item) for item in tree]
        if isinstance(tree, list)
        else function(tree)
    )


def _arguments(shapes, rng):
    return _map(lambda shape: rng.normal(size=shape).astype("float32"), shapes)


def _flat(outputs):
    return [
        np.asarray(keras.ops.convert_to_numpy(o)) for o in keras.tree.flatten(outputs)
    ]


def _assert_close(received, expected, tolerance):
    """Elementwise, relative to the largest expected value (at least 1)."""
    assert received.shape == expected.shape
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(received, expected, rtol=0, atol=tolerance * scale)


def _randomise(layer, rng):
    """Zero-initialised kernels would hide gradients and errors."""
    for weight in layer.weights:
        if weight.trainable:
            weight.assign(rng.normal(size=weight.shape, scale=0.1))


def _params():
    """The names of the cases; layers made of many others take long."""
    for name in CASES:
        slow = name.split("-")[0] in COMPOSITES
        yield pytest.param(name, marks=pytest.mark.slow if slow else ())


@pytest.fixture(params=_params(), ids=str)
def case(request):
    return CASES[request.param]


def test_every_exported_layer_has_a_case():
    covered = {name.split("-")[0] for name in CASES}
    inner = {
        # Cases of the layers that are made of them.
        "ChannelGraphAttention",
        "SpatialAttention",
        "DeformableInterpolation",
        "WindowInterpolation",
    }
    exported = {name for name in layers.__all__ if name[0].isupper()}
    assert exported == covered | inner


def test_config_and_keras_file_round_trip_give_the_same_outputs(case, rng, tmp_path):
    make, shapes = case
    layer = make(name="layer")
    inputs = _map(lambda shape: keras.Input(shape[1:], batch_size=shape[0]), shapes)
    model = keras.Model(inputs, layer(*inputs))
    _randomise(model, rng)
    values = _arguments(shapes, rng)
    expected = _flat(model(values))

    config = json.loads(json.dumps(layer.get_config()))
    assert type(layer).from_config(config).get_config() == layer.get_config()

    model.save(tmp_path / "layer.keras")
    loaded = keras.saving.load_model(tmp_path / "layer.keras", safe_mode=True)
    for received, wanted in zip(_flat(loaded(values)), expected, strict=True):
        np.testing.assert_array_equal(received, wanted)


def test_computed_shapes_are_the_actual_ones(case, rng):
    make, shapes = case
    layer = make()
    outputs = layer(*_arguments(shapes, rng))
    symbolic = make()(*_map(lambda s: keras.KerasTensor(s), shapes))
    assert [tuple(o.shape) for o in _flat(outputs)] == [
        tuple(o.shape) for o in keras.tree.flatten(symbolic)
    ]


def test_unknown_batch_and_size_at_build_time_change_nothing(case, rng):
    make, shapes = case
    values = _arguments(shapes, rng)
    layer = make()
    frames = len(shapes[0]) - 3 if isinstance(shapes[0], tuple) else 1
    unknown = _map(
        lambda s: (None, *s[1:frames], None, None, s[-1]),
        shapes,
    )
    inputs = _map(lambda shape: keras.Input(shape[1:]), unknown)
    model = keras.Model(inputs, layer(*inputs))
    _randomise(layer, rng)
    graph = tf.function(
        lambda *arguments: layer(*arguments),
        input_signature=_map(lambda s: tf.TensorSpec(s, "float32"), unknown),
    )
    expected = _flat(layer(*values))
    for received in (graph(*values), model(values)):
        for got, wanted in zip(_flat(received), expected, strict=True):
            _assert_close(got, wanted, 1e-5)


def test_gradients_reach_every_weight(case, rng):
    make, shapes = case
    layer = make()
    values = _map(tf.constant, _arguments(shapes, rng))
    layer(*values)
    _randomise(layer, rng)
    with tf.GradientTape() as tape:
        outputs = keras.tree.flatten(layer(*values))
        loss = sum(
            tf.reduce_sum(o * rng.normal(size=o.shape).astype("float32"))
            for o in outputs
        )
    variables = [weight.value for weight in layer.trainable_weights]
    gradients = tape.gradient(loss, variables)
    for weight, gradient in zip(layer.trainable_weights, gradients, strict=True):
        assert gradient is not None, weight.path
        assert np.all(np.isfinite(gradient)), weight.path
        assert np.abs(gradient).max() > 0, weight.path


def test_mixed_precision_computes_in_float16_and_keeps_float32_weights(case, rng):
    make, shapes = case
    layer = make(dtype="mixed_float16")
    exact = make()
    values = _arguments(shapes, rng)
    exact(*values)
    outputs = keras.tree.flatten(layer(*values))
    picture = type(layer).__name__ in PICTURES
    assert {o.dtype for o in outputs} == {tf.float32 if picture else tf.float16}
    assert {w.dtype for w in layer.weights} <= {"float32"}
    layer.set_weights(exact.get_weights())
    wanted = _flat(exact(*values))
    for got, want in zip(_flat(layer(*values)), wanted, strict=True):
        _assert_close(got, want, 0.03)


def test_one_clip_and_two_clips_give_the_same_frames(case, rng):
    """A batch of one takes the four-axes path; it must be the same function."""
    make, shapes = case
    if shapes == [(2, 3, 8, 8, 4)]:
        pytest.skip("FoldFrames has one path")
    layer = make()
    values = _arguments(shapes, rng)
    layer(*values)
    _randomise(layer, rng)
    both = _flat(layer(*values))
    first = _flat(layer(*_map(lambda v: v[: len(v) // CLIPS], values)))
    for one, two in zip(first, both, strict=True):
        _assert_close(one, two[: len(one)], 1e-5)

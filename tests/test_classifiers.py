"""VGG-BN has the published shapes and costs, and net2net changes it exactly."""

import keras
import numpy as np
import pytest

from keras_megan import net2net
from keras_megan.classifiers.vgg import VGG_BLOCKS, vgg_bn, vgg_widths
from tests.net2net.helpers import largest_difference, masked_copy, randomize, run

SMALL = {"width": 0.0625, "input_shape": (32, 32, 3), "classes": 5}


def cost_by_hand(widths, side, classes):
    """Multiply-adds and parameters of the network, from its definition alone."""
    macs = parameters = 0
    channels, block = 3, 1
    for name, filters in widths.items():
        if name[5] != str(block):
            block, side = int(name[5]), side // 2
        macs += side * side * 9 * channels * filters
        # Kernel, bias, and the four vectors of the batch normalisation.
        parameters += 9 * channels * filters + 5 * filters
        channels = filters
    inputs = (side // 2) ** 2 * channels
    return macs + inputs * classes, parameters + (inputs + 1) * classes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "mega_macs", "mega_parameters"),
    [(0.25, 101.0, 1.36), (0.5, 400.1, 5.22), (0.75, 897.4, 11.59), (1, 1592.9, 20.46)],
)
def test_vgg19_of_64_pixels_costs_what_is_known(width, mega_macs, mega_parameters):
    model = vgg_bn(19, width, (64, 64, 3), classes=200)
    macs, parameters = net2net.count_macs(model), net2net.count_params(model)
    assert round(macs / 1e6, 1) == mega_macs
    assert round(parameters / 1e6, 2) == mega_parameters
    assert (macs, parameters) == cost_by_hand(vgg_widths(19, width), 64, 200)
    assert model.count_params() == parameters


@pytest.mark.parametrize("depth", VGG_BLOCKS)
def test_the_depth_is_the_convolutions_and_three_dense_layers(depth):
    model = vgg_bn(depth, **SMALL)
    names = [x.name for x in model.layers if isinstance(x, keras.layers.Conv2D)]
    assert len(names) == depth - 3 and names == list(vgg_widths(depth))
    for kind in (keras.layers.BatchNormalization, keras.layers.ReLU):
        assert sum(isinstance(x, kind) for x in model.layers) == depth - 3
    assert model.output_shape == (None, 5) and model.name == f"vgg{depth}_bn"
    expected = cost_by_hand(vgg_widths(depth, 0.0625), 32, 5)
    assert (net2net.count_macs(model), net2net.count_params(model)) == expected


def test_widening_to_the_widths_of_another_network_is_exact(rng):
    narrow = randomize(vgg_bn(13, **SMALL))
    target = vgg_widths(13, 0.15)
    wide = net2net.widen(narrow, target).apply()
    assert {name: wide.get_layer(name).filters for name in target} == target
    images = rng.random((2, 32, 32, 3), np.float32)
    assert largest_difference(run(narrow, images), run(wide, images)) < 1e-5


def test_pruning_is_leaving_channels_out(rng):
    model = randomize(vgg_bn(11, **SMALL))
    images = rng.random((8, 32, 32, 3), np.float32)
    density = net2net.ActivationDensity(images)
    plan = net2net.prune(model, ratio=0.4, importance=density)
    pruned = plan.apply()
    assert pruned.count_params() < 0.6 * model.count_params()
    masked = masked_copy(plan)
    assert largest_difference(run(masked, images), run(pruned, images)) < 1e-5


def test_deepening_gives_the_layers_of_the_deeper_network(rng):
    model = randomize(vgg_bn(11, **SMALL))
    deeper = model
    for block in (1, 2):
        deeper = net2net.deepen(
            deeper, after=f"block{block}_relu1", name=f"block{block}_conv2"
        ).apply()
    assert net2net.count_macs(deeper) == net2net.count_macs(vgg_bn(13, **SMALL))
    wide = vgg_widths(13, 0.125)
    grown = net2net.widen(deeper, wide).apply()
    assert {name: grown.get_layer(name).filters for name in wide} == wide
    images = rng.random((2, 32, 32, 3), np.float32)
    assert largest_difference(run(model, images), run(deeper, images)) < 1e-6
    assert largest_difference(run(model, images), run(grown, images)) < 1e-5


def test_it_saves_and_loads(tmp_path, rng):
    model = vgg_bn(11, **SMALL)
    model.save(tmp_path / "vgg.keras")
    again = keras.saving.load_model(tmp_path / "vgg.keras", safe_mode=True)
    images = rng.random((2, 32, 32, 3), np.float32)
    assert largest_difference(run(model, images), run(again, images)) == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 12}, r"depth must be one of \[11, 13, 16, 19\]; received 12"),
        ({"width": 0}, "width must be a positive number"),
        ({"input_shape": (16, 64, 3)}, "sides of at least 32 pixels"),
        ({"input_shape": (None, 64, 3)}, "sides of at least 32 pixels"),
        ({"input_shape": (64, 64)}, "must be .height, width, channels."),
        ({"classes": 0}, "classes must be positive"),
    ],
)
def test_arguments_that_make_no_network_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        vgg_bn(**{"depth": 11, **SMALL, **arguments})

"""Multiply-adds, against loops over the definition and published numbers."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_megan import net2net
from keras_megan.net2net.channels.channel_graph import ChannelGraph
from keras_megan.net2net.counting.macs import UnknownCostError
from keras_megan.net2net.counting.under_plan import macs_under
from keras_megan.net2net.tracing.graph import TraceError
from tests.net2net.motifs import MOTIFS


def single(layer, *shapes, count=None):
    entries = [keras.Input(shape) for shape in shapes]
    model = keras.Model(entries, layer(*entries))
    return net2net.count_macs(model)


def products_of_convolution(size, kernel, stride, inputs, filters, groups):
    """Counts the products of a 'valid' 2-D convolution one by one."""
    count = 0
    steps = range(0, size - kernel + 1, stride)
    for _ in itertools.product(steps, steps):
        for output in range(filters):
            group = output * groups // filters
            for channel in range(inputs):
                if channel * groups // inputs == group:
                    count += kernel * kernel
    return count


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "inputs", "filters", "groups"),
    [(7, 3, 1, 4, 6, 1), (8, 3, 2, 4, 6, 2), (5, 2, 1, 3, 3, 3)],
)
def test_convolutions_count_every_product(
    size, kernel, stride, inputs, filters, groups
):
    layer = layers.Conv2D(filters, kernel, stride, groups=groups)
    expected = products_of_convolution(size, kernel, stride, inputs, filters, groups)
    assert single(layer, (size, size, inputs)) == expected


@pytest.mark.parametrize(
    ("layer", "shapes", "expected"),
    [
        (layers.Dense(4), [(3, 5)], 3 * 5 * 4),
        (layers.Conv1D(4, 3), [(8, 5)], 6 * 3 * 5 * 4),
        (layers.Conv3D(4, 2), [(3, 3, 3, 5)], 8 * 8 * 5 * 4),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), [(5, 5, 4)], 9 * 9 * 4 * 2),
        (layers.SeparableConv2D(6, 3), [(5, 5, 4)], 9 * (9 * 4 + 4 * 6)),
        (layers.Conv2DTranspose(6, 3, 2), [(5, 5, 4)], 25 * 9 * 4 * 6),
        (layers.EinsumDense("abc,cde->abde", (None, 2, 3)), [(4, 5)], 4 * 5 * 6),
        (layers.EinsumDense("...x,xy->...y", 3), [(4, 5)], 4 * 5 * 3),
        (layers.LSTM(4), [(3, 5)], 3 * 16 * (5 + 4)),
        (layers.GRU(4), [(3, 5)], 3 * 12 * (5 + 4)),
        (layers.Bidirectional(layers.LSTM(4)), [(3, 5)], 2 * 3 * 16 * 9),
        (layers.TimeDistributed(layers.Dense(4)), [(3, 5)], 3 * 20),
        (
            layers.ConvLSTM2D(4, 3, padding="same", return_sequences=True),
            [(2, 5, 5, 3)],
            2 * 25 * 9 * 16 * (3 + 4),
        ),
        (layers.ConvLSTM2D(4, 3, padding="same"), [(2, 5, 5, 3)], 2 * 25 * 9 * 16 * 7),
        (
            layers.MultiHeadAttention(2, 3, value_dim=4),
            [(5, 6), (7, 6)],
            5 * 36 + 7 * 36 + 7 * 48 + 5 * 48 + 5 * 7 * 6 + 5 * 7 * 8,
        ),
        (
            layers.GroupQueryAttention(3, 4, 2),
            [(5, 6), (7, 6)],
            5 * 72 + 2 * 7 * 36 + 5 * 72 + 2 * 5 * 7 * 12,
        ),
        (layers.BatchNormalization(), [(5, 5, 4)], 0),
        (layers.LayerNormalization(axis=[1, 2]), [(5, 4)], 0),
    ],
)
def test_layers_by_hand(layer, shapes, expected):
    assert single(layer, *shapes) == expected


def test_raw_products():
    x = entry = keras.Input((4, 5))
    y = ops.matmul(x, ops.transpose(x, (0, 2, 1)))
    z = ops.einsum("bij,bjc->bic", y, x)
    assert net2net.count_macs(keras.Model(entry, z)) == 2 * 16 * 5


@pytest.mark.slow
def test_published_counts():
    # keras.io and the papers: VGG16 15.5 GMAC / 138.36 M, MobileNet 0.57 / 4.25 M.
    for build, gmac, parameters in (
        (keras.applications.VGG16, 15.47, 138.357544),
        (keras.applications.MobileNet, 0.569, 4.253864),
    ):
        model = build(weights=None)
        assert net2net.count_macs(model) / 1e9 == pytest.approx(gmac, rel=1e-3)
        assert net2net.count_params(model) / 1e6 == pytest.approx(parameters)


def test_open_sizes_come_from_input_shape():
    entry = keras.Input((None, None, 3))
    model = keras.Model(entry, layers.Conv2D(4, 1)(entry))
    assert net2net.count_macs(model, (5, 6, 3)) == 30 * 12
    with pytest.raises(TraceError, match="pass input_shape"):
        net2net.count_macs(model)
    with pytest.raises(TraceError, match="received input_shape"):
        net2net.count_macs(model, (5, 6, 4))


def test_several_inputs_by_list_and_by_name():
    a, b = keras.Input((None, 2), name="a"), keras.Input((None, 3), name="b")
    x, y = layers.Dense(4)(a), layers.Dense(5)(b)
    model = keras.Model([a, b], [x, y])
    expected = 7 * 8 + 9 * 15
    assert net2net.count_macs(model, [(7, 2), (9, 3)]) == expected
    assert net2net.count_macs(model, {"b": (9, 3), "a": (7, 2)}) == expected
    with pytest.raises(TraceError, match="has the inputs"):
        net2net.count_macs(model, {"a": (7, 2), "c": (9, 3)})


def test_shared_layers_count_per_call_and_own_weights_once():
    model = MOTIFS["shared_layer"]()
    convolution = next(x for x in model.layers if isinstance(x, layers.Conv2D))
    assert net2net.count_params(model) == model.count_params()
    assert net2net.count_macs(model) == 36 * (3 * 4 + 2 * 9 * 16 + 12) + 9
    assert convolution is not None


def test_a_layer_with_matrices_and_no_count_is_refused(monkeypatch):
    from keras_megan.net2net.counting import macs as count
    from keras_megan.net2net.rules.base import RULES

    monkeypatch.setattr(RULES, "_entries", dict(RULES._entries))
    monkeypatch.setattr(count._MACS, "_entries", dict(count._MACS._entries))

    class Mix(layers.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(shape[-1], 3), name="kernel")

        def call(self, x):
            return ops.matmul(x, self.kernel)

    net2net.register_rule(Mix)(lambda site: site.inputs[0])
    entry = keras.Input((5,))
    model = keras.Model(entry, Mix()(entry))
    with pytest.raises(UnknownCostError, match="register_macs.Mix"):
        net2net.count_macs(model)
    net2net.register_macs(Mix)(lambda call: 5 * call.weight(call.operation.kernel)[1])
    assert net2net.count_macs(model) == 15


@pytest.mark.parametrize(
    "name",
    ["squeeze_and_excite", "depthwise_multiplier", "multi_head_attention", "conv_lstm"],
)
def test_predicted_cost_of_a_plan_is_the_cost_of_the_model_it_makes(name):
    graph = ChannelGraph(MOTIFS[name](), count=True)
    plan = net2net.widen(graph, factor=1.5)
    built = plan.apply()
    assert plan.parameters == net2net.count_params(built)
    assert macs_under(graph, plan.sizes) == net2net.count_macs(built)
    assert np.isfinite(plan.parameters)

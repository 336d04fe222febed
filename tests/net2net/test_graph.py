"""Laying a model out flat: what is inlined, what is kept, what is refused."""

import keras
import pytest
from keras import layers, ops

from keras_megan import net2net
from keras_megan.net2net.channels.channel_graph import UnknownOperationError
from keras_megan.net2net.channels.whole import SharedVariableError
from keras_megan.net2net.rewriting.weights_layers import BalancedNormalization
from keras_megan.net2net.tracing.graph import TraceError
from tests.net2net.helpers import largest_difference, random_inputs, randomize, run
from tests.net2net.motifs import MOTIFS, Scale, head, through


def names(model):
    return [call.name for call in net2net.ChannelGraph(model).graph.calls]


def test_composite_layers_are_inlined_with_their_path():
    x = entry = keras.Input((6, 6, 3))
    model = keras.Model(entry, head(Scale(name="block")(layers.Conv2D(4, 1)(x))))
    found = names(model)
    assert any(n.startswith("block/conv2d") for n in found)
    assert not any(n == "block" for n in found)


def test_tracing_leaves_no_mark_on_the_model():
    model = MOTIFS["nested_models"]()
    before = {
        layer.name: (len(layer._inbound_nodes), len(layer._outbound_nodes))
        for layer in model._flatten_layers()
    }
    config = model.get_config()
    net2net.widen(model, factor=2).apply()
    after = {
        layer.name: (len(layer._inbound_nodes), len(layer._outbound_nodes))
        for layer in model._flatten_layers()
    }
    assert before == after and config == model.get_config()


def test_subclassed_model_is_rewritten_as_a_functional_one():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.first = layers.Conv2D(4, 3, activation="relu")
            self.last = layers.Dense(2)

        def call(self, x, training=None):
            x = self.first(x, training=training)
            return self.last(ops.mean(x, axis=(1, 2)))

    model = Net()
    inputs = random_inputs(keras.Model(*[keras.Input((6, 6, 3))] * 2))
    run(model, inputs)
    randomize(model)
    graph = net2net.ChannelGraph(model, input_shape=(6, 6, 3))
    wide = net2net.widen(graph, factor=2).apply()
    one = inputs[:1]
    assert largest_difference(run(model, one), run(wide, one)) <= 1e-6


def test_a_subclass_that_only_renames_inherits_the_rule():
    class MyConv(layers.Conv2D):
        pass

    model = through(MyConv(4, 3, name="mine"))
    assert "mine" in names(model)


def test_a_subclass_that_overrides_call_does_not():
    class Doubled(layers.Dense):
        def call(self, inputs):
            return 2 * ops.matmul(inputs, self.kernel) + self.bias

    x = entry = keras.Input((5,))
    model = keras.Model(entry, layers.Dense(2)(Doubled(4, name="mine")(x)))
    randomize(model)
    assert "mine" not in names(model)
    inputs = random_inputs(model)
    wide = net2net.widen(model, factor=2).apply()
    assert largest_difference(run(model, inputs), run(wide, inputs)) <= 1e-6


def test_custom_activation_functions_are_inlined():
    def cubic(x):
        return x * x * x

    x = entry = keras.Input((5,))
    x = layers.Activation(cubic, name="cubic")(layers.Dense(4)(x))
    model = randomize(keras.Model(entry, layers.Dense(2)(x)))
    inputs = random_inputs(model)
    wide = net2net.widen(model, factor=2).apply()
    assert largest_difference(run(model, inputs), run(wide, inputs)) <= 1e-6


def test_a_mixing_activation_function_freezes_what_it_mixes():
    def center(x):
        return x - ops.std(x, axis=-1, keepdims=True)

    x = entry = keras.Input((5,))
    x = layers.Dense(4, activation=center, name="mixed")(x)
    model = keras.Model(entry, layers.Dense(2)(layers.Dense(3, name="free")(x)))
    groups = net2net.ChannelGraph(model).groups
    assert [group.name for group in groups] == ["free.units"]


def test_one_channel_operands_are_not_coupled():
    graph = net2net.ChannelGraph(MOTIFS["one_channel_mask"]())
    sizes = {group.name: group.size for group in graph.groups}
    assert 1 not in sizes.values() and len(sizes) == 2


def test_mask_and_embedding_of_sequences_keep_working():
    x = entry = keras.Input((5,), dtype="int32")
    x = layers.Embedding(7, 4, mask_zero=True)(x)
    model = randomize(keras.Model(entry, layers.Dense(2)(layers.LSTM(3)(x))))
    inputs = random_inputs(model, batch=6)
    inputs[:, 3:] = 0
    wide = net2net.widen(model, factor=2).apply()
    assert largest_difference(run(model, inputs), run(wide, inputs)) <= 1e-6


def test_mixed_precision_policies_are_kept():
    x = entry = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, dtype="mixed_float16", name="half")(x)
    model = keras.Model(entry, head(layers.Conv2D(3, 1, dtype="float32")(x)))
    wide = net2net.widen(model, factor=2).apply()
    assert wide.get_layer("half").dtype_policy.name == "mixed_float16"
    assert wide.get_layer("half").kernel.dtype == "float32"


def test_frozen_layers_stay_frozen_and_regularizers_stay():
    model = through(layers.Conv2D(4, 3, kernel_regularizer="l2", name="kept"))
    model.get_layer("kept").trainable = False
    wide = net2net.widen(model, factor=2).apply()
    assert not wide.get_layer("kept").trainable
    assert wide.get_layer("kept").kernel_regularizer is not None


# === Refusals =========================================================================
def test_unknown_operation_is_named_with_the_lines_that_register_it():
    x = entry = keras.Input((6, 6, 4))
    x = ops.argsort(layers.Conv2D(4, 1)(x), axis=-1)
    with pytest.raises(UnknownOperationError) as raised:
        net2net.widen(keras.Model(entry, x), factor=2, strict=True)
    text = str(raised.value)
    assert "Argsort" in text and '@net2net.register_rule("ops.Argsort")' in text


def test_lambda_with_backend_code_is_refused_with_a_hint_if_strict():
    layer = layers.Lambda(lambda x: x.numpy(), output_shape=lambda shape: shape)
    x = entry = keras.Input((5,))
    model = keras.Model(entry, layers.Dense(2)(layer(layers.Dense(4)(x))))
    with pytest.raises(UnknownOperationError, match="register_rule"):
        net2net.ChannelGraph(model, strict=True)


def test_unbuilt_model_is_refused():
    with pytest.raises(TraceError, match="not built"):
        net2net.ChannelGraph(keras.Sequential([layers.Dense(3)]))


def test_variable_of_two_layers_is_refused():
    a, b = layers.Dense(4), layers.Dense(4)
    x = entry = keras.Input((4,))
    model = keras.Model(entry, layers.Dense(2)(b(a(x))))
    vars(b)["_kernel"] = a._kernel
    b._tracker.unlock()
    b._trainable_variables[0] = a._kernel
    with pytest.raises(SharedVariableError, match="two layers"):
        net2net.ChannelGraph(model)


# === Registering ======================================================================
def test_a_registered_rule_makes_a_leaf_of_a_layer(monkeypatch):
    from keras_megan.net2net.rules.base import RULES

    monkeypatch.setattr(RULES, "_entries", dict(RULES._entries))

    @keras.saving.register_keras_serializable("net2net_tests")
    class Mix(layers.Layer):
        def __init__(self, units, **kwargs):
            super().__init__(**kwargs)
            self.units = units

        def build(self, shape):
            self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")

        def call(self, x):
            return ops.tanh(ops.matmul(x, self.kernel))

        def get_config(self):
            return {**super().get_config(), "units": self.units}

    @net2net.register_rule(Mix)
    def mix(site):
        *others, channels = site.inputs[0]
        units = site.new("units", site.operation.units)
        site.setting("units", units)
        axes = {0: net2net.reads(channels), 1: net2net.writes(units)}
        site.weight(site.operation.kernel, axes)
        return [*others, units]

    model = randomize(through(Mix(4, name="mix")))
    inputs = random_inputs(model)
    plan = net2net.widen(model, {"mix": 7})
    wide = plan.apply()
    assert isinstance(wide.get_layer("mix"), Mix)
    assert wide.get_layer("mix").units == 7
    assert largest_difference(run(model, inputs), run(wide, inputs)) <= 1e-6


def test_a_model_class_can_come_back_as_itself():
    class Pair(keras.Model):
        def __init__(self, width):
            x = entry = keras.Input((5,))
            x = layers.Dense(width, activation="relu", name="hidden")(x)
            super().__init__(entry, layers.Dense(2)(x))
            self.width = width

    @net2net.register_model_rebuilder(Pair)
    def rebuild(plan):
        return Pair(plan.width("hidden"))

    model = randomize(Pair(4))
    wide = net2net.widen(model, factor=1.5).apply()
    assert type(wide) is Pair and wide.width == 6
    inputs = random_inputs(model)
    assert largest_difference(run(model, inputs), run(wide, inputs)) <= 1e-6


def test_balanced_normalization_of_copies_is_the_layer_norm_of_the_originals():
    x = random_inputs(keras.Model(*[keras.Input((3, 4))] * 2))
    source = [0, 1, 2, 3, 3, 0, 3]
    layer = BalancedNormalization(axis=-1, count=4, epsilon=1e-2)
    layer.build((None, 3, 7))
    layer.balance.assign([1 / 2, 1, 1, 1 / 3, 1 / 3, 1 / 2, 1 / 3])
    plain = layers.LayerNormalization(epsilon=1e-2)
    expected = run(plain, x)[0][..., source]
    assert largest_difference([expected], run(layer, x[..., source])) <= 1e-6

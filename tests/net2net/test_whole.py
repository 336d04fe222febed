"""Layers that stay whole: what is not understood is kept, and keeps being exact."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_megan import net2net
from keras_megan.net2net.channels.channel_graph import UnknownOperationError
from tests.net2net.helpers import largest_difference, random_inputs, randomize, run


def register(cls):
    return keras.saving.register_keras_serializable("net2net_whole")(cls)


def widened(model, factor=1.5):
    plan = net2net.widen(model, factor)
    return plan, plan.apply()


def sandwich(*middle, width=4, features=5):
    """A dense layer, what is under test, a dense layer that is free to change."""
    x = entry = keras.Input((features,))
    x = layers.Dense(width, activation="relu", name="before")(x)
    for layer in middle:
        x = layer(x)
    x = layers.Dense(6, activation="tanh", name="free")(x)
    return randomize(keras.Model(entry, layers.Dense(2)(x)))


def assert_exact(model, wide, inputs=None, bound=2e-6):
    inputs = random_inputs(model) if inputs is None else inputs
    assert largest_difference(run(model, inputs), run(wide, inputs)) <= bound


@register
class Sorted(layers.Layer):
    def call(self, x):
        return ops.argsort(x, axis=-1)


def test_an_operation_without_a_rule_freezes_what_it_touches_and_is_named_on_top():
    x = entry = keras.Input((5,))
    x = layers.Dense(4, name="before")(x)
    x = ops.cast(ops.argsort(x, axis=-1), "float32")
    x = layers.Dense(6, name="free")(x)
    model = randomize(keras.Model(entry, layers.Dense(2)(x)))
    plan, wide = widened(model)
    assert [group.name for group in plan.maps] == ["free.units"]
    second = str(plan).splitlines()[1]
    assert second.strip().startswith("stays: ") and "Argsort" in second
    assert_exact(model, wide)


@register
class BackendCode(layers.Layer):
    """Its call cannot run on symbolic tensors."""

    def call(self, x):
        if isinstance(x, keras.KerasTensor):
            raise TypeError("not on symbolic tensors")
        return 2.0 * x

    def compute_output_shape(self, shape):
        return shape


def test_a_layer_that_cannot_be_laid_out_is_kept():
    model = sandwich(BackendCode(name="odd"))
    plan, wide = widened(model)
    assert isinstance(wide.get_layer("odd"), BackendCode)
    assert "odd" in plan.graph.fixed and len(plan.maps) == 1
    assert_exact(model, wide)
    with pytest.raises(UnknownOperationError, match="odd"):
        net2net.widen(model, 1.5, strict=True)


@register
class HalvedInTraining(layers.Layer):
    def call(self, x, training=None):
        return 0.5 * x if training else x


def test_a_layer_that_differs_in_training_comes_back_as_itself_around_wider_tensors():
    model = sandwich(HalvedInTraining(name="half"))
    plan, wide = widened(model)
    assert {group.name for group in plan.maps} == {"before.units", "free.units"}
    for training in (False, True):
        inputs = random_inputs(model)
        expected = run(model, inputs, training=training)
        assert largest_difference(expected, run(wide, inputs, training)) <= 2e-6


@register
class MixesInTraining(layers.Layer):
    """Centres its channels, but only in training."""

    def call(self, x, training=None):
        return x - ops.std(x, axis=-1, keepdims=True) if training else x


def test_what_training_mixes_is_frozen_although_inference_does_not():
    model = sandwich(MixesInTraining(name="mixes"))
    plan, wide = widened(model)
    assert [group.name for group in plan.maps] == ["free.units"]
    inputs = random_inputs(model)
    expected = run(model, inputs, training=True)
    assert largest_difference(expected, run(wide, inputs, training=True)) <= 2e-6


@register
class OnlyUsedInTraining(layers.Layer):
    def build(self, shape):
        self.shift = self.add_weight(shape=(shape[-1],), name="shift")

    def call(self, x, training=None):
        return x + self.shift if training else x


def test_a_weight_that_only_training_uses_stays():
    model = sandwich(OnlyUsedInTraining(name="shifts"))
    _, wide = widened(model)
    np.testing.assert_array_equal(
        model.get_layer("shifts").shift.numpy(), wide.get_layer("shifts").shift.numpy()
    )
    inputs = random_inputs(model)
    expected = run(model, inputs, training=True)
    assert largest_difference(expected, run(wide, inputs, training=True)) <= 2e-6


# === Sizes that are computed with =====================================================
@register
class ClassToken(layers.Layer):
    """Prepends a token, by the size of the batch."""

    def build(self, shape):
        self.token = self.add_weight(shape=(1, 1, shape[-1]), name="token")

    def call(self, x):
        token = ops.broadcast_to(self.token, (ops.shape(x)[0], 1, ops.shape(x)[2]))
        return ops.concatenate([token, x], axis=1)


@register
class Patches(layers.Layer):
    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def call(self, x):
        batch, height, width, channels = ops.shape(x)
        rows, columns = height // self.size, width // self.size
        x = ops.reshape(x, (batch, rows, self.size, columns, self.size, channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (batch, rows * columns, self.size**2 * channels))

    def get_config(self):
        return {**super().get_config(), "size": self.size}


def test_a_vision_transformer_of_own_layers():
    x = entry = keras.Input((6, 6, 3))
    x = layers.Dense(8, name="stream")(Patches(2)(x))
    x = ClassToken()(x)
    y = layers.LayerNormalization()(x)
    x = x + layers.MultiHeadAttention(2, 4, name="attention")(y, y)
    y = layers.LayerNormalization()(x)
    x = x + layers.Dense(8)(layers.Dense(10, activation="gelu", name="wide")(y))
    model = randomize(keras.Model(entry, layers.Dense(3)(x[:, 0])))
    plan, wide = widened(model)
    names = {group.name for group in plan.maps}
    assert {"wide.units", "attention.num_heads", "attention.key_dim"} <= names
    assert_exact(model, wide, bound=2e-5)
    assert wide.input_shape[0] is None
    small = net2net.prune(model, 0.4).apply()
    assert run(small, random_inputs(model, batch=3))[0].shape == (3, 3)


def test_a_subclassed_model_keeps_an_open_batch_size():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.first = layers.Dense(6, activation="relu")
            self.last = layers.Dense(2)

        def call(self, x):
            x = self.first(ops.reshape(x, (ops.shape(x)[0], -1)))
            return self.last(x)

    model = Net()
    x = np.random.default_rng(0).normal(size=(4, 3, 2)).astype("float32")
    run(model, x)
    randomize(model)
    graph = net2net.ChannelGraph(model, input_shape=(3, 2))
    wide = net2net.widen(graph, 1.5).apply()
    assert_exact(model, wide, x)


# === Legal Keras that tracing must bear ===============================================
@register
class NoTraining(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Dense(4)

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x)


@register
class WithCache(layers.Layer):
    """Returns None beside its output, as attention layers without a cache do."""

    def call(self, x, cache=None):
        return ops.tanh(x), cache


@register
class Outer(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.second = NoTraining(), WithCache()

    def build(self, shape):
        self.first.build(shape)

    def call(self, x, training=None):
        x = self.first(x, training=training)
        x, _ = self.second(x)
        return x

    def compute_output_shape(self, shape):
        return shape


def test_training_for_a_layer_without_it_and_layers_that_return_none():
    model = sandwich(Outer(name="outer"))
    plan, wide = widened(model)
    assert len(plan.maps) == 3
    assert_exact(model, wide)


@register
class Tied(layers.Layer):
    def __init__(self):
        super().__init__()
        self.table = layers.Embedding(7, 4)
        self.mix = layers.Dense(4)

    def build(self, shape):
        self.table.build(shape)
        self.mix.build((None, None, 4))

    def call(self, x):
        x = self.mix(self.table(x))
        return ops.matmul(x, ops.transpose(self.table.embeddings))


def test_a_tied_embedding_stays_tied():
    entry = keras.Input((3,), dtype="int32")
    x = Tied()(entry)
    x = layers.Dense(6, name="free")(layers.Flatten()(x))
    model = randomize(keras.Model(entry, layers.Dense(2)(x)))
    plan, wide = widened(model)
    assert [group.name for group in plan.maps] == ["free.units"]
    assert isinstance(wide.layers[1], Tied)
    assert_exact(model, wide)


# === Again and again ==================================================================
@register
class ReZero(layers.Layer):
    def build(self, shape):
        self.alpha = self.add_weight(shape=(), name="alpha")

    def call(self, x, y):
        return x + self.alpha * y


def test_a_scalar_weight_survives_pruning_twice():
    x = entry = keras.Input((5,))
    x = layers.Dense(8, name="before")(x)
    x = ReZero(name="zero")(x, layers.Dense(8, activation="tanh")(x))
    model = randomize(keras.Model(entry, layers.Dense(2)(x)))
    for _ in range(3):
        smaller = net2net.prune(model, ratio=0.3).apply()
        assert net2net.count_params(smaller) < net2net.count_params(model)
        model = smaller


@register
class Balanced(layers.Layer):
    """Adds a loss of its own in training, as a mixture of experts does."""

    def __init__(self, inner=6, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner
        self.up, self.down = layers.Dense(inner, name="up"), layers.Dense(4)

    def build(self, shape):
        self.up.build(shape)
        self.down.build((*shape[:-1], self.inner))

    def call(self, x, training=None):
        y = ops.relu(self.up(x))
        if training:
            self.add_loss(0.1 * ops.mean(ops.square(y)))
        return x + self.down(y)

    def get_config(self):
        return {**super().get_config(), "inner": self.inner}


def test_a_layer_that_adds_a_loss_in_training_keeps_it_and_changes_its_width():
    model = sandwich(Balanced(name="balanced"))
    plan, wide = widened(model)
    assert wide.get_layer("balanced").inner == 9
    assert "adds a loss" in plan.graph.fixed["balanced"]
    assert_exact(model, wide)
    wide(random_inputs(wide), training=True)
    assert len(wide.losses) == 1


# === What models hold beside their operations =========================================
def test_a_layer_made_with_a_policy_needs_no_get_config():
    policy = keras.DTypePolicy("float32")
    model = sandwich(layers.Identity(dtype=policy, name="nothing"))
    with pytest.raises(NotImplementedError):
        model.get_layer("nothing").get_config()
    plan, wide = widened(model)
    assert plan.maps
    assert_exact(model, wide)


class NumberedPositions(layers.Layer):
    """Adds an embedding of positions, whose numbers are a weight."""

    def build(self, shape):
        self.numbers = self.add_weight(
            shape=(1, shape[1]), dtype="int32", trainable=False, name="numbers"
        )
        self.numbers.assign(np.arange(shape[1])[None])
        self.table = self.add_weight(shape=shape[1:], name="table")

    def call(self, x):
        return x + ops.take(self.table, self.numbers, axis=0)


def test_whole_numbers_among_the_weights_stay_whole_numbers():
    entry = keras.Input((5, 3))
    x = NumberedPositions()(layers.Dense(6, name="before")(entry))
    model = randomize(keras.Model(entry, layers.Dense(2)(x)))
    plan, wide = widened(model)
    assert plan.maps
    assert_exact(model, wide)


@register
class Table(layers.Layer):
    """Gives a table that depends on nothing but the width of its input."""

    def call(self, x):
        return ops.convert_to_tensor(np.linspace(-1, 1, x.shape[-1], dtype="float32"))


def test_operations_on_what_a_layer_makes_of_nothing():
    x = entry = keras.Input((5,))
    x = layers.Dense(4, name="before")(x)
    x = layers.Dense(6, name="free")(x + ops.expand_dims(Table()(x), 0))
    model = randomize(keras.Model(entry, layers.Dense(2)(x)))
    plan, wide = widened(model)
    assert plan.maps
    assert_exact(model, wide)


def test_layers_that_hang_on_a_model_without_being_called_do_not_matter():
    whole = sandwich(layers.ReLU())
    part = keras.Model(whole.input, whole.get_layer("free").output)
    x = layers.Dense(2)(part.output)
    model = keras.Model(part.input, x)
    model.whole = whole
    plan, wide = widened(model)
    assert {group.name for group in plan.maps} == {"before.units", "free.units"}
    assert_exact(model, wide)

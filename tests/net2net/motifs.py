"""Small models, one per motif that channels can pass through.

Every entry of `MOTIFS` is a function without arguments that returns a model. The
first layer before the motif is free to change, and so is what follows it, so that the
motif is in the middle of what a plan rewrites.
"""

import keras
from keras import layers, ops

MOTIFS = {}


def motif(function):
    """Enters a function into the table."""
    MOTIFS[function.__name__] = function
    return function


def image(size=6, channels=3):
    return keras.Input((size, size, channels))


def head(x):
    """A readout that makes everything before it free."""
    while len(x.shape) > 2:
        x = layers.GlobalAveragePooling2D()(x) if len(x.shape) == 4 else ops.mean(x, 1)
    return layers.Dense(3)(x)


def through(*stack, size=6, before=4):
    """A convolution, the layers under test, a convolution, a readout."""
    x = entry = image(size)
    x = layers.Conv2D(before, 3, padding="same", activation="relu")(x)
    for layer in stack:
        x = layer(x)
    x = layers.Conv2D(5, 1)(x)
    return keras.Model(entry, head(x))


# === Convolutions =====================================================================
@motif
def conv2d_strided():
    return through(layers.Conv2D(6, 3, strides=2, activation="tanh"))


@motif
def conv2d_dilated_without_bias():
    return through(layers.Conv2D(6, 3, dilation_rate=2, use_bias=False))


@motif
def conv2d_grouped():
    return through(layers.Conv2D(6, 3, groups=2), before=4)


@motif
def conv2d_grouped_twice():
    return through(
        layers.Conv2D(12, 3, groups=2), layers.Conv2D(12, 1, groups=3), before=8
    )


@motif
def conv2d_as_depthwise():
    return through(layers.Conv2D(8, 3, groups=4), before=4)


@motif
def conv1d():
    x = entry = keras.Input((9, 2))
    x = layers.Conv1D(4, 3, activation="gelu")(x)
    x = layers.Conv1D(4, 3, padding="causal")(x)
    return keras.Model(entry, layers.Dense(2)(layers.GlobalMaxPooling1D()(x)))


@motif
def conv3d():
    x = entry = keras.Input((4, 4, 4, 2))
    x = layers.Conv3D(3, 2, activation="relu")(x)
    x = layers.Conv3D(4, 2)(layers.ZeroPadding3D(1)(x))
    return keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling3D()(x)))


@motif
def conv2d_transposed():
    return through(layers.Conv2DTranspose(6, 3, strides=2, activation="relu"))


@motif
def conv1d_transposed():
    x = entry = keras.Input((5, 2))
    x = layers.Conv1DTranspose(4, 3, strides=2)(layers.Conv1D(3, 1)(x))
    return keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@motif
def conv3d_transposed():
    x = entry = keras.Input((3, 3, 3, 2))
    x = layers.Conv3DTranspose(3, 2, activation="relu")(layers.Conv3D(3, 1)(x))
    return keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling3D()(x)))


@motif
def depthwise():
    return through(layers.DepthwiseConv2D(3, activation="relu"))


@motif
def depthwise_multiplier():
    return through(layers.DepthwiseConv2D(3, depth_multiplier=3))


@motif
def depthwise_multiplier_meets_addition():
    x = entry = image()
    x = layers.Conv2D(4, 3, padding="same")(x)
    y = layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(x)
    z = layers.Conv2D(8, 1)(x)
    return keras.Model(entry, head(layers.Conv2D(3, 1)(layers.Add()([y, z]))))


@motif
def depthwise1d():
    x = entry = keras.Input((7, 2))
    x = layers.DepthwiseConv1D(3, depth_multiplier=2)(layers.Conv1D(3, 1)(x))
    return keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@motif
def separable():
    return through(layers.SeparableConv2D(6, 3, depth_multiplier=2))


@motif
def separable1d():
    x = entry = keras.Input((7, 2))
    x = layers.SeparableConv1D(5, 3)(layers.Conv1D(3, 1)(x))
    return keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@motif
def channels_as_tokens_reduced():
    x = entry = image()
    x = layers.Conv2D(4, 3)(x)
    gate = ops.max(x, axis=-1, keepdims=True)
    mean = ops.mean(x, axis=-1, keepdims=True)
    x = x * ops.sigmoid(
        layers.Conv2D(1, 3, padding="same")(ops.concatenate([gate, mean], -1))
    )
    return keras.Model(entry, head(layers.Conv2D(3, 1)(x)))


# === Dense and products ===============================================================
@motif
def mlp():
    x = entry = keras.Input((5,))
    for units in (7, 6):
        x = layers.Dense(units, activation="silu")(x)
    return keras.Model(entry, layers.Dense(2)(x))


@motif
def flatten_then_dense():
    return through(layers.Flatten(), layers.Dense(5), layers.Reshape((1, 1, 5)), size=3)


@motif
def dense_then_image():
    x = entry = keras.Input((4,))
    x = layers.Reshape((3, 3, 5))(layers.Dense(45, activation="relu")(x))
    return keras.Model(entry, head(layers.Conv2D(4, 2)(x)))


@motif
def einsum_dense():
    x = entry = keras.Input((4, 5))
    x = layers.Dense(6)(x)
    x = layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de")(x)
    x = layers.EinsumDense("abde,def->abf", (None, 4), bias_axes="f")(x)
    x = layers.EinsumDense("...x,xy->...y", 5, activation="relu")(x)
    return keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@motif
def attention_by_hand():
    x = entry = keras.Input((4, 5))
    q, k, v = (layers.Dense(6)(x) for _ in range(3))
    scores = ops.softmax(ops.matmul(q, ops.transpose(k, (0, 2, 1))) / 2.0)
    x = layers.Dense(4)(ops.matmul(scores, v))
    return keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@motif
def einsum_attention_by_hand():
    x = entry = keras.Input((4, 6))
    q, k, v = (layers.Reshape((4, 2, 3))(layers.Dense(6)(x)) for _ in range(3))
    scores = ops.softmax(ops.einsum("bqhd,bkhd->bhqk", q, k))
    x = ops.einsum("bhqk,bkhd->bqhd", scores, v)
    x = layers.Dense(4)(layers.Reshape((4, 6))(x))
    return keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@motif
def dot_layer():
    x = entry = keras.Input((5,))
    a, b = layers.Dense(6)(x), layers.Dense(6)(x)
    return keras.Model(entry, layers.Dense(2)(layers.Dot(axes=1)([a, b])))


@motif
def channel_gram_matrix():
    x = entry = image()
    x = layers.Reshape((36, 4))(layers.Conv2D(4, 3, padding="same")(x))
    gram = ops.matmul(ops.transpose(x, (0, 2, 1)), x)
    x = ops.matmul(x, ops.softmax(gram / 50.0, axis=-1))
    return keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@motif
def embedding():
    x = entry = keras.Input((4,), dtype="int32")
    x = layers.Embedding(7, 5)(x)
    x = layers.Dense(4, activation="relu")(x)
    return keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


# === Normalisation ====================================================================
@motif
def batch_norm():
    return through(layers.BatchNormalization(), layers.ReLU())


@motif
def layer_norm():
    return through(layers.LayerNormalization(epsilon=1e-2))


@motif
def layer_norm_several_axes():
    return through(layers.LayerNormalization(axis=[1, 2, 3], epsilon=1e-2))


@motif
def rms_norm():
    return through(layers.RMSNormalization(epsilon=1e-2))


@motif
def group_norm():
    return through(layers.GroupNormalization(2, epsilon=1e-2), before=8)


@motif
def group_norm_single():
    return through(layers.GroupNormalization(1, epsilon=1e-2))


@motif
def instance_norm():
    return through(layers.GroupNormalization(-1, epsilon=1e-2))


@motif
def unit_norm():
    return through(layers.UnitNormalization())


@motif
def softmax_over_channels():
    x = entry = image()
    x = layers.Conv2D(4, 3)(x)
    x = x * layers.Softmax()(layers.Conv2D(4, 1)(x))
    return keras.Model(entry, head(layers.Conv2D(3, 1)(x)))


@motif
def log_softmax_over_channels():
    return (
        through(layers.Lambda_free_log_softmax())
        if False
        else through(layers.Activation("log_softmax"))
    )


@motif
def prelu():
    return through(layers.PReLU(shared_axes=[1, 2]), layers.PReLU())


@motif
def sum_and_mean_over_channels():
    x = entry = image()
    x = layers.Conv2D(4, 3)(x)
    y = ops.sum(x, axis=-1, keepdims=True) * 0.1 + ops.mean(x, axis=3, keepdims=True)
    return keras.Model(entry, head(layers.Conv2D(3, 1)(x * y)))


# === Several branches =================================================================
@motif
def residual_block():
    x = entry = image()
    x = layers.Conv2D(4, 3, padding="same")(x)
    for _ in range(2):
        y = layers.Conv2D(6, 3, padding="same", activation="relu")(x)
        x = layers.Add()([x, layers.Conv2D(4, 3, padding="same")(y)])
    return keras.Model(entry, head(x))


@motif
def merging_layers():
    x = entry = image()
    x = layers.Conv2D(4, 3)(x)
    y = layers.Conv2D(4, 3)(entry)
    x = layers.Subtract()([layers.Maximum()([x, y]), layers.Minimum()([x, y])])
    x = layers.Average()([layers.Multiply()([x, y]), y, x])
    return keras.Model(entry, head(layers.Conv2D(3, 1)(x)))


@motif
def raw_arithmetic():
    x = entry = image()
    x = layers.Conv2D(4, 3)(x)
    x = (ops.abs(x) + 1.5) / (2.0 + ops.square(x)) - ops.maximum(x, 0.1) ** 2
    x = ops.where(x > 0.0, x, -0.3 * x)
    return keras.Model(entry, head(layers.Conv2D(3, 1)(ops.clip(x, -2.0, 2.0))))


@motif
def one_channel_mask():
    x = entry = image()
    x = layers.Conv2D(4, 3, padding="same")(x)
    mask = layers.Conv2D(1, 3, padding="same", activation="sigmoid")(x)
    return keras.Model(entry, head(layers.Conv2D(3, 1)(x * mask)))


@motif
def squeeze_and_excite():
    x = entry = image()
    x = layers.Conv2D(6, 3)(x)
    s = layers.GlobalAveragePooling2D()(x)
    s = layers.Dense(6, activation="sigmoid")(layers.Dense(3, activation="relu")(s))
    x = layers.Multiply()([x, layers.Reshape((1, 1, 6))(s)])
    return keras.Model(entry, head(layers.Conv2D(3, 1)(x)))


@motif
def dense_concatenation():
    x = entry = image()
    x = layers.Conv2D(4, 3, padding="same")(x)
    for _ in range(3):
        y = layers.BatchNormalization()(x)
        y = layers.Conv2D(3, 3, padding="same")(layers.ReLU()(y))
        x = layers.Concatenate()([x, y])
    return keras.Model(entry, head(layers.Conv2D(3, 1)(x)))


@motif
def concatenate_with_input():
    x = entry = image()
    x = layers.Concatenate()([layers.Conv2D(4, 3, padding="same")(x), x])
    return keras.Model(entry, head(layers.Conv2D(3, 3)(x)))


@motif
def concatenate_then_flatten():
    x = entry = image(3)
    x = layers.Concatenate()([layers.Conv2D(c, 1)(x) for c in (2, 3)])
    return keras.Model(entry, layers.Dense(2)(layers.Flatten()(x)))


@motif
def split_and_gate():
    x = entry = image()
    a, b = ops.split(layers.Conv2D(8, 3)(x), 2, axis=-1)
    return keras.Model(entry, head(layers.Conv2D(3, 1)(a * ops.sigmoid(b))))


@motif
def split_unevenly():
    x = entry = image()
    a, b, c = ops.split(layers.Conv2D(9, 3)(x), [2, 5], axis=-1)
    x = ops.concatenate([ops.tanh(c), a, b], axis=-1)
    return keras.Model(entry, head(layers.Conv2D(3, 1)(x)))


@motif
def slices():
    x = entry = image()
    x = layers.Conv2D(8, 3)(x)
    x = x[:, 1:, ..., :3] + x[:, 1:, :, 5:]
    return keras.Model(entry, head(layers.Conv2D(3, 1)(x)))


@motif
def one_channel_picked():
    x = entry = image()
    x = layers.Conv2D(5, 3)(x)
    x = x * ops.expand_dims(x[..., 2], -1)
    return keras.Model(entry, head(layers.Conv2D(3, 1)(x)))


@motif
def crossed_concatenation_meets_addition():
    x = entry = image()
    a, b = layers.Conv2D(3, 3)(x), layers.Conv2D(2, 3)(x)
    x = ops.concatenate([a, b], -1) + ops.concatenate([b, a], -1)
    return keras.Model(entry, head(layers.Conv2D(3, 1)(x)))


@motif
def stacked_frames():
    x = entry = image()
    frames = [layers.Conv2D(4, 3)(x) for _ in range(3)]
    x = ops.mean(ops.stack(frames, axis=1), axis=1)
    return keras.Model(entry, head(layers.Conv2D(3, 1)(x)))


# === Layout of data ===================================================================
@motif
def depth_to_space():
    return through(
        layers.Conv2D(12, 3),
        lambda x: ops.depth_to_space(x, 2),
        lambda x: ops.space_to_depth(x, 4),
    )


@motif
def channel_shuffle():
    x = entry = image()
    x = layers.Conv2D(8, 3, padding="same")(x)
    x = ops.reshape(x, (-1, 6, 6, 2, 4))
    x = ops.reshape(ops.transpose(x, (0, 1, 2, 4, 3)), (-1, 6, 6, 8))
    x = layers.DepthwiseConv2D(3)(x)
    return keras.Model(entry, head(layers.Conv2D(3, 1)(x)))


@motif
def permute_and_reshape():
    x = entry = image()
    x = layers.Conv2D(5, 3)(x)
    x = layers.Reshape((16, 5))(layers.Permute((2, 1, 3))(x))
    x = ops.swapaxes(ops.moveaxis(x, 1, 2), 1, 2)
    return keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@motif
def tile_repeat_pad():
    x = entry = image()
    x = layers.Conv2D(3, 3)(x)
    x = ops.tile(x, (1, 1, 1, 2))
    x = ops.repeat(x, 2, axis=-1)
    x = ops.pad(x, ((0, 0), (1, 1), (0, 0), (1, 2)))
    return keras.Model(entry, head(layers.Conv2D(3, 1)(x)))


@motif
def spatial_layers():
    return through(
        layers.ZeroPadding2D(1),
        layers.MaxPooling2D(2),
        layers.UpSampling2D(2, interpolation="bilinear"),
        layers.AveragePooling2D(2),
        layers.Cropping2D(1),
        layers.Resizing(5, 5),
        layers.Dropout(0.5),
        layers.SpatialDropout2D(0.5),
        lambda x: ops.image.resize(x, (4, 4)),
        lambda x: ops.squeeze(ops.expand_dims(x, 1), 1),
    )


@motif
def broadcast_to():
    x = entry = keras.Input((5,))
    x = layers.Reshape((1, 1, 6))(layers.Dense(6)(x))
    x = layers.Conv2D(3, 1)(ops.broadcast_to(x, (2, 2, 3, 6)))
    return keras.Model(entry, head(x))


# === Attention and recurrence =========================================================
@motif
def multi_head_attention():
    x = entry = keras.Input((4, 5))
    x = layers.Dense(6)(x)
    x = x + layers.MultiHeadAttention(2, 3, value_dim=4)(x, x)
    return keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@motif
def cross_attention():
    x = entry = keras.Input((4, 5))
    q, v, k = layers.Dense(6)(x), layers.Dense(4)(x), layers.Dense(3)(x)
    x = layers.MultiHeadAttention(2, 3, output_shape=5, use_bias=False)(q, v, key=k)
    return keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@motif
def group_query_attention():
    x = entry = keras.Input((4, 5))
    x = layers.Dense(6)(x)
    x = x + layers.GroupQueryAttention(3, 4, 2)(x, x)
    return keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@motif
def plain_attention():
    x = entry = keras.Input((4, 5))
    q, v = layers.Dense(6)(x), layers.Dense(6)(x)
    x = layers.Attention(use_scale=True)([q, layers.Dense(4)(x), v])
    return keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@motif
def transformer_block():
    x = entry = keras.Input((4,), dtype="int32")
    x = layers.Embedding(7, 6)(x)
    for _ in range(2):
        y = layers.LayerNormalization(epsilon=1e-2)(x)
        x = x + layers.MultiHeadAttention(2, 3)(y, y)
        y = layers.Dense(8, activation="gelu")(layers.LayerNormalization()(x))
        x = x + layers.Dense(6)(y)
    x = layers.LayerNormalization()(x)
    return keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


def _recurrent(layer):
    x = entry = keras.Input((4, 3))
    x = layer(layers.Dense(5)(x))
    x = layers.Dense(4)(x)
    return keras.Model(
        entry, layers.Dense(2)(ops.mean(x, 1) if len(x.shape) > 2 else x)
    )


@motif
def lstm():
    return _recurrent(layers.LSTM(4))


@motif
def gru():
    return _recurrent(layers.GRU(4, return_sequences=True))


@motif
def gru_reset_before():
    return _recurrent(layers.GRU(4, reset_after=False))


@motif
def simple_rnn():
    return _recurrent(layers.SimpleRNN(4))


@motif
def bidirectional_concat():
    return _recurrent(layers.Bidirectional(layers.LSTM(4, return_sequences=True)))


@motif
def bidirectional_sum():
    return _recurrent(layers.Bidirectional(layers.GRU(4), merge_mode="sum"))


@motif
def lstm_with_states():
    x = entry = keras.Input((4, 3))
    y, h, c = layers.LSTM(4, return_sequences=True, return_state=True)(x)
    y = layers.LSTM(4)(y, initial_state=[h, c])
    return keras.Model(entry, layers.Dense(2)(y + c))


@motif
def conv_lstm():
    x = entry = keras.Input((3, 5, 5, 2))
    x = layers.TimeDistributed(layers.Conv2D(3, 2, activation="relu"))(x)
    x = layers.ConvLSTM2D(4, 3, padding="same", return_sequences=True)(x)
    x = layers.ConvLSTM2D(3, 2)(x)
    return keras.Model(entry, head(x))


# === Structure of the model ===========================================================
class Scale(layers.Layer):
    """A composite layer with a variable of its own."""

    def build(self, shape):
        self.gamma = self.add_weight(shape=(shape[-1],), name="gamma")
        self.conv = layers.Conv2D(shape[-1], 3, padding="same")
        self.conv.build(shape)

    def call(self, x, training=None):
        return x + self.gamma * ops.relu(self.conv(x))


class RawKernels(layers.Layer):
    """A layer that computes with raw operations and its own kernels."""

    def build(self, shape):
        self.window = self.add_weight(shape=(3, 3, shape[-1], 6), name="window")
        self.spread = self.add_weight(shape=(3, 3, 6, 1), name="spread")
        self.mix = self.add_weight(shape=(6, 4), name="mix")
        self.shift = self.add_weight(shape=(4,), name="shift")

    def call(self, x):
        x = ops.conv(x, self.window, padding="same")
        x = ops.depthwise_conv(ops.relu(x), self.spread, padding="same")
        x = self.shift + ops.matmul(x, self.mix)
        return ops.einsum("bhwc,cd->bhwd", x, ops.transpose(self.mix))


@motif
def composite_layers():
    return through(Scale(), Scale())


@motif
def raw_kernels():
    return through(RawKernels())


@motif
def nested_models():
    inner = keras.Sequential([layers.Conv2D(4, 3, padding="same"), layers.ReLU()])
    x = entry = image()
    x = layers.Conv2D(4, 3)(x)
    branch = keras.Input((None, None, 4))
    deep = keras.Model(branch, Scale()(inner(branch)))
    return keras.Model(entry, head(layers.Conv2D(3, 1)(deep(deep(x)) + inner(x))))


@motif
def shared_layer():
    x = entry = image()
    shared = layers.Conv2D(4, 3, padding="same")
    x = layers.Conv2D(4, 1)(x)
    x = shared(ops.relu(shared(x)))
    return keras.Model(entry, head(layers.Conv2D(3, 1)(x)))


@motif
def two_inputs_two_outputs():
    a, b = keras.Input((6, 6, 2), name="left"), keras.Input((6, 6, 3), name="right")
    x = layers.Conv2D(4, 3)(a) + layers.Conv2D(4, 3)(b)
    y = layers.Conv2D(3, 1)(x)
    return keras.Model({"left": a, "right": b}, {"map": y, "label": head(x)})


@motif
def sequential():
    return keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(5, activation="relu"),
            layers.Dense(2, activation="softmax"),
        ]
    )


@motif
def constant_per_channel():
    x = entry = image()
    x = layers.Conv2D(4, 3)(x)
    x = x * ops.convert_to_tensor([1.0, -2.0, 0.5, 3.0], dtype=x.dtype)
    return keras.Model(entry, head(layers.Conv2D(3, 1)(x)))

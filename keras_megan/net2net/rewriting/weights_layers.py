"""The two layers that a rewritten model may contain beside the original's own kinds.

`ChannelWeights` is a weight as a layer: it stands where the original used a variable
directly in an operation (``x * self.gamma``), and where an operation over channels
needs a constant per channel to stay exact after copying.

`BalancedNormalization` is a layer, root-mean-square or group normalisation whose
statistics weigh each channel, so that copies of a channel count together as the one
channel they are. It appears only where copies are unevenly distributed; otherwise the
original's layer is kept.
"""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_megan")
class ChannelWeights(keras.layers.Layer):
    """Gives its weight, whatever its input.

    Args:
        shape: Shape of the weight.
        regularizer, constraint: The weight's own.

    Input:
        Any tensor; it is not looked at.

    Output:
        The weight, of the given shape.
    """

    def __init__(self, shape, regularizer=None, constraint=None, **kwargs):
        super().__init__(**kwargs)
        self.shape = tuple(shape)
        self.regularizer = keras.regularizers.get(regularizer)
        self.constraint = keras.constraints.get(constraint)

    def build(self, input_shape):
        self.value = self.add_weight(
            shape=self.shape,
            initializer="zeros",
            regularizer=self.regularizer,
            constraint=self.constraint,
            name="value",
        )

    def call(self, inputs):
        return ops.convert_to_tensor(self.value)

    def compute_output_shape(self, input_shape):
        return self.shape

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(self.shape, dtype=self.compute_dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "shape": self.shape,
            "regularizer": keras.regularizers.serialize(self.regularizer),
            "constraint": keras.constraints.serialize(self.constraint),
        }


@keras.saving.register_keras_serializable("keras_megan")
class BalancedNormalization(keras.layers.Layer):
    """Normalisation over axes along which positions count with a weight.

    With weights ``b`` that sum to n, the number of distinct positions,

        mean = sum_j b_j x_j / n,   variance = sum_j b_j (x_j - mean)^2 / n,
        y_j = gamma_j (x_j - mean) / sqrt(variance + epsilon) + beta_j

    which for copies with b = 1 / (number of copies) is what the layer normalisation of
    the distinct positions gives (Ba, Kiros & Hinton, arXiv:1607.06450). Without
    `center_statistics` the mean is not subtracted (root-mean-square normalisation,
    Zhang & Sennrich, arXiv:1910.07467).

    Args:
        axis: List of the axes normalised over.
        weighted_axes: The axes among them that carry weights, gamma and beta; None for
            all of them. Over the others a plain mean is taken.
        count: The number n of distinct positions.
        epsilon: Added to the variance.
        center: Whether there is a beta.
        scale: Whether there is a gamma.
        center_statistics: Whether the mean is subtracted.
        beta_regularizer, gamma_regularizer, beta_constraint, gamma_constraint: As in
            `keras.layers.LayerNormalization`.
    """

    def __init__(
        self,
        axis,
        count,
        epsilon=1e-3,
        center=True,
        scale=True,
        center_statistics=True,
        weighted_axes=None,
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.axis = [axis] if isinstance(axis, int) else list(axis)
        self.count = count
        self.epsilon = epsilon
        self.center = center
        self.scale = scale
        self.center_statistics = center_statistics
        self._weighted_axes = weighted_axes
        self.beta_regularizer = keras.regularizers.get(beta_regularizer)
        self.gamma_regularizer = keras.regularizers.get(gamma_regularizer)
        self.beta_constraint = keras.constraints.get(beta_constraint)
        self.gamma_constraint = keras.constraints.get(gamma_constraint)
        self.supports_masking = True
        self.autocast = False

    def normalized_axes(self, rank):
        """Returns the axes normalised over, for an input of the given rank."""
        return sorted(axis % rank for axis in self.axis)

    def weighted_axes(self, rank):
        """Returns the axes that carry weights, for an input of the given rank."""
        chosen = self.axis if self._weighted_axes is None else self._weighted_axes
        return sorted(axis % rank for axis in chosen)

    def build(self, input_shape):
        axes = self.weighted_axes(len(input_shape))
        shape = tuple(input_shape[axis] for axis in axes)
        self.gamma = self.beta = None
        if self.scale:
            self.gamma = self.add_weight(
                shape=shape,
                initializer="ones",
                regularizer=self.gamma_regularizer,
                constraint=self.gamma_constraint,
                name="gamma",
            )
        if self.center:
            self.beta = self.add_weight(
                shape=shape,
                initializer="zeros",
                regularizer=self.beta_regularizer,
                constraint=self.beta_constraint,
                name="beta",
            )
        self.balance = self.add_weight(
            shape=shape, initializer="ones", trainable=False, name="balance"
        )

    def call(self, inputs):
        axes = self.normalized_axes(len(inputs.shape))
        weighted = self.weighted_axes(len(inputs.shape))
        plain = [axis for axis in axes if axis not in weighted]
        wanted = [1] * len(inputs.shape)
        for axis in weighted:
            wanted[axis] = inputs.shape[axis]
        kind = "float64" if self.compute_dtype == "float64" else "float32"
        x = ops.cast(inputs, kind)

        def spread(weight):
            return ops.cast(ops.reshape(weight, wanted), kind)

        share = spread(self.balance) / self.count

        def average(values):
            values = ops.sum(values * share, axis=weighted, keepdims=True)
            return ops.mean(values, axis=plain, keepdims=True) if plain else values

        if self.center_statistics:
            x = x - average(x)
        variance = average(ops.square(x))
        x = x * ops.rsqrt(variance + self.epsilon)
        if self.gamma is not None:
            x = x * spread(self.gamma)
        if self.beta is not None:
            x = x + spread(self.beta)
        return ops.cast(x, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "axis": self.axis,
            "count": self.count,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            "center_statistics": self.center_statistics,
            "weighted_axes": self._weighted_axes,
            "beta_regularizer": keras.regularizers.serialize(self.beta_regularizer),
            "gamma_regularizer": keras.regularizers.serialize(self.gamma_regularizer),
            "beta_constraint": keras.constraints.serialize(self.beta_constraint),
            "gamma_constraint": keras.constraints.serialize(self.gamma_constraint),
        }

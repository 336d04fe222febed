"""Muon: momentum whose matrices are made orthogonal before they are subtracted.

The update of a kernel (k, k, in, out), seen as a matrix (k*k*in, out), is

    m <- momentum * m + g,   u = g + momentum * m
    W <- W - learning_rate * scale * orthogonal(u)

with orthogonal(u) the nearest matrix with orthonormal columns or rows, by five
Newton-Schulz steps. Every direction of the kernel then learns at the same pace, whereas
the few strong ones of a plain gradient drown the rest. Everything that is not a kernel
between hidden features (the first and the last convolution, biases) is updated by Adam.

Source: Jordan et al., Muon: an optimizer for hidden layers in neural networks (2024),
https://kellerjordan.github.io/posts/muon/
"""

import keras
from keras import ops

#: Coefficients of the Newton-Schulz iteration, of the source.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
STEPS = 5


@keras.saving.register_keras_serializable("keras_megan_training")
class Muon(keras.optimizers.Optimizer):
    """Muon for kernels between hidden features, Adam for all other variables.

    Args:
        learning_rate: Adam's rate; the orthogonal updates take `scale` times it.
        momentum: Momentum of the orthogonal updates.
        beta_1, beta_2, epsilon: Adam's settings.
        scale: Size of an orthogonal update's step relative to Adam's.
        smallest_side: Kernels with fewer channels on either side are Adam's.
    """

    def __init__(
        self,
        learning_rate=1e-3,
        momentum=0.95,
        beta_1=0.9,
        beta_2=0.99,
        epsilon=1e-8,
        scale=16.0,
        smallest_side=32,
        name="muon",
        **kwargs,
    ):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.momentum = momentum
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.scale = scale
        self.smallest_side = smallest_side

    def is_orthogonal(self, variable) -> bool:
        """Whether a variable's updates are made orthogonal."""
        shape = variable.shape
        return len(shape) == 4 and min(shape[2:]) >= self.smallest_side

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._first = [
            self.add_variable_from_reference(v, name="momentum") for v in variables
        ]
        self._second = [
            None
            if self.is_orthogonal(v)
            else self.add_variable_from_reference(v, name="velocity")
            for v in variables
        ]

    def update_step(self, gradient, variable, learning_rate):
        """Updates one variable."""
        index = self._get_variable_index(variable)
        first, second = self._first[index], self._second[index]
        rate = ops.cast(learning_rate, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        if second is None:
            self.assign(first, first * self.momentum + gradient)
            update = gradient + self.momentum * first
            matrix = ops.reshape(update, (-1, variable.shape[-1]))
            step = ops.reshape(orthogonal(matrix), variable.shape)
            self.assign_sub(variable, rate * self.scale * step)
            return
        count = ops.cast(self.iterations + 1, variable.dtype)
        self.assign(first, self.beta_1 * first + (1.0 - self.beta_1) * gradient)
        self.assign(
            second, self.beta_2 * second + (1.0 - self.beta_2) * ops.square(gradient)
        )
        mean = first / (1.0 - ops.power(self.beta_1, count))
        power = second / (1.0 - ops.power(self.beta_2, count))
        self.assign_sub(variable, rate * mean / (ops.sqrt(power) + self.epsilon))

    def get_config(self):
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "scale": self.scale,
            "smallest_side": self.smallest_side,
        }


def orthogonal(matrix):
    """About the nearest matrix with orthonormal rows or columns, whichever are fewer.

    The singular values of the result lie between 0.7 and 1.2, which serves as well as
    one and takes five products.
    """
    rows, columns = matrix.shape
    if rows > columns:
        matrix = ops.transpose(matrix)
    matrix = matrix / (ops.norm(matrix) + 1e-12)
    a, b, c = COEFFICIENTS
    for _ in range(STEPS):
        square = ops.matmul(matrix, ops.transpose(matrix))
        mixed = b * square + c * ops.matmul(square, square)
        matrix = a * matrix + ops.matmul(mixed, matrix)
    return ops.transpose(matrix) if rows > columns else matrix

"""Rules of operations that treat every position by itself, alone or side by side.

Operands that meet element by element must change together, except that a size of one is
broadcast: a mask or gate with a single channel is not coupled to the channels it meets.
"""

import keras

from keras_megan.net2net.rules.base import register_rule

_PER_CHANNEL_OPERATIONS = (
    "Absolute Abs Fabs Arccos Arccosh Arcsin Arcsinh Arctan Arctanh Cbrt Ceil Cos Cosh "
    "Deg2rad Rad2deg Exp Exp2 Expm1 Floor I0 Isfinite Isinf Isnan Isneginf Isposinf "
    "Log Log10 Log1p Log2 LogicalNot NanToNum OnesLike ZerosLike Reciprocal Round Sign "
    "Signbit Sin Sinc Sinh Sqrt Rsqrt Square Tan Tanh Trunc Relu Relu6 Sigmoid "
    "SparseSigmoid Softplus Softsign SoftShrink SparsePlus Silu Squareplus LogSigmoid "
    "LeakyRelu HardSigmoid HardSilu Elu Selu Gelu Celu TanhShrink HardTanh HardShrink "
    "Threshold Erf Erfc Erfinv Clip FullLike BitwiseInvert"
)
_LINEAR_OPERATIONS = "Negative Cast SaturateCast Copy StopGradient ConvertToTensor"
_BINARY_OPERATIONS = (
    "Multiply Divide DivideNoNan TrueDivide FloorDivide Power Maximum Minimum Fmax "
    "Fmin Mod Fmod Arctan2 Hypot Logaddexp Logaddexp2 Equal NotEqual Greater "
    "GreaterEqual Less LessEqual LogicalAnd LogicalOr LogicalXor Where Heaviside "
    "BitwiseAnd BitwiseOr BitwiseXor Isclose Nextafter"
)


def _raw(names):
    return [f"ops.{name}" for name in names.split()]


@register_rule(
    *_raw(_PER_CHANNEL_OPERATIONS),
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.ELU,
    keras.layers.Masking,
)
def per_channel(site):
    """One operand, every position by itself."""
    if type(site.operation) is keras.layers.Masking:
        site.freeze(site.inputs[0][-1], "masking compares whole vectors")
    return site.inputs[0]


@register_rule(
    *_raw(_LINEAR_OPERATIONS),
    keras.layers.Dropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.AlphaDropout,
    keras.layers.Identity,
    keras.layers.ActivityRegularization,
    linear=True,
)
def linear_per_channel(site):
    """One operand, linear in every position by itself (dropout: in inference)."""
    noise_shape = getattr(site.operation, "noise_shape", None)
    if noise_shape is not None and "noise_shape" in site.operation.get_config():
        sizes = zip(noise_shape, site.inputs[0], strict=True)
        wanted = tuple(
            size if size in (None, 1) or layout.opaque else layout
            for size, layout in sizes
        )
        site.setting("noise_shape", wanted)
    return site.inputs[0]


@register_rule(keras.layers.Rescaling)
def rescaling(site):
    """A scale and an offset, numbers or one per channel."""
    layer = site.operation
    for value in (layer.scale, layer.offset):
        if isinstance(value, list | tuple) or getattr(value, "shape", ()):
            site.freeze(site.inputs[0][-1], "Rescaling has a constant per channel")
    return site.inputs[0]


# === Several operands =================================================================
def broadcast(site, operands):
    """Returns the layouts of operands that meet element by element.

    Args:
        site: The `Site`.
        operands: List of lists of `Layout`, aligned at the last axis.
    """
    rank = max(len(layouts) for layouts in operands)
    result = []
    for back in range(rank, 0, -1):
        sides = [layouts[-back] for layouts in operands if len(layouts) >= back]
        wide = [layout for layout in sides if layout.size != 1]
        for layout in sides:
            if layout.size == 1 and wide:
                site.freeze(layout, "it is broadcast")
        wide = wide or sides
        for layout in wide[1:]:
            site.unify(wide[0], layout)
        attached = [layout for layout in wide if not layout.detached]
        if attached and len(attached) < len(wide):
            site.nonlinear(attached[0])
        result.append(attached[0] if attached else wide[0])
    return result


@register_rule("ops.Add", "ops.Subtract", linear=True)
def addition(site):
    """Sum or difference of tensors and numbers."""
    if len(site.inputs) < 2:
        for layout in site.inputs[0]:
            site.nonlinear(layout)
    return broadcast(site, site.inputs)


@register_rule(*_raw(_BINARY_OPERATIONS))
def meeting(site):
    """Any other operation of tensors element by element."""
    return broadcast(site, site.inputs)


def _with_batch_first(inputs):
    """Keras's merging layers put missing axes behind the batch axis, not before it."""
    rank = max(len(layouts) for layouts in inputs)
    padded = []
    for layouts in inputs:
        missing = rank - len(layouts)
        ones = [type(layouts[0]).fixed(1, "it is broadcast") for _ in range(missing)]
        padded.append([layouts[0], *ones, *layouts[1:]])
    return padded


@register_rule(
    keras.layers.Add, keras.layers.Subtract, keras.layers.Average, linear=True
)
def merging_sum(site):
    """Sums of layers' outputs."""
    return broadcast(site, _with_batch_first(site.inputs))


@register_rule(keras.layers.Multiply, keras.layers.Maximum, keras.layers.Minimum)
def merging(site):
    """Products and extremes of layers' outputs."""
    return broadcast(site, _with_batch_first(site.inputs))

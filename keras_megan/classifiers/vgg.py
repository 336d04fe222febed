"""VGG with batch normalisation, of any width: the classifier of cumulative training.

    images (B, H, W, 3) in [0, 1]
      -> 5 blocks of 3x3 convolution - batch normalisation - ReLU, each ending in a
         2x2 max-pooling; `depth` counts the convolutions and three dense layers
      -> flatten -> one dense layer -> logits (B, classes)

The published network ends in three dense layers; the single one here is what is used on
small images, where those three would hold most of the parameters. The convolutions keep
their biases, as in the published network.

Layers are called ``block3_conv2``, ``block3_norm2``, ``block3_relu2``. So
`vgg_widths(depth, width)` names the widths of a whole network in the form that
`net2net.widen` and `net2net.prune` take, and a layer that `net2net.deepen` inserts can
have the name that it has in the deeper network.

Source: Simonyan and Zisserman, ICLR 2015 (arXiv:1409.1556), table 1, configurations A,
B, D and E; batch normalisation behind every convolution: Ioffe and Szegedy, ICML 2015.
"""

import numbers

import keras

#: Depth -> convolutions in each of the five blocks.
VGG_BLOCKS = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
#: Filters of the convolutions of each block at width 1.
VGG_FILTERS = (64, 128, 256, 512, 512)
#: Every block halves the sides, and one pixel must be left.
SMALLEST_SIDE = 2 ** len(VGG_FILTERS)


def vgg_widths(depth: int, width: float = 1.0) -> dict[str, int]:
    """The filters of every convolution, by layer name, in order.

    Args:
        depth: 11, 13, 16 or 19.
        width: Multiplier of the published numbers of filters, > 0.

    Raises:
        ValueError: If there is no such depth or the width is not positive.
    """
    if depth not in VGG_BLOCKS:
        raise ValueError(
            f"depth must be one of {sorted(VGG_BLOCKS)}; received {depth!r}."
        )
    if not isinstance(width, numbers.Real) or not width > 0:
        raise ValueError(
            f"width must be a positive number (1 is the published network); received "
            f"{width!r}."
        )
    return {
        f"block{block}_conv{number}": max(1, round(filters * width))
        for block, (count, filters) in enumerate(
            zip(VGG_BLOCKS[depth], VGG_FILTERS, strict=True), start=1
        )
        for number in range(1, count + 1)
    }


def vgg_bn(
    depth: int = 19,
    width: float = 1.0,
    input_shape: tuple[int, int, int] = (64, 64, 3),
    classes: int = 200,
    momentum: float = 0.9,
    name: str | None = None,
) -> keras.Model:
    """Builds a VGG with batch normalisation and fresh weights.

    Args:
        depth: 11, 13, 16 or 19.
        width: Multiplier of the numbers of filters; 1 is the published network.
        input_shape: (height, width, channels) of one image, sides of at least 32.
        classes: Number of logits.
        momentum: Momentum of the batch normalisations' running statistics.
        name: The model's name; by default ``"vgg19_bn"`` and so on.

    Returns:
        Functional model: float images (B, H, W, channels) in [0, 1] -> logits
        (B, classes).

    Raises:
        ValueError: If an argument makes no such network.
    """
    widths = vgg_widths(depth, width)
    sides = tuple(input_shape)[:2]
    if len(input_shape) != 3 or any(
        not isinstance(side, int) or side < SMALLEST_SIDE for side in sides
    ):
        raise ValueError(
            "input_shape must be (height, width, channels) with sides of at least "
            f"{SMALLEST_SIDE} pixels, because every block halves them; received "
            f"{tuple(input_shape)}."
        )
    if classes < 1:
        raise ValueError(f"classes must be positive; received {classes!r}.")
    x = inputs = keras.Input(tuple(input_shape), name="images")
    for layer, filters in widths.items():
        x = keras.layers.Conv2D(
            filters,
            3,
            padding="same",
            kernel_initializer="he_normal",
            name=layer,
        )(x)
        x = keras.layers.BatchNormalization(
            momentum=momentum, name=layer.replace("conv", "norm")
        )(x)
        x = keras.layers.ReLU(name=layer.replace("conv", "relu"))(x)
        block, number = (int(part) for part in layer[len("block") :].split("_conv"))
        if number == VGG_BLOCKS[depth][block - 1]:
            x = keras.layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    logits = keras.layers.Dense(classes, name="logits")(x)
    return keras.Model(inputs, logits, name=name or f"vgg{depth}_bn")

"""Rules of operations over space that leave every channel to itself.

Poolings, paddings, croppings and resizings mix positions, never channels. Averages are
linear in the channel, maxima are not.
"""

import keras

from keras_megan.net2net.rules.base import register_rule

_LAYERS = keras.layers


def _layers(pattern, dimensions=(1, 2, 3)):
    names = [pattern.format(d) for d in dimensions]
    return [getattr(_LAYERS, name) for name in names if hasattr(_LAYERS, name)]


@register_rule(
    *_layers("AveragePooling{}D"),
    *_layers("AdaptiveAveragePooling{}D"),
    *_layers("ZeroPadding{}D"),
    *_layers("Cropping{}D"),
    *_layers("UpSampling{}D"),
    linear=True,
)
def linear_spatial(site):
    """Positions are averaged, added, dropped or repeated; channels stay."""
    return _spatial(site)


@register_rule(*_layers("MaxPooling{}D"), *_layers("AdaptiveMaxPooling{}D"))
def maximum_spatial(site):
    """Maxima over positions; channels stay."""
    return _spatial(site)


@register_rule(
    keras.layers.Resizing,
    keras.layers.CenterCrop,
    "ops.Resize",
    "ops.AveragePool",
    "ops.AdaptiveAveragePool",
    "ops.PadImages",
    "ops.CropImages",
    linear=True,
)
def raw_linear_spatial(site):
    """Resizing and cropping of images, with or without a batch axis."""
    return _spatial(site)


@register_rule(
    *(
        getattr(keras.layers, name)
        for name in (
            "RandomFlip",
            "RandomRotation",
            "RandomTranslation",
            "RandomZoom",
            "RandomCrop",
            "RandomShear",
            "RandomPerspective",
            "RandomElasticTransform",
        )
        if hasattr(keras.layers, name)
    ),
    linear=True,
)
def augmentation(site):
    """Images moved at random: all channels the same way. Colours are another matter."""
    return _spatial(site)


@register_rule("ops.MaxPool", "ops.AdaptiveMaxPool")
def raw_maximum_spatial(site):
    """`keras.ops.max_pool`."""
    return _spatial(site)


def _spatial(site):
    # Three axes are an image without batch for images' operations, and a sequence with
    # batch for poolings; in both cases the middle is spatial and the last is channels.
    rank = len(site.inputs[0])
    images = getattr(site.operation, "size", None) is not None or rank > 3
    axis = rank - 1 if site.channels_last else (1 if rank > 3 or not images else 0)
    return site.pass_spatial(site.inputs[0][axis])


@register_rule(
    *_layers("GlobalAveragePooling{}D"),
    linear=True,
)
def global_average(site):
    """The mean over all positions."""
    return _global(site)


@register_rule(*_layers("GlobalMaxPooling{}D"))
def global_maximum(site):
    """The maximum over all positions."""
    return _global(site)


def _global(site):
    layouts = site.inputs[0]
    axis = len(layouts) - 1 if site.channels_last else 1
    for position, layout in enumerate(layouts):
        if position not in (0, axis):
            site.freeze(layout, "it is averaged or maximised over")
    if not site.operation.keepdims:
        return [layouts[0], layouts[axis]]
    return [
        layout if position in (0, axis) else site.fixed(1)
        for position, layout in enumerate(layouts)
    ]

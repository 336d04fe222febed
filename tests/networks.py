"""Small networks that tests of several parts share."""

import keras
import numpy as np

from keras_megan import MEGAN

#: A MEGAN with every stage whose steps take a fraction of a second.
TINY = {
    "filters": 8,
    "extraction_blocks": 1,
    "alignment": "window",
    "alignment_options": {
        "levels": 2,
        "reach": 2,
        "motion_filters": 8,
        "matching_filters": 4,
    },
    "descriptor_size": 4,
    "fusion_blocks": 1,
    "reconstruction_blocks": 1,
    "tail": "light",
    "tail_filters": 4,
    "name": "tiny",
}


#: What a small MEGAN can be made of, by name.
SMALL_VARIANTS = {
    "deformable": {"alignment": "deformable", "alignment_options": {"levels": 2}},
    "window": {
        "alignment": "window",
        "alignment_options": {"levels": 3, "reach": 3},
        "tail": "light",
    },
    "recurrent": {
        "memory": "recurrent",
        "alignment": "window",
        "alignment_options": {"levels": 2, "reach": 2},
    },
    "intra": {
        "memory": "intra",
        "alignment": "window",
        "alignment_options": {"levels": 2, "reach": 2},
        "non_local_pool": "full",
    },
}


def tiny_megan(gain=0.25, **changes):
    """A small MEGAN whose every weight does something.

    Args:
        gain: Standard deviation of weights, times the root of their fan-in.
        changes: What differs from `TINY`.
    """
    model = MEGAN(**{**TINY, **changes})
    random = np.random.default_rng(1)
    for weight in model.trainable_weights:
        fan_in = max(1, int(np.prod(weight.shape[:-1])))
        weight.assign(random.normal(size=weight.shape) * gain / np.sqrt(fan_in))
    return model


def plain_network(frames=4, scale=4):
    """Repeats pixels in space, averages neighbours in time; no class of its own.

    (B, T, H, W, 3) -> (B, 2T-1, scale*H, scale*W, 3)
    """
    inputs = keras.Input((frames, None, None, 3))
    kernel = np.zeros((3, 1, 1, 3, 3), np.float32)
    for channel in range(3):
        kernel[:, 0, 0, channel, channel] = (0.5, 1, 0.5)
    between = keras.layers.Conv3DTranspose(
        3, (3, 1, 1), strides=(2, 1, 1), use_bias=False
    )
    outputs = keras.layers.Cropping3D((1, 0, 0))(between(inputs))
    outputs = keras.layers.UpSampling3D((1, scale, scale))(outputs)
    between.set_weights([kernel])
    return keras.Model(inputs, outputs, name="plain")

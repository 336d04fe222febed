"""A plain model and clips for the tests of the command line."""

import numpy as np
import pytest

from tests.video.clips import picture, write_clip


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Repeats pixels in space, averages in time: (4, H, W, 3) -> (7, 4H, 4W, 3)."""
    import keras

    inputs = keras.Input((4, None, None, 3))
    kernel = np.zeros((3, 1, 1, 3, 3), np.float32)
    for channel in range(3):
        kernel[:, 0, 0, channel, channel] = (0.5, 1, 0.5)
    between = keras.layers.Conv3DTranspose(
        3, (3, 1, 1), strides=(2, 1, 1), use_bias=False
    )
    outputs = keras.layers.Cropping3D((1, 0, 0))(between(inputs))
    outputs = keras.layers.UpSampling3D((1, 4, 4))(outputs)
    between.set_weights([kernel])
    path = tmp_path_factory.mktemp("model") / "plain.keras"
    keras.Model(inputs, outputs, name="plain").save(path)
    return path


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "clip.mp4", [picture(i) for i in range(6)], sound=0.24)

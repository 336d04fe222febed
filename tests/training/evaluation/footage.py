"""Clips whose motion is known, for the tests of evaluations."""

import cv2
import numpy as np

from keras_megan.imaging.resize import imresize


def texture(height, width, seed=0):
    """A smooth random picture, uint8 RGB."""
    noise = np.random.default_rng(seed).random((height // 8, width // 8, 3))
    return np.rint(imresize(noise, 8.0).clip(0, 1)[:height, :width] * 255).astype(
        np.uint8
    )


def moving_clip(num_frames=10, height=64, width=80, step=4, seed=0):
    """A texture that moves `step` pixels to the left per frame."""
    wide = texture(height, width + 8 + (num_frames * step) // 8 * 8 + 8, seed)
    return np.stack([wide[:, i * step : i * step + width] for i in range(num_frames)])


def write_frames(folder, frames):
    folder.mkdir(parents=True)
    for index, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{index}.png"), frame[..., ::-1])

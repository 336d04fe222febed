"""Sharpness follows its formula, and new frames become as sharp as given ones."""

import cv2
import numpy as np
import pytest

from keras_megan.imaging.sharpness import evened, sharpness
from keras_megan.video.upscale import UpscaleOptions, upscale
from tests.video.clips import PlainRunner, picture, read_images, write_clip


def texture(seed=0, height=48, width=64):
    """Soft noise, float (H, W, 3) in 40..215."""
    noise = np.random.default_rng(seed).normal(size=(height, width, 3))
    smooth = cv2.GaussianBlur(noise, (0, 0), 1.5)
    return 128 + smooth * (80 / np.abs(smooth).max())


def slow_sharpness(image):
    """The definition, pixel by pixel, with mirrored borders."""
    luma = np.pad(image @ [0.299, 0.587, 0.114], 1, mode="reflect")
    height, width = image.shape[:2]
    values = [
        luma[y - 1, x] + luma[y + 1, x] + luma[y, x - 1] + luma[y, x + 1]
        - 4 * luma[y, x]
        for y in range(1, height + 1)
        for x in range(1, width + 1)
    ]  # fmt: skip
    return np.var(values)


@pytest.mark.parametrize("scale, kind", [(1, np.uint8), (257, np.uint16)])
def test_sharpness_is_the_variance_of_the_laplacian(scale, kind):
    image = np.rint(texture()).astype(np.uint8)
    expected = slow_sharpness(image.astype(float))
    assert sharpness(image.astype(kind) * kind(scale)) == pytest.approx(expected, 1e-4)
    assert sharpness(image / 255) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind, largest", [(np.uint8, 255), (np.uint16, 65535)])
def test_a_soft_new_frame_becomes_as_sharp_as_its_neighbours(kind, largest):
    sharp = texture()
    soft = cv2.GaussianBlur(sharp, (0, 0), 0.6)
    frames = np.stack([sharp, soft, sharp * 0.9 + 12])
    frames = np.rint(frames * (largest / 255)).astype(kind)
    beside = sharpness(frames[0]), sharpness(frames[2])
    before, after = sharpness(frames[1]), sharpness(evened(frames[1], *beside))
    wanted = np.sqrt(beside[0] * beside[1])
    assert before < 0.8 * wanted
    assert after == pytest.approx(wanted, rel=0.02)


def test_frames_that_are_sharp_enough_or_flat_are_left_alone():
    sharp = np.rint(texture()).astype(np.uint8)
    soft = cv2.GaussianBlur(sharp, (0, 0), 1)
    flat = np.full_like(sharp, 90)
    assert sharpness(soft) < sharpness(sharp)
    np.testing.assert_array_equal(evened(sharp, *[sharpness(soft)] * 2), sharp)
    np.testing.assert_array_equal(evened(flat, *[sharpness(sharp)] * 2), flat)


class Softening(PlainRunner):
    """Blurs its new frames."""

    def __call__(self, frames):
        every = super().__call__(frames)
        for position in range(1, len(every), 2):
            every[position] = cv2.GaussianBlur(every[position], (0, 0), 2)
        return every


def test_the_option_sharpens_new_frames_alone(tmp_path):
    clip = write_clip(tmp_path / "in.mp4", [picture(i, 48, 64) for i in range(7)])
    images = {}
    for even in (False, True):
        output = tmp_path / f"{even}.mkv"
        options = UpscaleOptions(codec="ffv1", even_sharpness=even)
        upscale(clip, output, Softening(), options)
        images[even] = read_images(output)
    for given in range(0, 13, 2):
        np.testing.assert_array_equal(images[True][given], images[False][given])
    ratios = {
        even: np.mean([sharpness(i) for i in made[1::2]])
        / np.mean([sharpness(i) for i in made[::2]])
        for even, made in images.items()
    }
    assert ratios[False] < 0.5 and ratios[True] > 1.2 * ratios[False]

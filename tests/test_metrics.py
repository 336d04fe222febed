"""The metrics equal scikit-image's on the published luma, in numpy and in Keras."""

import keras
import numpy as np
import pytest
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from keras_megan.metrics import (
    PSNR_CAP,
    LumaPSNR,
    LumaSSIM,
    luma,
    luma_psnr,
    luma_psnr_ssim,
    luma_ssim,
)


def pair(shape=(2, 3, 31, 45, 3), noise=0.06, seed=0):
    """Smooth float32 frames, and a disturbed copy that leaves [0, 1] in places."""
    random = np.random.default_rng(seed)
    rows, columns = np.indices(shape[-3:-1])
    waves = np.sin(rows / 3)[..., None] * np.cos(columns / 4)[..., None]
    truth = 0.5 + 0.55 * waves * random.uniform(0.3, 1, shape[:-3] + (1, 1, 3))
    prediction = truth + noise * random.standard_normal(shape)
    return truth.astype(np.float32), prediction.astype(np.float32)


def as_bytes(images):
    return np.round(np.clip(images, 0, 1) * images.dtype.type(255)).astype(np.uint8)


def skimage_scores(truth, prediction):
    """Per-frame PSNR and SSIM by scikit-image, and its own RGB -> luma."""
    a, b = (rgb2ycbcr(as_bytes(x))[..., 0] for x in (truth, prediction))
    psnr, ssim = [], []
    for frame_a, frame_b in zip(
        a.reshape(-1, *a.shape[-2:]), b.reshape(-1, *b.shape[-2:]), strict=True
    ):
        psnr.append(peak_signal_noise_ratio(frame_a, frame_b, data_range=255))
        ssim.append(
            structural_similarity(
                frame_a,
                frame_b,
                data_range=255,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
            )
        )
    return np.reshape(psnr, a.shape[:-2]), np.reshape(ssim, a.shape[:-2])


def test_luma_is_bt601_studio_swing():
    colours = np.array(
        [[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8
    ).reshape(1, 5, 3)
    np.testing.assert_allclose(
        luma(colours)[0], [16, 235, 81.481, 144.553, 40.966], atol=1e-9
    )
    np.testing.assert_allclose(luma(colours), rgb2ycbcr(colours)[..., 0], atol=1e-9)


def test_floating_images_are_clamped_and_rounded_to_8_bits():
    image = np.array([-0.3, 0.1234, 0.5001, 0.9, 1.7]).reshape(1, 5, 1).repeat(3, -1)
    expected = np.array([0, 31, 128, 230, 255], np.uint8).reshape(1, 5, 1).repeat(3, -1)
    np.testing.assert_array_equal(luma(image), luma(expected))


def test_psnr_and_ssim_equal_scikit_image():
    truth, prediction = pair()
    psnr, ssim = skimage_scores(truth, prediction)
    assert psnr.shape == (2, 3) and 20 < psnr.mean() < 35 and 0.2 < ssim.mean() < 0.95
    np.testing.assert_allclose(luma_psnr(truth, prediction), psnr, atol=1e-9)
    np.testing.assert_allclose(luma_ssim(truth, prediction), ssim, atol=1e-9)
    both = luma_psnr_ssim(truth, prediction)
    np.testing.assert_allclose(both, (psnr, ssim), atol=1e-9)


def test_psnr_of_one_grey_level_is_the_known_value():
    a = np.full((16, 16, 3), 100, np.uint8)
    step = 219 / 255  # luma of one grey level
    assert luma_psnr(a, a + np.uint8(1)) == pytest.approx(20 * np.log10(255 / step))


def test_borders_count_in_psnr():
    truth = np.full((32, 32, 3), 100, np.uint8)
    disturbed = truth.copy()
    disturbed[0] += 51  # luma 43.8 off in one row of 32
    expected = 10 * np.log10(255**2 / (43.8**2 / 32))
    assert luma_psnr(truth, disturbed) == pytest.approx(expected)


def test_identical_frames_give_infinity_and_one():
    truth, _ = pair()
    assert np.isposinf(luma_psnr(truth, truth)).all()
    np.testing.assert_allclose(luma_ssim(truth, truth), 1.0, atol=1e-12)


@pytest.mark.parametrize("metric", [LumaPSNR, LumaSSIM])
def test_keras_metric_equals_numpy_over_several_batches(metric):
    function = {LumaPSNR: luma_psnr, LumaSSIM: luma_ssim}[metric]
    measured, expected = metric(), []
    for seed in range(3):
        truth, prediction = pair(noise=0.02 * (seed + 1), seed=seed)
        measured.update_state(truth, prediction)
        expected.append(function(truth, prediction))
    assert float(measured.result()) == pytest.approx(np.mean(expected), abs=2e-5)
    measured.reset_state()
    assert float(measured.result()) == 0.0


def test_keras_metrics_agree_with_numpy_on_flat_bright_frames():
    truth = np.full((1, 20, 20, 3), 250 / 255, np.float32)
    prediction = truth.copy()
    prediction[:, 10, 10] = 1.0
    metric = LumaSSIM()
    metric.update_state(truth, prediction)
    expected = luma_ssim(truth, prediction).mean()
    assert expected < 0.999
    assert float(metric.result()) == pytest.approx(expected, abs=2e-5)


def test_keras_psnr_counts_identical_frames_as_the_cap():
    truth, _ = pair()
    metric = LumaPSNR()
    metric.update_state(truth, truth)
    assert float(metric.result()) == pytest.approx(PSNR_CAP, abs=1e-3)


def test_sample_weight_selects_frames():
    truth, prediction = pair()
    weight = np.array([[1, 0, 0], [0, 1, 1]], np.float32)
    metric = LumaPSNR()
    metric.update_state(truth, prediction, sample_weight=weight)
    expected = luma_psnr(truth, prediction)[weight == 1].mean()
    assert float(metric.result()) == pytest.approx(expected, abs=2e-5)


def test_metrics_work_in_compile_and_fit_on_unknown_sizes():
    truth, prediction = pair((2, 3, 24, 20, 3))
    inputs = keras.Input((None, None, None, 3))
    model = keras.Model(inputs, keras.layers.Rescaling(1.0)(inputs))
    model.compile(loss="mse", metrics=[LumaPSNR(), LumaSSIM()])
    logs = model.evaluate(prediction, truth, verbose=0, return_dict=True)
    assert logs["luma_psnr"] == pytest.approx(luma_psnr(truth, prediction).mean(), 1e-5)
    assert logs["luma_ssim"] == pytest.approx(luma_ssim(truth, prediction).mean(), 1e-5)


@pytest.mark.parametrize("metric", [LumaPSNR, LumaSSIM])
def test_metric_survives_serialisation(metric):
    again = keras.metrics.deserialize(keras.metrics.serialize(metric(name="other")))
    assert type(again) is metric and again.name == "other"


def test_wrong_inputs_are_refused_in_one_clear_message():
    truth, prediction = pair((20, 20, 3))
    with pytest.raises(ValueError, match="shape"):
        luma_psnr(truth, prediction[:-1])
    with pytest.raises(ValueError, match="RGB"):
        luma(truth[..., :2])
    with pytest.raises(TypeError, match="int64"):
        luma(truth.astype(np.int64))
    with pytest.raises(ValueError, match="at least 11x11"):
        luma_ssim(truth[:10], prediction[:10])
    with pytest.raises(ValueError, match="at least 11x11"):
        LumaSSIM().update_state(truth[None, :10], prediction[None, :10])

"""The whole model: budgets, trilinear start, any size, saving, training."""

import keras
import numpy as np
import pytest

import keras_megan
from keras_megan import MEGAN
from tests.networks import SMALL_VARIANTS

TINY = {
    "filters": 8,
    "num_frames": 3,
    "extraction_blocks": 1,
    "descriptor_size": 4,
    "fusion_blocks": 1,
    "reconstruction_blocks": 1,
}


@pytest.fixture(scope="module", params=SMALL_VARIANTS)
def built(request):
    """One network for all tests of a variant, and its first weights."""
    model = MEGAN(**{**TINY, **SMALL_VARIANTS[request.param]})
    return model, model.get_weights()


@pytest.fixture
def tiny(built):
    model, weights = built
    model.set_weights(weights)
    return model


def trilinear(frames):
    """(T, H, W, 3) -> (2T-1, 4H, 4W, 3): bilinear in space, averages in time."""
    upsampled = frames.astype("float64")
    for axis in (1, 2):
        size = frames.shape[axis]
        at = np.clip((np.arange(4 * size) + 0.5) / 4 - 0.5, 0, size - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, size - 1)
        share = np.expand_dims(at - low, tuple(a for a in range(4) if a != axis))
        upsampled = (1 - share) * upsampled.take(low, axis) + share * upsampled.take(
            high, axis
        )
    outputs = np.zeros((2 * len(frames) - 1, *upsampled.shape[1:]))
    outputs[::2] = upsampled
    outputs[1::2] = (upsampled[1:] + upsampled[:-1]) / 2
    return outputs


def randomise(model, rng, scale=0.05):
    for weight in model.trainable_weights:
        weight.assign(rng.normal(size=weight.shape, scale=scale))


@pytest.mark.parametrize("size", [(8, 8), (13, 10), (1, 5)])
def test_untrained_is_trilinear_upsampling_exactly(tiny, rng, size):
    frames = rng.uniform(size=(2, 3, *size, 3)).astype("float32")
    received = np.asarray(tiny(frames))
    assert received.shape == (2, 5, 4 * size[0], 4 * size[1], 3)
    for clip, outputs in zip(frames, received, strict=True):
        np.testing.assert_allclose(outputs, trilinear(clip), atol=1e-6)


def test_clips_of_a_batch_do_not_see_each_other(tiny, rng):
    randomise(tiny, rng)
    frames = rng.uniform(size=(2, 3, 8, 12, 3)).astype("float32")
    both = np.asarray(tiny(frames))
    for i in range(2):
        np.testing.assert_allclose(both[i], tiny(frames[i : i + 1])[0], atol=1e-5)


@pytest.mark.slow
def test_keras_file_round_trip_keeps_class_config_and_outputs(tiny, rng, tmp_path):
    randomise(tiny, rng)
    frames = rng.uniform(size=(1, 3, 8, 8, 3)).astype("float32")
    tiny.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert type(loaded) is MEGAN
    assert loaded.get_config() == tiny.get_config()
    np.testing.assert_array_equal(loaded(frames), tiny(frames))


@pytest.mark.parametrize("variant", ["deformable", "window"])
@pytest.mark.slow
def test_fit_lowers_the_loss_and_trains_every_stage(rng, variant):
    model = MEGAN(**{**TINY, **SMALL_VARIANTS[variant]})
    frames = rng.uniform(size=(2, 3, 8, 8, 3)).astype("float32")
    targets = rng.uniform(size=(2, 5, 32, 32, 3)).astype("float32")
    randomise(model, rng, 0.2)
    before = {w.path: w.numpy() for w in model.trainable_weights}
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss=keras_megan.losses.Charbonnier(),
    )
    history = model.fit(frames, targets, epochs=4, batch_size=2, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    for layer in model.layers:
        if layer.trainable_weights:
            moved = [
                np.abs(w.numpy() - before[w.path]).max()
                for w in layer.trainable_weights
            ]
            assert max(moved) > 1e-4, layer.name


@pytest.mark.slow
def test_mixed_precision_gives_float32_outputs_close_to_float32(rng):
    options = {**TINY, **SMALL_VARIANTS["window"]}
    exact, mixed = MEGAN(**options), MEGAN(**options, dtype="mixed_float16")
    randomise(exact, rng)
    mixed.set_weights(exact.get_weights())
    frames = rng.uniform(size=(1, 3, 8, 8, 3)).astype("float32")
    received = mixed(frames)
    assert received.dtype == "float32"
    np.testing.assert_allclose(received, exact(frames), atol=5e-3)
    assert MEGAN.from_config(mixed.get_config()).get_config() == mixed.get_config()


@pytest.mark.slow
def test_presets_keep_their_budgets():
    """Sizes and multiply-adds that the README and the model cards state."""
    base = MEGAN()
    edge = MEGAN.from_preset("megan_edge", load_weights=False)
    mobile = MEGAN.from_preset("megan_mobile", load_weights=False)
    models = (base, edge, mobile)
    macs = [keras_megan.net2net.count_macs(model, (4, 64, 112, 3)) for model in models]
    sizes = [model.count_params() for model in models]
    assert sizes == [8_935_539, 615_109, 589_133]
    assert macs == [340_700_803_072, 17_637_102_336, 22_893_018_624]
    # The peers they were made to undercut: Zooming Slow-Mo, and the edge budget.
    assert base.count_params() < 11_100_000 and macs[0] < 600e9
    assert max(sizes[1:]) < 620_000 and max(macs[1:]) < 24e9


def test_summary_names_the_stages_in_order(capsys):
    model = MEGAN(**TINY, **SMALL_VARIANTS["window"])
    model.summary(line_length=90)
    printed = capsys.readouterr().out
    stages = ["interpolate", "memory", "non_local_0", "fusion_0", "reconstruct"]
    places = [printed.index(stage) for stage in stages]
    assert places == sorted(places)


@pytest.mark.slow
def test_uniform_growth_comes_back_as_a_wider_megan(rng):
    teacher = MEGAN(**TINY, **SMALL_VARIANTS["window"])
    randomise(teacher, rng, 0.1)
    frames = rng.uniform(size=(1, 3, 8, 12, 3)).astype("float32")
    student = keras_megan.net2net.widen(teacher, factor=1.5).apply()
    assert type(student) is MEGAN
    assert student.filters == 12
    expected = np.asarray(teacher(frames))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(student(frames), expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.slow
def test_appended_blocks_change_nothing_and_can_learn(tiny, rng):
    randomise(tiny, rng, 0.1)
    frames = rng.uniform(size=(1, 3, 8, 12, 3)).astype("float32")
    deeper = tiny.deepen(extraction_blocks=1, fusion_blocks=2, reconstruction_blocks=1)
    config = deeper.get_config()
    assert (config["extraction_blocks"], config["fusion_blocks"]) == (2, 3)
    assert config["reconstruction_blocks"] == 2
    assert deeper.count_params() > tiny.count_params()
    np.testing.assert_array_equal(deeper(frames), tiny(frames))
    block = deeper.get_layer("fusion_2")
    assert np.any(block.frame_conv.get_weights()[0])
    assert not np.any(block.merge_frame.get_weights()[0])


def test_appending_fewer_than_no_blocks_is_refused(tiny):
    with pytest.raises(ValueError, match="only be appended.*-1"):
        tiny.deepen(fusion_blocks=-1)

"""Models behind the runner protocol: what is accepted, and what is left alone."""

import numpy as np
import pytest

from keras_megan.video.errors import VideoError
from keras_megan.video.io.reading.read import open_clip
from keras_megan.video.io.writing.codecs import CODECS
from keras_megan.video.models.runner import KerasRunner, load_runner, register_runner
from keras_megan.video.upscale import UpscaleOptions, upscale
from tests.networks import plain_network
from tests.video.clips import PlainRunner, picture, write_clip


def test_shapes_are_learned_from_the_model_and_pixels_keep_their_values():
    runner = KerasRunner(plain_network(3, 2))
    assert (runner.frames_in, runner.frames_out, runner.scale) == (3, 5, 2)
    frames = np.stack([picture(i) for i in range(3)])
    result = runner(frames)
    assert result.shape == (5, 48, 64, 3)
    np.testing.assert_allclose(result[::2, ::2, ::2], frames / 255, atol=1e-6)


def test_a_model_compiled_by_its_owner_is_left_as_it_was():
    import keras

    inputs = keras.Input((2, None, None, 3))
    outputs = keras.layers.Conv3D(3, 1)(inputs)
    outputs = keras.layers.UpSampling3D((2, 2, 2))(outputs)
    model = keras.Model(inputs, keras.layers.Cropping3D(((1, 0), 0, 0))(outputs))
    model.compile(keras.optimizers.SGD(0.5), "mse", jit_compile=False)
    optimizer, predict = model.optimizer, model.predict_function
    KerasRunner(model)(np.zeros((2, 8, 8, 3), np.uint8))
    assert model.optimizer is optimizer and model.predict_function is predict
    assert model.jit_compile is False
    model.fit(np.ones((1, 2, 8, 8, 3)), np.ones((1, 3, 16, 16, 3)), verbose=0)


def test_the_fingerprint_follows_the_weights():
    import keras

    keras.utils.set_random_seed(1)
    inputs = keras.Input((2, 8, 8, 3), name="frames")
    hidden = keras.layers.Conv3D(3, 1, name="mix")(inputs)
    outputs = keras.layers.UpSampling3D((2, 2, 2), name="up")(hidden)
    outputs = keras.layers.Cropping3D(((1, 0), 0, 0), name="crop")(outputs)
    model = keras.Model(inputs, outputs, name="model")
    first = KerasRunner(model).fingerprint
    assert KerasRunner(model).fingerprint == first
    assert KerasRunner(model).fixed_size == (8, 8)
    model.weights[0].assign(model.weights[0] + 1e-3)
    assert KerasRunner(model).fingerprint != first


def test_models_of_another_kind_are_refused_with_their_shape():
    import keras

    inputs = keras.Input((32, 32, 3))
    model = keras.Model(inputs, keras.layers.UpSampling2D()(inputs))
    with pytest.raises(VideoError, match=r"does not upscale video.*32, 32, 3"):
        KerasRunner(model)
    inputs = keras.Input((4, None, None, 3))
    model = keras.Model(inputs, keras.layers.UpSampling3D((1, 4, 4))(inputs))
    with pytest.raises(VideoError, match=r"2T-1"):
        KerasRunner(model)


def test_a_new_file_type_is_one_registration(tmp_path, monkeypatch):
    from keras_megan.video.models import runner

    monkeypatch.setattr(runner, "_LOADERS", dict(runner._LOADERS))
    register_runner(".plain")(lambda path: PlainRunner(int(path.read_text())))
    (tmp_path / "six.plain").write_text("6")
    assert load_runner(tmp_path / "six.plain").frames_out == 11


@pytest.mark.slow
@pytest.mark.parametrize("name", CODECS)
def test_every_codec_gives_every_frame_in_its_place(tmp_path, name):
    codec = CODECS[name]
    images = [picture(i, 32, 40) for i in range(30)]
    source = write_clip(tmp_path / "in.mp4", images)
    given = [frame.image for frame in open_clip(source).frames()]
    for suffix in codec.suffixes:
        output = tmp_path / f"out{suffix}"
        upscale(source, output, PlainRunner(), UpscaleOptions(codec=name))
        made = list(open_clip(output).frames())
        assert len(made) == 59  # two segments
        for index, frame in enumerate(made):
            assert float(frame.time) == pytest.approx(index / 50, abs=6e-4)
        worst = max(
            np.abs(np.int16(made[2 * i].image[1::4, 1::4]) - given[i]).mean()
            for i in range(30)
        )
        assert worst < (0.01 if name == "ffv1" else 6)

"""Frames through a video codec, as damage and as a task of the evaluation."""

import io
import json

import cv2
import numpy as np
import pytest
from rich.console import Console

from keras_megan.imaging.resize import imresize
from training.data.codecs import CODECS, parse_quality, through_codec
from training.data.degradations import DEGRADATIONS, Degradation
from training.data.sampling import generator
from training.errors import TrainingError
from training.evaluate import Settings, evaluate
from training.evaluation.clips import Clip, degrade
from training.evaluation.network_method import deblock


def moving(count=6, height=46, width=70):
    """A textured picture that moves by two pixels a frame, uint8 RGB."""
    grey = np.random.default_rng(0).random((20, 30, 1))
    noise = grey * (1.0, 0.9, 0.7)  # codecs keep colours at half the size
    wide = (imresize(noise, 5.0).clip(0, 1) * 255).astype(np.uint8)
    return np.stack([wide[:height, 2 * i : 2 * i + width] for i in range(count)])


def error(frames, others):
    return np.abs(frames.astype(float) - others).mean()


@pytest.mark.parametrize("name", CODECS)
def test_worse_quality_takes_fewer_bytes_and_loses_more(name):
    frames, codec = moving(6, 62, 94), CODECS[name]
    fine, many = through_codec(frames, name, codec.best)
    coarse, few = through_codec(frames, name, codec.worst)
    assert fine.shape == frames.shape and fine.dtype == np.uint8
    assert few < many / 2
    assert error(frames, fine) < 4 and error(frames, coarse) > 1.5 * error(frames, fine)
    # In order: each frame is nearest to its own original.
    for index, frame in enumerate(fine):
        assert np.argmin([error(frame, other) for other in frames]) == index
    np.testing.assert_array_equal(through_codec(frames, name, codec.worst)[0], coarse)


def test_odd_sizes_come_back_whole():
    frames = moving(3, 45, 69)
    decoded, _ = through_codec(frames, "h264", 12)
    assert decoded.shape == frames.shape
    assert error(frames[:, -4:, -4:], decoded[:, -4:, -4:]) < 6


def test_qualities_are_read_and_nonsense_is_refused():
    assert parse_quality("vp9:44") == ("vp9", 44)
    with pytest.raises(TrainingError, match="Unknown codec 'divx'; choose from h264"):
        parse_quality("divx:3")
    with pytest.raises(TrainingError, match="such as h264:32; received 'h264'"):
        parse_quality("h264")


def test_the_strength_of_a_codec_is_its_quality():
    frames = moving(4, 48, 48)

    def damage(strength):
        settings = Degradation("codec", strength, strength, 1.0)
        return [
            error(frames, DEGRADATIONS["codec"](frames, settings, generator(0, n)))
            for n in range(8)
        ]

    light, heavy = damage(0.0), damage(1.0)
    assert all(a < b for a, b in zip(light, heavy, strict=True))


def test_sharpening_strengthens_edges():
    frames = np.zeros((2, 16, 16, 3), np.uint8)
    frames[:, :, 8:] = 100
    sharp = DEGRADATIONS["sharpening"](
        frames, Degradation("sharpening", 0.5, 0.5, 1.0), generator(0, 0)
    )
    assert sharp[0, 8, 8, 0] > 110 and abs(int(sharp[0, 8, 15, 0]) - 100) <= 1


def test_a_compressed_clip_is_one_film_of_reduced_frames():
    clip = Clip("clip", np.repeat(np.repeat(moving(8, 32, 40), 2, 1), 2, 2))
    damaged = clip.compressed("h264", 30)
    expected, size = through_codec(degrade(clip.truth), "h264", 30)
    np.testing.assert_array_equal(damaged.small(slice(1, 8, 2)), expected[1::2])
    np.testing.assert_array_equal(clip.small([2]), degrade(clip.truth[2:3]))
    assert damaged.bits == 8 * size / (8 * 16 * 20)


def test_deblocking_softens_steps_between_blocks_only():
    frames = np.zeros((2, 32, 32, 3), np.uint8) + 100
    frames[:, :, 16:] += 6  # a step where blocks meet
    frames[:, 3, :8] = 220  # detail inside a block
    result = deblock(frames).astype(int)
    steps = np.abs(np.diff(result[0, 20, :, 1]))
    assert steps[15] < 6 and result.shape == frames.shape
    assert result[0, 3, 3, 1] > 190


def test_the_evaluation_compresses_what_methods_see(tmp_path):
    frames = np.repeat(np.repeat(moving(7, 48, 48), 2, 1), 2, 2)
    (tmp_path / "clips" / "one").mkdir(parents=True)
    for index, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / "clips" / "one" / f"{index}.png"), frame[..., ::-1])

    def run(compress):
        printed = io.StringIO()
        settings = Settings(
            clips=str(tmp_path / "clips"),
            out=str(tmp_path / "out"),
            baselines=("bicubic_blend",),
            compress=compress,
        )
        evaluate(settings, Console(file=printed, width=120))
        document = json.loads((tmp_path / "out" / "results.json").read_text())
        return document, printed.getvalue()

    clean, _ = run(None)
    bad, printed = run("h264:40")
    psnr = [d["mean"]["bicubic_blend"]["psnr"]["all"] for d in (clean, bad)]
    assert psnr[1] < psnr[0] - 1
    assert 0 < bad["bits_per_pixel"]["one"] < 3
    assert "one: h264:40 took" in printed

"""How large the result is: sizes that are asked for, and the resize that makes them."""

from fractions import Fraction

import numpy as np
import pytest

from keras_megan.imaging.resize import imresize
from keras_megan.video.errors import VideoError
from keras_megan.video.io.reading.read import open_clip
from keras_megan.video.request.size import Size, output_size, parse_size, resizer
from keras_megan.video.upscale import UpscaleOptions, upscale
from tests.video.clips import PlainRunner, picture, read_images, write_clip


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        ({}, (1280, 720)),
        ({"scale": Fraction(4)}, (1280, 720)),
        ({"scale": Fraction(1)}, (320, 180)),
        ({"scale": Fraction(3, 2)}, (480, 270)),
        ({"scale": Fraction("1.3")}, (416, 234)),
        ({"size": parse_size("640x360")}, (640, 360)),
        ({"size": parse_size("640x362")}, (640, 362)),
        ({"size": parse_size("500p")}, (888, 500)),
        ({"size": parse_size("1000x1000"), "fit": True}, (1000, 562)),
        ({"size": parse_size("4000x400"), "fit": True}, (712, 400)),
        ({"size": parse_size("160x90")}, (160, 90)),
    ],
)
def test_sizes_are_even_and_keep_the_shape(asked, size):
    assert output_size(320, 180, 4, **asked) == size


def test_lines_are_counted_along_the_shorter_side():
    assert output_size(180, 320, 4, size=Size(None, 540)) == (540, 960)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"scale": Fraction(9, 2)}, "from 1 to 4"),
        ({"scale": Fraction(1, 2)}, "from 1 to 4"),
        ({"scale": Fraction(2), "size": Size(640, 360)}, "exclude each other"),
        ({"fit": True}, "--fit needs a box"),
        ({"fit": True, "size": Size(None, 720)}, "--fit needs a box"),
        ({"size": Size(640, 480)}, "without distortion. Add --fit for 640x360"),
        ({"size": Size(None, 1080)}, "more than 4 times the input, .*1280x720"),
        ({"size": Size(1920, 1080), "fit": True}, "more than 4 times"),
    ],
)
def test_sizes_that_cannot_be_are_refused_in_one_line(asked, words):
    with pytest.raises(VideoError, match=words) as error:
        output_size(320, 180, 4, **asked)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "1080", "0p", "8p", "12x", "1920x1080x3", "x"])
def test_texts_that_are_not_sizes(text):
    with pytest.raises(ValueError, match="expected"):
        parse_size(text)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_shrinking_is_antialiased_and_leaves_flat_areas_alone(kind):
    top = np.iinfo(kind).max
    y, x = np.mgrid[0:96, 0:128]
    checks = (((x + y) % 2) * top).astype(kind)[..., None].repeat(3, 2)
    small = resizer(48, 36)(checks)
    assert small.shape == (36, 48, 3) and small.dtype == kind
    # Without antialiasing, single black and white pixels would survive.
    assert np.abs(small[4:-4, 4:-4].astype(float) - top / 2).max() < 0.05 * top
    flat = np.full((96, 128, 3), top // 3, kind)
    assert np.abs(resizer(60, 46)(flat).astype(float) - top // 3).max() <= top / 255


def test_shrinking_agrees_with_the_published_resize():
    image = picture(5, 96, 128)
    expected = imresize(image, output_size=(54, 72)).astype(float)
    difference = np.abs(resizer(72, 54)(image) - expected)
    assert difference.mean() < 0.6 and difference.max() <= 6
    assert resizer(128, 96)(image) is image


def test_a_clip_comes_out_in_the_size_that_was_asked_for_with_its_pixel_shape(tmp_path):
    def shape(container, stream):
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)

    images = [picture(i) for i in range(5)]
    source = write_clip(tmp_path / "in.mp4", images, prepare=shape)
    output = tmp_path / "out.mp4"
    options = UpscaleOptions(scale=Fraction(3, 2))
    summary = upscale(source, output, PlainRunner(), options)
    assert (summary.width, summary.height) == (48, 36)
    assert read_images(output)[0].shape == (36, 48, 3)
    info = open_clip(output).info
    assert (info.width, info.height, info.pixel_aspect) == (48, 36, Fraction(4, 3))


def test_scale_1_is_interpolation_alone(tmp_path):
    images = [picture(i) for i in range(4)]
    source = write_clip(tmp_path / "in.mp4", images)
    given = [frame.image for frame in open_clip(source).frames()]
    upscale(source, tmp_path / "out", PlainRunner(), UpscaleOptions(scale=Fraction(1)))
    made = [frame.image for frame in open_clip(tmp_path / "out").frames()]
    assert len(made) == 7 and made[0].shape == (24, 32, 3)
    for before, after in zip(given, made[::2], strict=True):
        assert np.abs(before.astype(float) - after).mean() < 1.5

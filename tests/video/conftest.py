"""Fixtures of the video tests."""

import pytest

from tests.video.clips import picture, write_clip


@pytest.fixture
def clip(tmp_path):
    """Eleven frames of 32x24 at 25 frames/s with a tone."""
    images = [picture(index) for index in range(11)]
    return write_clip(tmp_path / "clip.mp4", images, sound=0.44)

"""A plain model and clips for the tests of the command line."""

import pytest

from tests.video.clips import picture, write_clip


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Repeats pixels in space, averages in time: (4, H, W, 3) -> (7, 4H, 4W, 3)."""
    from tests.networks import plain_network

    path = tmp_path_factory.mktemp("model") / "plain.keras"
    plain_network().save(path)
    return path


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "clip.mp4", [picture(i) for i in range(6)], sound=0.24)

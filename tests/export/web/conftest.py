"""A small page for all tests that look at it, and a browser, or a skip."""

import json
import os
from pathlib import Path

import pytest

from export.web.chromium import NO_BROWSER, find_chromium, run_in_chromium
from export.web.packages import HERE
from export.web.serve import serving
from tests.networks import tiny_megan

#: Set where the tests must run, so that a missing browser is a failure.
REQUIRED = "KERAS_MEGAN_REQUIRE_BROWSER"
#: Of a tile; two of them overlap enough to blend.
SIDE = 56


@pytest.fixture(scope="session", autouse=True)
def browser():
    if find_chromium() is None:
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"{REQUIRED} is set, but {NO_BROWSER}.")
        pytest.skip(NO_BROWSER)


@pytest.fixture
def visit(tmp_path, monkeypatch):
    """A function that visits a page: program, folder, job -> what there was to see."""
    monkeypatch.setenv("MEGAN_BROWSER", str(HERE / "browser"))

    def run(program, site, job):
        seen = tmp_path / f"{program}.json"
        with serving(site) as address:
            wanted = {"address": address, "seen": str(seen), **job}
            run_in_chromium(Path(__file__).with_name(program), wanted, 600)
        return json.loads(seen.read_text("utf-8"))

    return run


@pytest.fixture(scope="session")
def small_network(tmp_path_factory):
    """The path of a MEGAN of few operations whose every weight does something."""
    model = tiny_megan(
        gain=0.2,
        filters=4,
        alignment_options={
            "levels": 2,
            "reach": 2,
            "motion_filters": 4,
            "matching_filters": 4,
        },
        descriptor_size=2,
        extraction_blocks=0,
        non_local_blocks=0,
        fusion_blocks=0,
        reconstruction_blocks=0,
        name="small",
    )
    path = tmp_path_factory.mktemp("network") / "small.keras"
    model.save(path)
    return path

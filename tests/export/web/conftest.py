"""A small page for all tests that look at it, and a browser, or a skip."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from export.web.chromium import NO_BROWSER, find_chromium, run_in_chromium
from export.web.packages import HERE
from export.web.serve import serving
from keras_megan import MEGAN

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
    rng = np.random.default_rng(1)
    model = MEGAN(
        filters=4,
        extraction_blocks=0,
        alignment="window",
        alignment_options={
            "levels": 2,
            "reach": 2,
            "motion_filters": 4,
            "matching_filters": 4,
        },
        descriptor_size=2,
        non_local_blocks=0,
        fusion_blocks=0,
        reconstruction_blocks=0,
        tail="light",
        tail_filters=4,
        name="small",
    )
    for weight in model.trainable_weights:
        fan_in = max(1, int(np.prod(weight.shape[:-1])))
        weight.assign(rng.normal(size=weight.shape) * 0.2 / np.sqrt(fan_in))
    path = tmp_path_factory.mktemp("network") / "small.keras"
    model.save(path)
    return path

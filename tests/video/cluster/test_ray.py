"""Two workers of Ray: the bytes of one process, whichever of the processes is killed.

Left out where Ray is not installed, as in the usual environment of the tests
(pip install keras_megan[ray]). `test_crew` has the same without Ray.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.video.kills import make_network
from keras_megan.video.jobs.journal import work_folder
from tests.video.clips import picture, write_clip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="Ray is not installed"
    ),
]
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A clip, a tiny network for LiteRT and the result of one process."""
    folder = tmp_path_factory.mktemp("ray")
    make_network(folder / "repeat.tflite")
    write_clip(folder / "in.mp4", [picture(i, 48, 64) for i in range(200)], sound=8.0)
    out, err = start(folder, "whole.mp4").communicate(timeout=300)
    assert (folder / "whole.mp4").exists(), err
    return folder


def start(folder, output, *options):
    command = [sys.executable, "-m", "keras_megan", "upscale", folder / "in.mp4"]
    command += ["-o", folder / output, "--model", folder / "repeat.tflite", "--json"]
    return subprocess.Popen(
        [*map(str, command), *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def done(process):
    """What the last event says, once the process has ended well."""
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def same(folder, output):
    made, whole = folder / output, folder / "whole.mp4"
    return made.read_bytes() == whole.read_bytes()


def workers():
    """Process ids of Ray's actors on this machine."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"ray::Worker" in entry.read_bytes():
                found.append(int(entry.parent.name))
        except OSError:
            pass
    return found


def wait_for_segment(process, output):
    deadline = time.monotonic() + 400
    while not list(work_folder(output).glob("segment_*.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no segment was finished"
        time.sleep(0.01)


def test_two_workers_make_the_bytes_of_one_process(folder):
    assert (
        done(start(folder, "two.mp4", "--ray", "--workers", "2"))["frames_out"] == 399
    )
    assert same(folder, "two.mp4")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds workers in /proc")
def test_a_killed_worker_is_replaced(folder):
    before = set(workers())
    process = start(folder, "worker.mp4", "--ray", "--workers", "2")
    deadline = time.monotonic() + 400
    while not (mine := set(workers()) - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(mine.pop(), signal.SIGKILL)
    done(process)
    assert same(folder, "worker.mp4")


def test_a_killed_driver_goes_on(folder):
    output = folder / "driver.mp4"
    process = start(folder, output.name, "--ray", "--workers", "2")
    wait_for_segment(process, output)
    process.kill()
    process.communicate()
    if not output.exists():  # killed before its end, as nearly always
        assert done(start(folder, output.name, "--ray"))["resumed_frames"] >= 48
    assert same(folder, output.name)

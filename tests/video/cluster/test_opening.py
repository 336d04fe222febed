"""Where a job runs: here, or on workers; how CPUs and GPUs are shared among them."""

import argparse
import io
import sys
import threading

import pytest

import keras_megan
from keras_megan import extras
from keras_megan.cli.main import main
from keras_megan.cli.values import address
from keras_megan.video.cluster import open_models
from keras_megan.video.cluster.ray_cluster import _divide, _WithoutRay
from keras_megan.video.errors import VideoError
from keras_megan.video.models.engines import ModelChoice
from keras_megan.video.models.loaded import Models
from tests.video.clips import PlainRunner

CHOICE = ModelChoice("megan_nano")


@pytest.mark.parametrize(
    "given, expected",
    [
        ((2, 0, None, None), (2, 1)),  # CPUs, GPUs, --workers, --threads
        ((1, 0, None, None), (1, 1)),
        ((16, 0, None, None), (4, 4)),
        ((16, 0, None, 2), (8, 2)),
        ((16, 0, 3, None), (3, 5)),
        ((32, 4, None, None), (4, 4)),
        ((4, 4, None, None), (4, 1)),
        ((32, 4, 2, 8), (2, 8)),
    ],
)
def test_cpus_and_gpus_are_shared_among_workers(given, expected):
    assert _divide(*given) == expected


@pytest.mark.parametrize(
    "given", [(2, 0, 3, None), (4, 0, 2, 4), (32, 4, 5, None), (0, 0, None, None)]
)
def test_more_workers_than_there_is_room_for_are_refused(given):
    with pytest.raises(VideoError, match="is not enough for"):
        _divide(*given)


def test_without_ray_the_job_runs_here_and_takes_no_workers():
    assert isinstance(open_models(CHOICE), Models)
    with pytest.raises(VideoError, match="goes with --ray"):
        open_models(CHOICE, workers=2)


def test_ray_that_is_not_installed_is_one_line(monkeypatch, clip, tmp_path, capsys):
    monkeypatch.setattr(extras, "_is_there", lambda module: module != "ray")
    output = tmp_path / "out.mp4"
    arguments = ["upscale", str(clip), "-o", str(output), "--model", "megan_nano"]
    assert main([*arguments, "--ray"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install 'keras_megan[ray]'" in line
    with pytest.raises(extras.MissingExtra):
        keras_megan.upscale(clip, output, model="megan_nano", ray=True)


def test_a_model_in_memory_does_not_go_to_other_machines(clip, tmp_path):
    with pytest.raises(VideoError, match="by its name or file"):
        keras_megan.upscale(clip, tmp_path / "o.mp4", model=PlainRunner(), ray=True)


def test_addresses_are_told_from_inputs():
    for text in ("10.0.0.1:6379", "auto", "ray://head:10001"):
        assert address(text) == text
    for text in ("clip.mp4", "", "host:", ":1", "host:x"):
        with pytest.raises(argparse.ArgumentTypeError, match="Inputs go before it"):
            address(text)


def test_what_threads_of_ray_print_does_not_reach_standard_output():
    stream = io.StringIO()
    wrapped = _WithoutRay(stream)
    print("ours", file=wrapped)
    thread = threading.Thread(
        target=lambda: print("theirs", file=wrapped), name="ray_listen_error_messages"
    )
    thread.start()
    thread.join()
    assert stream.getvalue() == "ours\n"
    assert sys.stdout is not wrapped

"""What starts at once: nothing heavy is loaded before it is needed, layers still are
registered, and failures are known early.
"""

import subprocess
import sys

import pytest

from keras_megan.cli.main import build_parser, main

HEAVY = ("keras", "tensorflow", "jax", "torch")


def run(code):
    """A fresh interpreter, whose standard output is returned."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


LOADED = (
    f"print([name for name in {HEAVY + ('av', 'cv2', 'numpy')} if name in sys.modules])"
)


def test_help_version_models_and_missing_files_load_no_framework():
    code = f"""
import contextlib, io, sys
from keras_megan.cli.main import main
def silent():
    stack = contextlib.ExitStack()
    stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
    stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
    return stack
with silent():
    for line in ("--help", "--version", "upscale --help"):
        try:
            main(line.split())
        except SystemExit as ended:
            assert ended.code == 0
light = [name for name in sys.modules if name in ("av", "cv2", "numpy")]
assert not light, light
with silent():
    assert main(["models"]) == 0
    assert main(["info", "missing.mp4"]) == 1
    assert main(["upscale", "missing.mp4"]) == 1
    assert main(["completion", "bash"]) == 0
{LOADED}
"""
    assert run(code).strip() == "['av', 'cv2', 'numpy']"


@pytest.mark.slow
def test_layers_are_registered_in_whichever_order_the_imports_stand():
    code = """
import sys
import keras_megan
import keras_megan.video.api
assert "keras" not in sys.modules
import keras_megan.net2net  # what needs Keras itself is the hardest to come first
import keras
import keras_megan.layers as layers
assert keras.saving.get_registered_object("keras_megan>MEGAN") is keras_megan.MEGAN
assert layers is sys.modules["keras_megan.layers"] is keras_megan.layers
assert keras_megan.layers.__spec__.origin.endswith("__init__.py")
assert type(keras.__spec__.loader).__module__ == "_frozen_importlib_external"
assert not [f for f in sys.meta_path if type(f).__module__.startswith("keras_megan")]
print("fine")
"""
    assert run(code).strip() == "fine"


def test_upscale_help_is_one_screen_with_groups(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["upscale", "--help"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 62 and max(map(len, lines)) <= 80
    for group in ("size and rate:", "computing:", "encoding:", "results:", "examples:"):
        assert group in lines


def test_completion_knows_every_option_and_the_shell_reads_it(capsys):
    parser = build_parser()
    commands = parser._subparsers._group_actions[0].choices
    for shell in ("bash", "zsh", "fish"):
        assert main(["completion", shell]) == 0
        script = capsys.readouterr().out
        for name, sub in commands.items():
            assert name in script
            for action in sub._actions:
                for option in action.option_strings:
                    assert option.lstrip("-") in script
        if shell == "bash":
            done = subprocess.run(
                [
                    "bash",
                    "-c",
                    script + "\nCOMP_WORDS=(megan upscale --sca); COMP_CWORD=2"
                    "\n_megan; echo ${COMPREPLY[@]}",
                ],
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert done.stdout.split() == ["--scale"], done.stderr


def test_who_stops_listening_is_no_failure(tmp_path):
    code = (
        f"{sys.executable} -m keras_megan models --json | true; echo ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(
        ["bash", "-c", code], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == ["0"] and "Broken pipe" not in done.stderr

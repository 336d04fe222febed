"""Each mistake a user can make: one clear line on standard error and exit status 1."""

import json

import pytest

from keras_megan.errors import run_program as guarded
from tests.training.conftest import run_program
from training.engine.strategies import check_tf_config, make_strategy
from training.errors import TrainingError
from training.runs.folder import begin_run
from training.stages.recipe import Recipe, Stage, load_recipe


def one_line(module, *flags, **options):
    status, _, error = run_program(module, *flags, **options)
    name = module.rsplit(".", 1)[-1]
    lines = error.splitlines()  # nothing else: TensorFlow does not announce itself
    assert status == 1 and len(lines) == 1 and lines[0].startswith(f"{name}: "), error
    return lines[0]


@pytest.mark.slow
def test_an_empty_data_folder_fails_in_one_line(tmp_path, recipe_file):
    empty = tmp_path / "empty"
    empty.mkdir()
    flags = ("--recipe", recipe_file(), "--data", empty, "--out", tmp_path / "run")
    assert "holds no manifest.json" in one_line("training.train", *flags)
    line = one_line("training.prepare", "--videos", empty, "--out", tmp_path / "out")
    assert "holds nothing to train on" in line


@pytest.mark.slow
def test_a_tf_config_that_does_not_parse_fails_in_one_line(
    tmp_path, recipe_file, shards
):
    flags = ("--recipe", recipe_file(), "--data", shards, "--out", tmp_path / "run")
    line = one_line("training.train", *flags, environment={"TF_CONFIG": "{oops"})
    assert "TF_CONFIG cannot be used" in line and "Expected JSON like" in line


@pytest.mark.parametrize(
    "config",
    [
        "",
        "[]",
        '{"cluster": {"worker": ["a:1"]}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "cook", "index": 0}}',
    ],
)
def test_every_unusable_tf_config_is_explained(monkeypatch, config):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(TrainingError, match="TF_CONFIG cannot be used"):
        check_tf_config()


def test_a_usable_tf_config_passes(monkeypatch):
    cluster = {"worker": ["a:1", "b:2"], "chief": ["c:3"]}
    task = {"type": "worker", "index": 1}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
    check_tf_config()


def test_unknown_strategies_are_named_with_the_known_ones():
    with pytest.raises(TrainingError, match="'tpu'; choose from auto, none"):
        make_strategy("tpu")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "does not exist; expected a Python file"),
        ("RECIPE = 3", "must define RECIPE"),
        ("import nothing_of_that_name", "failed: ModuleNotFoundError"),
        ("def f(:", "failed: SyntaxError"),
    ],
)
def test_recipes_that_cannot_be_used_are_explained(tmp_path, text, message):
    path = tmp_path / "recipe.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(TrainingError, match=message):
        load_recipe(path)


def test_stages_check_their_numbers():
    for wrong in ({"steps": 0}, {"learning_rate": 0.0}, {"fraction": 1.5}):
        with pytest.raises(TrainingError, match="expects steps >= 1"):
            Stage(**{"name": "s", "steps": 1, "learning_rate": 1.0, **wrong})
    stage = Stage("s", 1, 1.0)
    with pytest.raises(TrainingError, match="need different names"):
        Recipe("r", None, None, (stage, stage))
    with pytest.raises(TrainingError, match="has no stages"):
        Recipe("r", None, None, ())
    for name in ("batch_size", "validate_every", "save_every"):
        with pytest.raises(TrainingError, match=f"{name} must be >= 1; received 0"):
            Recipe("r", None, None, (stage,), **{name: 0})


def test_another_recipe_in_the_same_folder_is_refused_and_the_differences_are_named(
    recipe_file, tmp_path
):
    begin_run(load_recipe(recipe_file()), tmp_path / "run")
    begin_run(load_recipe(recipe_file(log_every=7, keep=9)), tmp_path / "run")
    with pytest.raises(TrainingError, match="batch_size was 4, is 2"):
        begin_run(load_recipe(recipe_file(batch_size=2)), tmp_path / "run")
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(TrainingError, match="is not a run's config"):
        begin_run(load_recipe(recipe_file()), tmp_path / "run")


@pytest.mark.slow
def test_a_batch_that_replicas_cannot_share_is_refused(recipe_file, shards, tmp_path):
    flags = ("--recipe", recipe_file(), "--data", shards, "--out", tmp_path / "run")
    line = one_line("training.train", *flags, "--strategy=mirrored", "--logical_cpus=3")
    assert "batch of 4 cannot be divided among 3 replicas" in line


def test_foreseen_failures_become_a_line_and_bugs_keep_their_traceback(capsys):
    def foreseen():
        raise TrainingError("two\nlines")

    def bug():
        raise ZeroDivisionError

    assert guarded("train", foreseen) == 1
    assert capsys.readouterr().err == "train: two lines\n"
    with pytest.raises(ZeroDivisionError):
        guarded("train", bug)

"""The recipes that ship: they load, are data, and end in the networks they name."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from keras_megan.megan import MEGAN
from training.errors import TrainingError
from training.stages.recipe import load_recipe

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[2] / "training" / "recipes"


def shipped():
    """Pairs: what `load_recipe` takes, and the name the recipe must have."""
    for path in sorted(FOLDER.glob("*.py")):
        several = runpy.run_path(str(path)).get("RECIPES")
        if several:
            for name in several:
                yield f"{path}:{name}", f"{path.stem}_{name}"
        elif path.stem != "__init__":
            yield str(path), path.stem


RECIPES = dict(shipped())


def test_the_recipes_that_the_docs_name_are_there():
    names = set(RECIPES.values())
    assert {"mobile_scratch", "mobile_cumulative", "nano", "base_vimeo"} <= names
    assert {"vgg_ci", "vgg_cifar_slim", "vgg_tiny_imagenet_slim"} <= names


@pytest.mark.parametrize(("path", "name"), RECIPES.items(), ids=RECIPES.values())
def test_each_recipe_loads_under_its_name_and_is_data(path, name):
    recipe = load_recipe(path)
    assert recipe.name == name and recipe.expected
    document = recipe.document()
    assert document["stages"][0]["steps"] == recipe.stages[0].steps
    halved = recipe.with_steps(sum(stage.steps for stage in recipe.stages) // 2)
    for before, after in zip(recipe.stages, halved.stages, strict=True):
        assert after.steps == pytest.approx(before.steps / 2, abs=1)
        assert before.warmup_steps / 2 - 1 <= after.warmup_steps <= before.warmup_steps
    for stage in recipe.with_steps(100 * len(recipe.stages)).stages:
        assert 0.1 * stage.steps - 1 <= stage.warmup_steps


def test_a_file_of_several_recipes_needs_the_name_of_one():
    for given in ("vgg.py", "vgg.py:nowhere"):
        with pytest.raises(TrainingError, match="NAME one of cifar_scratch, .*ci; rec"):
            load_recipe(FOLDER / given)
    with pytest.raises(TrainingError, match="it defines no RECIPES"):
        load_recipe(FOLDER / "nano.py:small")


def test_cumulative_and_scratch_end_in_the_same_network():
    scratch = load_recipe(FOLDER / "mobile_scratch.py")
    cumulative = load_recipe(FOLDER / "mobile_cumulative.py")
    assert scratch.task == cumulative.task
    model = cumulative.model()
    changes = [change for stage in cumulative.stages for change in stage.changes]
    (change,) = changes
    grown, whole = change.apply(model, None).model, scratch.model()
    last = [r.task_of(r.stages[-1]) for r in (scratch, cumulative)]
    assert last[0] == last[1]
    assert isinstance(grown, MEGAN) and model.count_params() < 0.3 * 589_133
    shapes = [[tuple(v.shape) for v in m.variables] for m in (grown, whole)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", ["whole", "no_fusion"])
def test_networks_of_the_ablation_begin_as_megan_edge(name):
    recipe = load_recipe(f"{FOLDER}/ablation.py:{name}")
    frames = np.random.default_rng(0).random((1, 4, 16, 24, 3), np.float32)
    made = recipe.model()
    expected = MEGAN.from_preset("megan_edge")(frames)
    np.testing.assert_array_equal(made(frames), expected)
    (stage,) = recipe.stages
    assert {layer.name for layer in made.layers} >= set(stage.layers)

"""The recipes that ship: they load, are data, and end in the networks they name."""

from pathlib import Path

import pytest

from keras_megan.megan import MEGAN
from training.stages.recipe import load_recipe

FOLDER = Path(__file__).parents[2] / "training" / "recipes"
RECIPES = sorted(path for path in FOLDER.glob("*.py") if path.stem != "__init__")


def test_there_are_recipes():
    assert {"mobile_scratch", "mobile_cumulative", "nano", "base_vimeo"} <= {
        path.stem for path in RECIPES
    }


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_each_recipe_loads_under_its_name_and_is_data(path):
    recipe = load_recipe(path)
    assert recipe.name == path.stem and recipe.expected
    document = recipe.document()
    assert document["stages"][0]["steps"] == recipe.stages[0].steps
    halved = recipe.with_steps(sum(stage.steps for stage in recipe.stages) // 2)
    for before, after in zip(recipe.stages, halved.stages, strict=True):
        assert after.steps == pytest.approx(before.steps / 2, abs=1)
        assert before.warmup_steps / 2 - 1 <= after.warmup_steps <= before.warmup_steps
    for stage in recipe.with_steps(100 * len(recipe.stages)).stages:
        assert 0.1 * stage.steps - 1 <= stage.warmup_steps


def test_cumulative_and_scratch_end_in_the_same_network():
    scratch = load_recipe(FOLDER / "mobile_scratch.py")
    cumulative = load_recipe(FOLDER / "mobile_cumulative.py")
    assert scratch.task == cumulative.task
    model = cumulative.model()
    changes = [change for stage in cumulative.stages for change in stage.changes]
    (change,) = changes
    grown, whole = change.plan(model, None).apply(), scratch.model()
    last = [r.task_of(r.stages[-1]) for r in (scratch, cumulative)]
    assert last[0] == last[1]
    assert isinstance(grown, MEGAN) and model.count_params() < 0.3 * 589_133
    shapes = [[tuple(v.shape) for v in m.variables] for m in (grown, whole)]
    assert shapes[0] == shapes[1]

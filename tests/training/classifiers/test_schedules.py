"""Schedules cost what the arithmetic says and fit; mistakes are found early."""

import dataclasses
import runpy
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_megan import net2net
from keras_megan.classifiers.vgg import vgg_bn, vgg_widths
from training.classifiers.schedules import (
    BROAD,
    HALF_COST,
    SLIM,
    Phase,
    VggSchedule,
    deepen_vgg,
    lean,
    relative_cost,
)
from training.errors import TrainingError
from training.stages import changes
from training.stages.checks import check_recipe
from training.stages.recipe import Recipe, Stage, load_recipe
from training.stages.teaching import Teaching
from training.tasks.images import ImageTask

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[3] / "training" / "recipes"

#: The lean phases on a network that is quickly traced.
TINY = VggSchedule(
    phases=lean(shallow=11, deep=13),
    depth=13,
    width=0.125,
    side=32,
    classes=10,
    samples=1000,
    epochs=4,
    batch_size=20,
)


def grown(schedule):
    """The networks that the stages begin with, from fresh weights and random images."""
    random = np.random.default_rng(0)
    images = random.random((8, schedule.side, schedule.side, 3), np.float32)
    model, found = schedule.first(), []
    for stage in schedule.stages():
        for change in stage.changes:
            model = change.apply(model, lambda: images).model
        found.append(model)
    return found


# === Arithmetic =======================================================================
def test_the_half_cost_family_costs_half_by_construction():
    # The multiply-adds of VGG19-BN at 64x64, x0.5, x0.75 and x1.0, in millions.
    shares = [macs / 1592.9 for macs in (400.1, 897.4, 1592.9)]
    by_hand = 0.25 * 0.40 * shares[0] + 0.5 * 0.40 * shares[1] + 0.36
    assert round(by_hand, 3) == 0.498
    schedule = VggSchedule(HALF_COST, 19, 1.0, 64, 200, 25_000, 80, 128)
    assert schedule.relative_cost() == pytest.approx(by_hand, abs=2e-4)
    epochs = [phase.epochs for phase in HALF_COST]
    fractions = [phase.fraction for phase in HALF_COST]
    assert relative_cost(epochs, fractions, shares) == pytest.approx(by_hand)


def test_steps_are_epochs_times_samples_over_the_batch():
    schedule = VggSchedule(HALF_COST, 11, 0.125, 32, 10, 1000, 4, 20)
    assert [stage.steps for stage in schedule.stages()] == [20, 40, 72]
    (scratch,) = schedule.scratch_stages()
    assert scratch.steps == 200 and scratch.fraction == 1.0 and not scratch.changes


#: Data and phases -> the share of training from scratch that they may cost, and the
#: multiply-adds that each stage's network may have, as shares of the whole network's.
PROMISES = {
    ("cifar", "half_cost"): (0.501, (0.2615, 0.5705, 1.0)),
    ("cifar", "broad"): (0.5, (0.2615, 1.0)),
    ("cifar", "slim"): (0.5, (0.2615, 1.0, 0.57)),
    ("cifar", "lean"): (0.4, (0.2615, 0.5705, 0.4)),
    ("tiny_imagenet", "half_cost"): (0.5, (0.2515, 0.5635, 1.0)),
    ("tiny_imagenet", "slim"): (0.5, (0.2515, 1.0, 0.57)),
    ("tiny_imagenet", "lean"): (0.4, (0.18, 0.5686, 0.4)),
}
#: The schedules that no recipe uses, by data.
NEGATIVE = {
    ("cifar", "half_cost"): HALF_COST,
    ("cifar", "lean"): lean(shallow=11, deep=11),
    ("tiny_imagenet", "half_cost"): HALF_COST,
    ("tiny_imagenet", "lean"): lean(shallow=13, deep=19),
}
VGG = runpy.run_path(str(FOLDER / "vgg.py"))


def vgg_recipe(data, name):
    """A recipe that ships, or one like it for a schedule that no recipe uses."""
    if (data, name) not in NEGATIVE:
        return load_recipe(FOLDER / f"vgg.py:{data}_{name}")
    schedule = VGG[data.upper()].with_phases(NEGATIVE[data, name])
    return VGG["grown"](name, schedule, VGG[f"{data.upper()}_TASK"], "less")


@pytest.mark.parametrize("case", PROMISES, ids="_".join)
def test_the_schedules_stay_within_the_cost_they_promise(case):
    share, macs = PROMISES[case]
    scratch = load_recipe(FOLDER / f"vgg.py:{case[0]}_scratch")
    recipe = vgg_recipe(*case)
    whole = net2net.count_macs(scratch.model())
    assert net2net.count_macs(recipe.model()) <= macs[0] * whole
    assert recipe.task == scratch.task
    assert recipe.batch_size == scratch.batch_size
    fractions = [stage.fraction for stage in recipe.stages]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    steps = [stage.steps for stage in recipe.stages]
    of_stage = dict(zip((stage.name for stage in recipe.stages), macs, strict=True))
    cost = 0.0
    for stage, count in zip(recipe.stages, steps, strict=True):
        teachers = stage.teaching.stages if stage.teaching else ()
        forward = sum(of_stage[name] for name in teachers)
        cost += count * (of_stage[stage.name] + forward / 3)
    assert cost <= share * scratch.stages[0].steps


# === Stages ===========================================================================
def test_half_cost_ends_in_the_network_of_training_from_scratch():
    schedule = dataclasses.replace(TINY, phases=HALF_COST, depth=11)
    networks = grown(schedule)
    for model, phase in zip(networks, HALF_COST, strict=True):
        expected = vgg_bn(11, 0.125 * phase.width, (32, 32, 3), 10)
        shapes = [[tuple(v.shape) for v in m.variables] for m in (model, expected)]
        assert shapes[0] == shapes[1]
    macs = [float(net2net.count_macs(model)) for model in networks]
    assert macs == schedule.phase_macs()


def test_lean_deepens_prunes_by_density_and_ends_within_its_budget():
    networks = grown(TINY)
    whole = net2net.count_macs(TINY.whole())
    planned = TINY.phase_macs()
    convolutions = [
        sum(isinstance(layer, keras.layers.Conv2D) for layer in model.layers)
        for model in networks
    ]
    assert convolutions == [8, 10, 10]
    macs = [net2net.count_macs(model) for model in networks]
    assert macs[0] == planned[0] and macs[1] == planned[1]
    assert macs[2] == pytest.approx(planned[2], rel=0.1)
    assert macs[2] <= 0.42 * whole and TINY.relative_cost() < 0.4
    prune, *_ = TINY.stages()[-1].changes
    assert prune.policy == "prune" and prune.importance is net2net.ActivationDensity


def test_slim_grows_to_the_whole_network_and_ends_within_its_budget():
    schedule = dataclasses.replace(TINY, phases=SLIM)
    networks = grown(schedule)
    whole = net2net.count_macs(schedule.whole())
    assert net2net.count_macs(networks[1]) == whole
    assert 0.5 * whole < net2net.count_macs(networks[2]) <= 0.58 * whole
    # By hand: the teacher's forward pass is a third of its training.
    small = net2net.count_macs(networks[0]) / whole
    cost = 0.10 * small + 0.28 + 0.20 * (0.57 + 1 / 3)
    assert schedule.relative_cost() == pytest.approx(cost) and cost < 0.5
    assert [stage.teaching for stage in schedule.stages()] == [
        None,
        None,
        Teaching(("whole",)),
    ]


def test_a_phase_that_keeps_less_is_refreshed_and_begins_with_a_new_optimizer():
    stages = dataclasses.replace(TINY, phases=BROAD).stages()
    policies = [[change.policy for change in stage.changes] for stage in stages]
    assert policies == [[], ["widen", "refresh"]]
    assert not stages[1].carry_optimizer
    kept = tuple(dataclasses.replace(phase, keep=1.0) for phase in BROAD)
    exact = dataclasses.replace(TINY, phases=kept).stages()[1]
    assert [c.policy for c in exact.changes] == ["widen"] and exact.carry_optimizer
    wrong = dataclasses.replace(stages[1], carry_optimizer=True)
    with pytest.raises(TrainingError, match="'whole' .* refreshes .* and carries"):
        check_recipe(recipe(stages[0], wrong))


def test_deepening_names_the_layers_of_the_deeper_network():
    model = vgg_bn(11, 0.0625, (32, 32, 3), 3)
    for change in deepen_vgg(11, 19):
        model = change.apply(model, None).model
    names = [x.name for x in model.layers if isinstance(x, keras.layers.Conv2D)]
    assert names == list(vgg_widths(19))
    assert deepen_vgg(13, 13) == []
    with pytest.raises(TrainingError, match="depth 16 cannot be deepened to 13"):
        deepen_vgg(16, 13)


def test_a_phase_has_a_width_or_prunes():
    for wrong in ({}, {"width": 1.0, "prune": 0.5}):
        with pytest.raises(TrainingError, match="expects either width or prune"):
            Phase("p", 1.0, 1.0, **wrong)


# === Checks before training ===========================================================
def recipe(*stages):
    return Recipe("r", ImageTask(), lambda: vgg_bn(11, 0.0625, (32, 32, 3), 3), stages)


def test_fractions_that_shrink_are_refused_before_training():
    check_recipe(recipe(Stage("a", 1, 1.0, 0.5), Stage("b", 1, 1.0, 0.5)))
    with pytest.raises(
        TrainingError, match="'b' of recipe 'r' takes a fraction of 0.2"
    ):
        check_recipe(recipe(Stage("a", 1, 1.0, 0.5), Stage("b", 1, 1.0, 0.2)))


def test_a_widen_step_that_makes_narrower_is_refused_before_training():
    wider = Stage(
        "wider", 1, 1.0, changes=(changes.widen(widths={"block5_conv1": 40}),)
    )
    check_recipe(recipe(Stage("a", 1, 1.0), wider))
    narrower = Stage(
        "narrower", 1, 1.0, changes=(changes.widen(widths={"block5_conv1": 36}),)
    )
    with pytest.raises(
        TrainingError, match="'narrower' .* cannot make it 36. Use prun"
    ):
        check_recipe(recipe(Stage("a", 1, 1.0), wider, narrower))
    by_factor = Stage("shrink", 1, 1.0, changes=(changes.widen(factor=0.5),))
    with pytest.raises(
        TrainingError, match="'shrink' says widen, but by a factor of 0"
    ):
        check_recipe(recipe(by_factor))
    unknown = Stage("odd", 1, 1.0, changes=(changes.widen(widths={"nowhere": 9}),))
    with pytest.raises(TrainingError, match="'odd' of recipe 'r' cannot begin"):
        check_recipe(recipe(unknown))


def test_layers_that_a_later_network_does_not_have_are_refused_before_training():
    deeper = changes.deepen(after="block1_relu1", name="new")
    known = Stage("known", 1, 1.0, changes=(deeper,), layers=("new",))
    check_recipe(recipe(Stage("a", 1, 1.0), known))
    with pytest.raises(TrainingError, match="'early' trains the layer 'new', which"):
        check_recipe(recipe(Stage("early", 1, 1.0, layers=("new",)), known))


@pytest.mark.parametrize(
    "name",
    ["vgg.py:cifar_broad", "vgg.py:cifar_slim", "vgg.py:ci", "mobile_cumulative.py"],
)
def test_the_recipes_that_ship_pass_the_checks(name):
    check_recipe(load_recipe(FOLDER / name))


@pytest.mark.parametrize("name", ["half_cost", "lean"])
def test_the_schedules_that_no_recipe_uses_pass_the_checks(name):
    check_recipe(vgg_recipe("cifar", name))

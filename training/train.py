"""Trains what a recipe describes.

    python -m training.train --recipe training/recipes/mobile_scratch.py \
        --data SHARDS --validation CLIPS --out RUN

SHARDS come from ``training.prepare``; CLIPS is a folder of videos or frame folders.
Start the same command again after any interruption: it continues from the last
checkpoint exactly as if nothing had happened. SIGTERM and Ctrl-C save first and exit
with 143. Several GPUs: ``--strategy mirrored``; several machines: the same command on
each, with TF_CONFIG set and RUN on a disk they share. Details: docs/training.md.
"""

import dataclasses
from pathlib import Path

from absl import app, flags
from rich.console import Console

from keras_megan.errors import run_program
from training.errors import STOPPED, TrainingError
from training.stages.recipe import Recipe, load_recipe


def _changed(recipe: Recipe) -> Recipe:
    given = {
        "model": _loader(flags.FLAGS.model) if flags.FLAGS.model else None,
        "batch_size": flags.FLAGS.batch_size,
        "mixed_precision": flags.FLAGS.mixed_precision,
        "cpu_bfloat16": flags.FLAGS.cpu_bfloat16,
        "seed": flags.FLAGS.seed,
        "validate_every": flags.FLAGS.validate_every,
    }
    given = {name: value for name, value in given.items() if value is not None}
    recipe = dataclasses.replace(recipe, **given)
    return recipe.with_steps(flags.FLAGS.steps) if flags.FLAGS.steps else recipe


def _loader(model: str):
    """Returns what builds the first network instead of the recipe."""

    def load():
        from keras_megan.megan import MEGAN
        from training.engine.networks import load_model

        if model.endswith(".keras"):
            return load_model(Path(model))
        try:
            return MEGAN.from_preset(model)
        except ValueError as error:
            raise TrainingError(str(error)) from error

    load.__qualname__ = model
    return load


def _define_flags() -> None:
    """Only in the program itself: flags are global, and modules import each other."""
    flags.DEFINE_string(
        "recipe",
        None,
        "Recipe: FILE.py, or FILE.py:NAME for a file that defines several.",
    )
    flags.DEFINE_string("data", None, "Training data, such as a folder of shards.")
    flags.DEFINE_string(
        "validation", None, "Validation data; without it nothing is scored."
    )
    flags.DEFINE_string("out", None, "Folder of the run.")
    flags.DEFINE_string(
        "model",
        None,
        "Preset or .keras file to begin with instead of the recipe's network.",
    )
    flags.DEFINE_string(
        "strategy", "auto", "Strategy: none, mirrored, multi_worker or auto."
    )
    flags.DEFINE_integer("threads", None, "Largest number of CPU threads.")
    flags.DEFINE_integer(
        "logical_cpus", 1, "Number of devices to divide the CPU into, to try mirrored."
    )
    flags.DEFINE_integer(
        "steps", None, "Steps of all stages together, instead of the recipe's."
    )
    flags.DEFINE_integer(
        "batch_size", None, "Samples per step, instead of the recipe's."
    )
    flags.DEFINE_bool(
        "mixed_precision", None, "Compute in float16, whatever the recipe says."
    )
    flags.DEFINE_bool(
        "cpu_bfloat16",
        None,
        "Convolve in bfloat16 on CPUs that can, whatever the recipe says.",
    )
    flags.DEFINE_integer("seed", None, "Seed, instead of the recipe's.")
    flags.DEFINE_integer(
        "validate_every", None, "Steps between validations, instead of the recipe's."
    )
    flags.DEFINE_bool(
        "deterministic",
        False,
        "Use only operations that repeat exactly; slower on GPUs.",
    )


def _main() -> int:
    if not (flags.FLAGS.recipe and flags.FLAGS.data and flags.FLAGS.out):
        raise TrainingError("Expected --recipe FILE, --data DATA and --out RUN.")
    # After the flags: TensorFlow takes seconds to load.
    from training.engine.loop import Stopped
    from training.engine.strategies import make_strategy, split_cpu
    from training.stages.cumulative import run_recipe

    split_cpu(flags.FLAGS.logical_cpus, flags.FLAGS.threads)
    if flags.FLAGS.deterministic:
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    strategy = make_strategy(flags.FLAGS.strategy)
    recipe = _changed(load_recipe(flags.FLAGS.recipe))
    console = Console()
    try:
        run_recipe(
            recipe,
            flags.FLAGS.data,
            Path(flags.FLAGS.out),
            strategy,
            validation=flags.FLAGS.validation,
            console=console,
        )
    except Stopped as stopped:
        console.print(f"train: stopped; {stopped}. The same command continues.")
        return STOPPED
    return 0


if __name__ == "__main__":
    _define_flags()
    app.run(lambda argv: run_program("train", _main))

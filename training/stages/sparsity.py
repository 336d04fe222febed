"""Sparsity: weights that a stage drives to zero and that stay zero.

    Stage(..., sparsity=Sparsity(target=0.5))            half of every kernel, anywhere
    Stage(..., sparsity=Sparsity(pattern="2:4"))         2 of every 4 inputs

Beside each kernel stands a mask of zeros and ones. On the schedule's steps the masks
are chosen again, the smallest magnitudes to zero; after every step the trained and the
averaged weights are multiplied by them. So the kept network's weights are zero exactly
where the masks are. Unlike pruning by `keras_megan.net2net` this changes no shape: it
pays where a runtime or a compressed download makes use of zeros.

``magnitude`` follows the cubic schedule of Zhu & Gupta, To prune, or not to prune, 2017
(arXiv:1710.01878) from 0 to the target; a kernel keeps round((1 - s) * size) weights.
``2:4`` keeps at most 2 of 4 consecutive weights along the input axis, as sparse tensor
cores read them (Mishra et al., 2021, arXiv:2104.08378): axis 2 of a convolution's
kernel (height, width, in, out), axis 0 of a dense one's (in, out). Where the number of
inputs is not a multiple of 4, the last group is shorter and also keeps at most 2.

Masks and schedules are computed by the core of tensorflow-model-optimization; its Keras
wrappers work on Keras 2 only and are not used.
"""

import contextlib
import difflib
import logging
import math
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import keras
import tensorflow as tf
from keras import layers

from keras_megan.net2net.tracing.nodes import layers_of
from training.errors import TrainingError


@dataclass(frozen=True)
class Pattern:
    """Where zeros may be.

    Attributes:
        layers: Classes whose kernels it is for.
        zeros_of: (zeros, group size) along the input axis; None: anywhere.
    """

    layers: tuple[type, ...]
    zeros_of: tuple[int, int] | None = None


#: Name -> pattern. Depthwise kernels have few weights and are left dense.
PATTERNS = {
    "magnitude": Pattern(
        (
            layers.Dense,
            layers.Conv1D,
            layers.Conv2D,
            layers.Conv3D,
            layers.Conv1DTranspose,
            layers.Conv2DTranspose,
            layers.Conv3DTranspose,
        )
    ),
    "2:4": Pattern((layers.Dense, layers.Conv2D), (2, 4)),
}


@dataclass(frozen=True)
class Sparsity:
    """How sparse the kernels of convolutions and dense layers become in a stage.

    Attributes:
        target: Share of zeros in each kernel at the end; 0.5 for ``"2:4"``.
        pattern: A name of `PATTERNS`.
        begin: When masks are first chosen, as a share of the stage's steps; 0: after
            the first step.
        end: When they are chosen for the last time, likewise. The steps after it train
            what is left.
        every: Steps between two choices. There is one if begin and end are nearer.
        leave: Layers left dense: a layer's path, such as "extract" or
            "reconstruct/to_pixels", its last part, or a composite around it.
    """

    target: float = 0.5
    pattern: str = "magnitude"
    begin: float = 0.0
    end: float = 0.5
    every: int = 100
    leave: tuple[str, ...] = ()

    def __post_init__(self):
        if self.pattern not in PATTERNS:
            raise TrainingError(
                f"Sparsity expects a pattern out of {', '.join(PATTERNS)}; received "
                f"{self.pattern!r}."
            )
        if not (0 < self.target < 1 and 0 <= self.begin <= self.end <= 1):
            raise TrainingError(
                "Sparsity expects 0 < target < 1 and 0 <= begin <= end <= 1, shares of "
                f"the stage; received {self.target}, {self.begin} and {self.end}."
            )
        if self.every < 1:
            raise TrainingError(f"Sparsity expects every >= 1; received {self.every}.")
        zeros_of = PATTERNS[self.pattern].zeros_of
        if zeros_of and self.target != zeros_of[0] / zeros_of[1]:
            raise TrainingError(
                f"Sparsity of pattern {self.pattern} has target "
                f"{zeros_of[0] / zeros_of[1]}; received {self.target}."
            )

    def turns(self, steps: int) -> tuple[int, int]:
        """First and last step of a stage in which masks are chosen, counted from 1."""
        first = max(1, round(self.begin * steps))
        count = max(0, round(self.end * steps) - first) // self.every
        return first, first + count * self.every


def find_kernels(model: keras.Model, sparsity: Sparsity) -> list[keras.Variable]:
    """The kernels that a `Sparsity` applies to, in the order of the model's layers.

    Raises:
        TrainingError: If there are none, or a name in ``leave`` fits no layer.
    """
    of_kind = PATTERNS[sparsity.pattern].layers
    found = {}
    for layer in layers_of(model):
        kernel = getattr(layer, "kernel", None) if isinstance(layer, of_kind) else None
        if isinstance(kernel, keras.Variable) and kernel.trainable:
            found[kernel.path.rpartition("/")[0]] = kernel
    left = {name: [p for p in found if _is_in(p, name)] for name in sparsity.leave}
    for name, paths in left.items():
        if not paths:
            near = difflib.get_close_matches(name, found, n=3, cutoff=0.0)
            raise TrainingError(
                f"Sparsity cannot leave out '{name}': no layer with a kernel is called "
                f"so. Near names: {', '.join(near) or 'none'}."
            )
    dropped = {path for paths in left.values() for path in paths}
    kernels = [kernel for path, kernel in found.items() if path not in dropped]
    if not kernels:
        raise TrainingError(
            f"Sparsity '{sparsity.pattern}' finds no kernel in '{model.name}'; "
            f"expected some of {', '.join(kind.__name__ for kind in of_kind)}, and not "
            "all left out."
        )
    return kernels


def _is_in(path: str, name: str) -> bool:
    return f"/{name}/" in f"/{path}/"


class Masks:
    """The masks of a stage's kernels, and what chooses and applies them.

    Make it inside ``strategy.scope()``: the masks are mirrored like the weights. They
    are chosen from weights that are equal on all replicas, so they are equal too.

    Args:
        sparsity: What is wanted.
        model: The network.
        averages: The averaged weights, one for each trainable variable of the network.
        steps: Steps of the stage.

    Attributes:
        variables: The masks, float32, one per kernel, in its shape.
        kernels: The masked kernels.

    Raises:
        TrainingError: If tensorflow-model-optimization is not installed, or the
            network has no such kernels.
    """

    def __init__(self, sparsity: Sparsity, model: keras.Model, averages, steps: int):
        self._core = load_core()
        self.zeros_of = PATTERNS[sparsity.pattern].zeros_of
        self.kernels = find_kernels(model, sparsity)
        place = {id(v): i for i, v in enumerate(model.trainable_variables)}
        self._averages = [averages[place[id(kernel)]] for kernel in self.kernels]
        self.variables = [
            tf.Variable(tf.ones(kernel.shape), trainable=False)
            for kernel in self.kernels
        ]
        # The core reports the magnitude it cut at; nobody reads it.
        self._thresholds = [tf.Variable(0.0, trainable=False) for _ in self.kernels]
        self._schedule = self._make_schedule(sparsity, *sparsity.turns(steps))

    def _make_schedule(self, sparsity: Sparsity, first: int, last: int):
        schedules = self._core.schedules
        if self.zeros_of or first == last:
            return schedules.ConstantSparsity(
                sparsity.target, first, last, sparsity.every
            )
        return schedules.PolynomialDecay(
            0.0, sparsity.target, first, last, frequency=sparsity.every
        )

    def apply(self, step) -> None:
        """Chooses masks if it is their turn, and applies them.

        Inside the training step, in a replica, after the optimizer and the averages.

        Args:
            step: int64 scalar, the steps done, this one included.
        """
        # The core chooses group patterns in its step 1 and never again; here they take
        # turns like any other, and is told each time that this is step 1.
        turn = tf.cast(self._schedule(step)[0], tf.int64)
        values = [kernel.value for kernel in self.kernels]
        pruning = self._core.pruning.Pruning(
            lambda: turn if self.zeros_of else step,
            list(zip(values, self.variables, self._thresholds, strict=True)),
            self._schedule,
            (1, 1),
            "AVG",
            self.zeros_of,
        )
        pruning.conditional_mask_update()
        # Each replica multiplies its own copy. The core's `weight_mask_op` would take
        # the mean over replicas first: traffic, and a rounding for three of them.
        tf.distribute.get_replica_context().merge_call(self._multiply, args=(values,))

    def _multiply(self, strategy, values) -> None:
        for weights in (values, self._averages):
            for weight, mask in zip(weights, self.variables, strict=True):
                strategy.extended.update(weight, _multiply_by, args=(mask,))

    def share(self):
        """Share of zeros among the masks' entries, a scalar."""
        kept = tf.add_n([tf.reduce_sum(mask) for mask in self.variables])
        return 1.0 - kept / sum(math.prod(mask.shape) for mask in self.variables)


def _multiply_by(weight, mask):
    # Not a product, which would leave negative zeros.
    return weight.assign(tf.where(mask > 0, weight, tf.zeros_like(weight)))


def load_core() -> SimpleNamespace:
    """The part of tensorflow-model-optimization that needs no Keras.

    Returns:
        Modules ``pruning`` and ``schedules``.

    Raises:
        TrainingError: If it is not installed.
    """
    try:
        with _undisturbed():
            from tensorflow_model_optimization.python.core.sparsity.keras import (
                pruning_impl,
                pruning_schedule,
            )
    except ImportError as error:
        raise TrainingError(
            "Sparsity needs tensorflow-model-optimization, which cannot be imported "
            f"({error}). Run: pip install tensorflow-model-optimization setuptools"
        ) from error
    return SimpleNamespace(pruning=pruning_impl, schedules=pruning_schedule)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Importing the package would turn `tf.keras` into Keras 2 and print warnings."""
    tf.keras.version()  # Loaded on first use, and from then on what it is.
    name, logger = "TF_USE_LEGACY_KERAS", logging.getLogger("tensorflow")
    before, level = os.environ.get(name), logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before

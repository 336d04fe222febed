"""Samples in batches for TensorFlow, divided among replicas and workers.

In: a pure function n -> sample. Out: a `tf.data.Dataset` of one replica's
batches from any step on. Step s uses samples s*G ... s*G + G-1, with G the global
batch; worker w of W takes its part in order, and so does each of its replicas. What a
step learns from does therefore not depend on how many devices share the work, and a
run that continues at step s needs to know nothing but s.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class BatchShape:
    """How a global batch is divided.

    Attributes:
        global_batch: G, samples of one step on all replicas together.
        replicas: Number of replicas on all workers together.
        workers: W.
    """

    global_batch: int
    replicas: int = 1
    workers: int = 1

    @property
    def per_replica(self) -> int:
        """Samples of one replica in one step."""
        return self.global_batch // self.replicas

    @property
    def per_worker(self) -> int:
        """Samples of one worker in one step."""
        return self.global_batch // self.workers


def make_dataset(
    sample: Callable[[int], tuple[np.ndarray, ...]],
    shape: BatchShape,
    first_step: int,
    last_step: int,
    worker: int = 0,
    parallel: int = tf.data.AUTOTUNE,
) -> tf.data.Dataset:
    """Batches of steps ``first_step <= s < last_step`` for one worker.

    Args:
        sample: n -> tuple of arrays, each always of the same shape and dtype.
        shape: How the global batch is divided.
        first_step: Where to begin.
        last_step: Where to end.
        worker: Number of this worker.
        parallel: Samples made at once.

    Returns:
        A dataset whose elements are one replica's batches, replica after replica.
    """
    examples = [np.asarray(array) for array in sample(0)]
    mine, everyone = shape.per_worker, shape.global_batch

    def load(position):
        step, place = position // mine, position % mine
        number = step * everyone + worker * mine + place
        arrays = tf.numpy_function(
            lambda n: tuple(sample(int(n))),
            [number],
            [array.dtype for array in examples],
            stateful=False,
        )
        for array, example in zip(arrays, examples, strict=True):
            array.set_shape(example.shape)
        return tuple(arrays)

    dataset = tf.data.Dataset.range(first_step * mine, last_step * mine)
    dataset = dataset.map(load, num_parallel_calls=parallel, deterministic=True)
    dataset = dataset.batch(shape.per_replica, drop_remainder=True)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.OFF
    )
    return dataset.prefetch(2 * max(1, shape.replicas // shape.workers)).with_options(
        options
    )

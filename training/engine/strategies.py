"""Where a step is computed: on one device, several GPUs or several machines.

    none           this process, its first device
    mirrored       all GPUs of this machine (or its logical CPUs), each a replica
    multi_worker   all machines that TF_CONFIG names, one process on each
    auto           multi_worker if TF_CONFIG is set, mirrored if there are several GPUs

The training loop is the same for all: it only ever calls ``strategy.run``.
"""

import json
import os
from collections.abc import Callable

import tensorflow as tf

from training.errors import TrainingError

_EXAMPLE = (
    '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


def _none() -> tf.distribute.Strategy:
    return tf.distribute.get_strategy()


def _mirrored() -> tf.distribute.Strategy:
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    return tf.distribute.MirroredStrategy(
        [device.name for device in tf.config.list_logical_devices(kind)]
    )


def _multi_worker() -> tf.distribute.Strategy:
    check_tf_config()
    return tf.distribute.MultiWorkerMirroredStrategy()


def _auto() -> tf.distribute.Strategy:
    if os.environ.get("TF_CONFIG"):
        return _multi_worker()
    several = len(tf.config.list_physical_devices("GPU")) > 1
    return _mirrored() if several else _none()


#: Name -> function that makes the strategy.
STRATEGIES: dict[str, Callable[[], tf.distribute.Strategy]] = {
    "auto": _auto,
    "none": _none,
    "mirrored": _mirrored,
    "multi_worker": _multi_worker,
}


def make_strategy(name: str) -> tf.distribute.Strategy:
    """Returns the strategy of that name; call it before using TensorFlow otherwise.

    Raises:
        TrainingError: For an unknown name or a TF_CONFIG that cannot be used.
    """
    if name not in STRATEGIES:
        raise TrainingError(
            f"Unknown strategy {name!r}; choose from {', '.join(STRATEGIES)}."
        )
    return STRATEGIES[name]()


def check_tf_config() -> None:
    """Raises a `TrainingError` unless TF_CONFIG describes a cluster and this task."""
    text = os.environ.get("TF_CONFIG", "")
    try:
        config = json.loads(text)
        workers = config["cluster"].get("worker", [])
        chief = config["cluster"].get("chief", [])
        task = config["task"]
        hosts = {"worker": workers, "chief": chief}[task["type"]]
        if not 0 <= int(task["index"]) < len(hosts):
            raise ValueError(
                f"task index {task['index']} with {len(hosts)} {task['type']}s"
            )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainingError(
            f"TF_CONFIG cannot be used ({type(error).__name__}: {error}). Expected "
            f"JSON like {_EXAMPLE}; received {text[:200]!r}."
        ) from error


def worker_place(strategy: tf.distribute.Strategy) -> tuple[int, int]:
    """(number of this worker, number of workers); the chief is worker 0."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return 0, 1
    cluster = resolver.cluster_spec().as_dict()
    chiefs = len(cluster.get("chief", []))
    index = resolver.task_id + (chiefs if resolver.task_type == "worker" else 0)
    return index, chiefs + len(cluster.get("worker", []))


def barrier(strategy: tf.distribute.Strategy) -> None:
    """Returns when all workers have arrived here."""
    if worker_place(strategy)[1] > 1:
        ones = strategy.run(lambda: tf.constant(1.0))
        float(strategy.reduce(tf.distribute.ReduceOp.SUM, ones, axis=None))


def split_cpu(devices: int, threads: int | None) -> None:
    """Makes the CPU look like several devices and bounds its threads.

    Call it before anything else of TensorFlow.

    Args:
        devices: Logical CPUs; 1 leaves it whole.
        threads: Per operation; None: as many as there are cores.
    """
    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    if devices > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        logical = [tf.config.LogicalDeviceConfiguration()] * devices
        tf.config.set_logical_device_configuration(cpu, logical)

"""Workers as actors of Ray: on this machine, or wherever a cluster has room.

    open_ray("")             starts Ray here, for as long as the program runs
    open_ray("10.0.0.1:6379")    joins a cluster (`ray start --head` says its address)

One worker for each GPU, else one for every few CPUs. Ray carries calls and results as
pickles, so a cluster is a place where everyone trusts everyone. keras_megan has to be
installed on all machines in the same version.
"""

import os
import signal
import sys
import threading
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from keras_megan.video.cluster.worker import Worker
from keras_megan.video.errors import VideoError
from keras_megan.video.models.engines import ModelChoice

#: CPUs of a worker, where there are enough; two workers use fewer better than one.
_USUAL_CPUS = 4


class RayCluster:
    """A `Cluster`; use `open_ray`.

    Args:
        size: How many workers.
        cpus: CPUs of each.
        gpus: GPUs of each: 1 or 0.
        neighbours: How many share a machine.
    """

    def __init__(self, size: int, cpus: int, gpus: int, neighbours: int):
        from ray.exceptions import RayActorError, WorkerCrashedError

        self.size, self._cpus, self._gpus = size, cpus, gpus
        self._neighbours = neighbours
        self.lost: tuple[type[BaseException], ...] = (RayActorError, WorkerCrashedError)

    def start(self, choice: ModelChoice) -> "_RayRemote":
        import ray

        if choice.threads is None and not self._gpus:
            choice = replace(choice, threads=self._cpus)
        options = {"num_cpus": self._cpus, "num_gpus": self._gpus}
        actor = ray.remote(Worker).options(**options, scheduling_strategy="SPREAD")
        return _RayRemote(actor.remote(choice, self._neighbours))

    def share(self, data: bytes) -> object:
        import ray

        return ray.put(data)

    def close(self) -> None:
        import ray

        ray.shutdown()
        if isinstance(sys.stdout, _WithoutRay):
            sys.stdout = sys.stdout.stream


class _WithoutRay:
    """Standard output without the lines that a thread of Ray prints on lost workers.

    The job reports them itself, and `--json` promises one object on each line.
    """

    def __init__(self, stream: Any):
        self.stream = stream

    def __getattr__(self, name: str):
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        if threading.current_thread().name.startswith("ray_"):
            return len(text)
        return self.stream.write(text)


class _RayRemote:
    def __init__(self, actor):
        self._actor = actor

    def call(self, method: str, *arguments) -> Future:
        return getattr(self._actor, method).remote(*arguments).future()

    def end(self) -> None:
        import ray

        ray.kill(self._actor)


def open_ray(address: str, workers: int | None, threads: int | None) -> RayCluster:
    """Starts Ray here, or joins a cluster.

    Args:
        address: "host:port" of a cluster or "auto"; "" starts one on this machine.
        workers: How many; as many as fit if not given.
        threads: CPUs of each.

    Raises:
        VideoError: If it cannot be reached, or has no room.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report home
    # What it says when actors without GPUs come to see those that are there.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    options: dict = {"address": address} if address else {"include_dashboard": False}
    with _own_signals():
        try:
            ray.init(**options, log_to_driver=False, logging_level="ERROR")
        except Exception as error:  # a slow start raises nothing more special
            text = " ".join(str(error).split())[:300]
            raise VideoError(f"Ray cannot be reached or started: {text}") from error
    sys.stdout = _WithoutRay(sys.stdout)
    resources = ray.cluster_resources()
    machines = max(1, sum(bool(node["Alive"]) for node in ray.nodes()))
    cpus, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    try:
        size, each = _divide(cpus, gpus, workers, threads)
    except VideoError:
        sys.stdout = sys.stdout.stream
        ray.shutdown()
        raise
    return RayCluster(size, each, 1 if gpus else 0, -(-size // machines))


def _divide(
    cpus: int, gpus: int, workers: int | None, threads: int | None
) -> tuple[int, int]:
    """The number of workers, and of CPUs for each."""
    if gpus:
        size = workers or gpus
        each = threads or max(1, min(_USUAL_CPUS, cpus // size))
    else:
        size = workers or max(min(2, cpus), cpus // (threads or _USUAL_CPUS))
        each = threads or max(1, cpus // max(1, size))
    if not 0 < size * each <= cpus or (gpus and size > gpus):
        raise VideoError(
            f"Ray has {cpus} CPUs and {gpus} GPUs, which is not enough for {size} "
            f"workers of {each} CPUs{' and a GPU' if gpus else ''} each. Choose fewer "
            "--workers or --threads."
        )
    return size, each


class _own_signals:  # noqa: N801  used like a function
    """Puts back the handlers of Ctrl-C and SIGTERM, which Ray replaces with its own."""

    def __enter__(self) -> None:
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.getsignal(number)

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

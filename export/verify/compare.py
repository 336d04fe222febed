"""Runs an artefact and compares it with Keras; nothing else makes it an export.

    artefact, samples, Keras outputs -> one Check for each runtime of its target

A conversion that went through proves nothing, and neither does "fully accelerated": the
GPU runtime computes some graphs wholly and wrongly. So the file itself is run on
LiteRT's CPU runtime and, for GPUs, on LiteRT's GPU accelerator, on real footage, and
must stay within its precision's budget.

    float32      largest error 1e-4 of the range; bytes: one level
    rounded      luma PSNR against the truth at most `psnr_drop` dB below Keras's; where
                 the truth is unknown, a root mean square error of at most
                 `relative_error` of the outputs' own
"""

import dataclasses
import functools
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.build.subjects import Sample, Subject
from export.verify.browser import run_in_browser
from export.verify.runtime import run_on_cpu, run_on_gpu, time_on_cpu
from keras_megan.video.models.litert_runner import available_cpus
from keras_megan.video.tiles import to_uint8

#: Windows that are run on the GPU: a software driver takes about a minute for one.
GPU_WINDOWS = 1
#: Largest error of a browser, whose WebGPU may reorder sums.
BROWSER_ERROR = 1e-3
#: Largest difference of bytes, as a share of their range.
ONE_LEVEL = 1.001 / 255


@dataclass(frozen=True)
class Budget:
    """How far from Keras a precision may be.

    Attributes:
        largest_error: Largest error of any value; None: not bounded.
        psnr_drop: In dB; None: not bounded.
        relative_error: Relative root mean square error, where the truth is unknown.
    """

    largest_error: float | None = None
    psnr_drop: float | None = None
    relative_error: float | None = None


@dataclass(frozen=True)
class Check:
    """One artefact on one runtime.

    Attributes:
        runtime: A key of `RUNTIMES`.
        status: "passed", "failed" or "not done".
        message: Why, in one line.
        largest_error, mean_error: Against Keras, of the outputs' range 0 to 1.
        relative_error: Root mean square of the difference over that of Keras's output.
        psnr, keras_psnr: Mean luma PSNR against the truth, in dB.
        fully_accelerated: What the GPU runtime reports; None on CPUs.
        seconds: Time of one run on all CPUs, or on a real GPU.
    """

    runtime: str
    status: str
    message: str
    largest_error: float | None = None
    mean_error: float | None = None
    relative_error: float | None = None
    psnr: float | None = None
    keras_psnr: float | None = None
    fully_accelerated: bool | None = None
    seconds: float | None = None


def keras_outputs(subject: Subject, samples: Sequence[Sample]) -> list[np.ndarray]:
    """What the Keras model itself gives, eagerly and in float32."""
    return [np.asarray(subject.forward(sample.tensor)) for sample in samples]


def check_on_cpu(path: Path, inputs: list[np.ndarray]) -> tuple[list | None, Check]:
    """Runs the file on LiteRT's CPU runtime."""
    try:
        outputs = [run_on_cpu(path, [tensor])[0] for tensor in inputs]
        seconds = time_on_cpu(path, inputs[:1], available_cpus())
    except (RuntimeError, ValueError) as error:
        return None, _refused("cpu", error)
    return outputs, Check("cpu", "passed", "", seconds=seconds)


def check_on_gpu(path: Path, inputs: list[np.ndarray]) -> tuple[list | None, Check]:
    """Runs the file on LiteRT's GPU accelerator, in a process of its own."""
    outputs = []
    for tensor in inputs:
        try:
            run = run_on_gpu(path, [tensor])
        except ValueError as error:
            return None, _refused("gpu", error)
        if run.status == "no driver":
            return None, Check("gpu", "not done", run.message)
        if run.status != "done":
            return None, Check("gpu", "failed", f"{run.status}: {run.message}")
        if not run.fully_accelerated:
            return None, Check(
                "gpu",
                "failed",
                "only a part ran on the GPU; see the findings of lint",
                fully_accelerated=False,
            )
        outputs.append(run.outputs[0])
    return outputs, Check(
        "gpu", "passed", "", fully_accelerated=True, seconds=run.seconds
    )


def _refused(runtime: str, error: Exception) -> Check:
    text = textwrap.shorten(str(error), 300, placeholder=" ...")
    return Check(runtime, "failed", text)


def check_in_browser(
    path: Path, inputs: list[np.ndarray], accelerator: str
) -> tuple[list | None, Check]:
    """Runs the file in headless Chromium; what its console says is a failure."""
    run = run_in_browser(path, inputs, accelerator)
    if run.status == "no browser":
        return None, Check(accelerator, "not done", run.message)
    if run.status != "done":
        return None, Check(accelerator, "failed", run.message)
    whole = run.fully_accelerated if accelerator == "webgpu" else None
    message = "only a part ran on WebGPU; see lint" if whole is False else ""
    if run.console:
        text = textwrap.shorten("; ".join(run.console), 400, placeholder=" ...")
        message = f"the console says: {text}"
    if message:
        failed = Check(accelerator, "failed", message, fully_accelerated=whole)
        return None, failed
    return list(run.outputs), Check(accelerator, "passed", "", fully_accelerated=whole)


@dataclass(frozen=True)
class Runtime:
    """Something that files are run on.

    Attributes:
        check: (path, inputs) -> outputs, or None if it did not run, and a `Check`.
        windows: At most so many samples; None: all.
        largest_error: In place of the budget's, where that is bounded.
    """

    check: Callable[[Path, list[np.ndarray]], tuple[list | None, Check]]
    windows: int | None = None
    largest_error: float | None = None


def _browser(accelerator: str) -> Runtime:
    check = functools.partial(check_in_browser, accelerator=accelerator)
    return Runtime(check, largest_error=BROWSER_ERROR)


RUNTIMES: dict[str, Runtime] = {
    "cpu": Runtime(check_on_cpu),
    "gpu": Runtime(check_on_gpu, windows=GPU_WINDOWS),
    "webgpu": _browser("webgpu"),
    "wasm": _browser("wasm"),
}


def verify(
    path: Path,
    runtime: str,
    subject: Subject,
    samples: Sequence[Sample],
    expected: Sequence[np.ndarray],
    budget: Budget,
    uint8: bool = False,
) -> tuple[Check, list[np.ndarray]]:
    """Runs a file and judges what came out.

    Args:
        path: The artefact.
        runtime: A key of `RUNTIMES`.
        subject: What it was made of.
        samples: Footage to run it on.
        expected: Keras's outputs for them.
        budget: What is tolerated.
        uint8: Whether the artefact has bytes at both ends.

    Returns:
        The check, and the outputs; none if it did not run.
    """
    chosen = RUNTIMES[runtime]
    samples, expected = samples[: chosen.windows], expected[: chosen.windows]
    if budget.largest_error is not None and chosen.largest_error is not None:
        budget = dataclasses.replace(budget, largest_error=chosen.largest_error)
    inputs = [sample.tensor for sample in samples]
    if uint8:
        inputs = [to_uint8(tensor) for tensor in inputs]
    outputs, check = chosen.check(path, inputs)
    if outputs is None:
        return check, []
    if uint8:
        expected = [to_uint8(e).astype(np.float32) / 255 for e in expected]
        outputs = [output.astype(np.float32) / 255 for output in outputs]
    errors = [
        np.abs(o.astype(np.float64) - e) for o, e in zip(outputs, expected, strict=True)
    ]
    power, spread = _root_mean_square(expected), _root_mean_square(errors)
    measured = {
        "largest_error": float(max(error.max() for error in errors)),
        "mean_error": float(np.mean([error.mean() for error in errors])),
        "relative_error": spread / max(power, 1e-12),
        "psnr": _psnr(subject, outputs, samples),
        "keras_psnr": _psnr(subject, expected, samples),
    }
    excess = _excess(measured, budget, uint8)
    return (
        dataclasses.replace(
            check,
            status="failed" if excess else "passed",
            message=excess,
            **measured,
        ),
        outputs,
    )


def _root_mean_square(arrays) -> float:
    return float(np.sqrt(np.mean([np.mean(np.square(a, dtype=float)) for a in arrays])))


def _psnr(subject: Subject, outputs, samples) -> float | None:
    pairs = zip(outputs, samples, strict=True)
    scores = [subject.score(output, sample.truth) for output, sample in pairs]
    return None if None in scores else float(np.mean(scores))


def _excess(measured: dict, budget: Budget, uint8: bool) -> str:
    """What is over budget; "" if nothing is."""
    if not np.isfinite(measured["largest_error"]):
        return "the output is not finite"
    limit = budget.largest_error
    if limit is not None:
        limit = max(limit, ONE_LEVEL) if uint8 else limit
        if measured["largest_error"] > limit:
            return f"largest error {measured['largest_error']:.2g}, allowed {limit:.2g}"
    if budget.psnr_drop is not None and measured["psnr"] is not None:
        drop = measured["keras_psnr"] - measured["psnr"]
        if drop > budget.psnr_drop:
            return f"{drop:.3f} dB below Keras, allowed {budget.psnr_drop}"
    elif budget.relative_error is not None:
        error = measured["relative_error"]
        if error > budget.relative_error:
            return f"relative error {error:.2g}, allowed {budget.relative_error:.2g}"
    return ""

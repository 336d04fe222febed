"""The precisions an artefact can have: how each is made, and how exact it must be.

`PRECISIONS` is the registry: name -> `Precision`. A new one is one entry.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from export.build.quantize import dynamic_int8, static_int8
from export.build.subjects import Subject
from export.build.tflite import convert
from export.verify.compare import Budget


@dataclass(frozen=True)
class Precision:
    """One way to keep and compute numbers.

    Attributes:
        words: For people.
        build: (traced function, subject, calibration tensors) -> flatbuffer.
        budget: How far from Keras it may be.
        calibrated: Whether it needs footage to be made.
    """

    words: str
    build: Callable[[object, Subject, Iterable[np.ndarray]], bytes]
    budget: Budget
    calibrated: bool = False


PRECISIONS: dict[str, Precision] = {
    "fp32": Precision(
        "float32",
        lambda function, subject, _: convert(function, subject.model),
        Budget(largest_error=1e-4),
    ),
    "fp16": Precision(
        "float16 weights",
        lambda function, subject, _: convert(function, subject.model, half=True),
        Budget(psnr_drop=0.05, relative_error=1e-2),
    ),
    "dynamic_int8": Precision(
        "int8 weights, activations quantized while running",
        lambda function, subject, _: dynamic_int8(
            convert(function, subject.model), subject.delicate
        ),
        Budget(psnr_drop=0.3, relative_error=0.1),
    ),
    "int8": Precision(
        "int8 weights and activations, calibrated",
        lambda function, subject, tensors: static_int8(
            convert(function, subject.model), tensors, subject.delicate
        ),
        Budget(psnr_drop=0.3, relative_error=0.1),
        calibrated=True,
    ),
    "sparse": Precision(
        "float32, zero weights left out",
        lambda function, subject, _: convert(function, subject.model, sparse=True),
        Budget(largest_error=1e-4),
    ),
}

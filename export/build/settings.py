"""What an export is to make: settings, and the variants that follow from them.

Plain data that can be checked before anything heavy is loaded.
"""

from dataclasses import dataclass
from pathlib import Path

from export.errors import ExportError

FORMATS = ("savedmodel", "tflite")
TARGETS = ("cpu", "gpu", "web")
#: Target -> whose graph it runs: browsers run the file for mobile GPUs.
GRAPH_OF = {"cpu": "cpu", "gpu": "gpu", "web": "gpu"}
#: Precision -> the targets it is for. GPU runtimes compute in floating point: int8
#: would only be unpacked there. In browsers only float32 is near enough to Keras.
TARGETS_OF = {
    "fp32": TARGETS,
    "fp16": ("cpu", "gpu"),
    "dynamic_int8": ("cpu",),
    "int8": ("cpu",),
    "sparse": ("cpu",),
}
PRECISION_NAMES = tuple(TARGETS_OF)
INTERFACES = ("float32", "uint8")
#: Windows that a browser must be right on, one after another.
BROWSER_WINDOWS = 3


@dataclass(frozen=True)
class Settings:
    """What to make; see the flags."""

    model: str
    out: Path
    formats: tuple[str, ...] = FORMATS
    height: int = 64
    width: int = 112
    precisions: tuple[str, ...] = ("fp32", "fp16")
    targets: tuple[str, ...] = ("cpu", "gpu")
    interfaces: tuple[str, ...] = ("float32",)
    clip: str | None = None
    calibration: str | None = None
    windows: int = 3
    largest: float = 1.0
    force: bool = False
    allow_unverified: bool = False

    def __post_init__(self):
        for name, known in (
            ("formats", FORMATS),
            ("precisions", PRECISION_NAMES),
            ("targets", TARGETS),
            ("interfaces", INTERFACES),
        ):
            chosen = getattr(self, name)
            unknown = sorted(set(chosen) - set(known))
            if unknown or not chosen:
                raise ExportError(
                    f"Expected {name} among {', '.join(known)}; received "
                    f"{', '.join(unknown or chosen) or 'none'}."
                )
        if min(self.height, self.width, self.windows) < 1:
            raise ExportError(
                "Expected a positive height, width and number of windows; received "
                f"{self.height}, {self.width} and {self.windows}."
            )
        if "tflite" in self.formats and not variants(self):
            raise ExportError(
                f"There is no file of {', '.join(self.precisions)} with "
                f"{', '.join(self.interfaces)} at its ends for "
                f"{', '.join(self.targets)}. Give --target cpu, or what GPUs run, fp32 "
                "or fp16, or browsers, fp32 with float32."
            )
        if "web" in self.targets and self.windows < BROWSER_WINDOWS:
            raise ExportError(
                f"Browsers are verified on at least {BROWSER_WINDOWS} windows; "
                f"received --windows {self.windows}."
            )
        if "int8" in self.precisions and not self.calibration:
            raise ExportError(
                "int8 is calibrated on footage like what it will see: give "
                "--calibration CLIPS (a video, a folder of them, or 'demo'), or choose "
                "dynamic_int8, which needs none."
            )


@dataclass(frozen=True)
class Variant:
    """One TFLite file to make.

    Attributes:
        precision, interface: What it is.
        graph: A value of `GRAPH_OF`.
        targets: What it is to be right on; they share the graph.
    """

    precision: str
    graph: str
    interface: str
    targets: tuple[str, ...]

    def file_name(self, settings: Settings, name: str) -> str:
        """For example ``megan_mobile_112x64_gpu_fp16.tflite``."""
        suffix = "" if self.interface == "float32" else f"_{self.interface}"
        size = f"{settings.width}x{settings.height}"
        return f"{name}_{size}_{self.graph}_{self.precision}{suffix}.tflite"


def variants(settings: Settings) -> list[Variant]:
    """All files the settings ask for, in the order of the report."""
    if "tflite" not in settings.formats:
        return []
    return [
        Variant(precision, graph, interface, targets)
        for graph in dict.fromkeys(GRAPH_OF[target] for target in settings.targets)
        for precision in settings.precisions
        for interface in settings.interfaces
        if (targets := _fitting(settings.targets, graph, precision, interface))
    ]


def _fitting(targets, graph: str, precision: str, interface: str) -> tuple[str, ...]:
    """Those of the targets that one file is for."""
    return tuple(
        target
        for target in targets
        if GRAPH_OF[target] == graph
        and target in TARGETS_OF[precision]
        and (target, interface) != ("web", "uint8")
    )

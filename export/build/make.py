"""The workshop: makes one artefact after another and proves each.

    Variant (precision, target, interface) -> trace -> convert
        -> lint -> slim -> describe itself -> run on its runtimes and compare -> Row

A `Row` is all that is known of one artefact, published or not. Graphs are traced once
for each target and interface. What cannot be converted becomes a row that says why.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tensorflow as tf

from export.errors import ExportError
from export.build.flatbuffer import summary
from export.lint.check import Finding, lint
from export.build.precisions import PRECISIONS
from export.verify.runtime import median_seconds
from export.build.saved_model import write_saved_model
from export.build.settings import Settings, Variant
from export.build.slim import slim
from export.build.subjects import Subject, VideoSubject
from export.build.trace import INPUT, OUTPUT, trace
from export.verify.compare import Check, keras_outputs, verify
from keras_megan import __version__, net2net
from keras_megan.video.models.artefact import ArtefactInfo, with_info
from keras_megan.video.tiles import to_uint8

#: Which runtimes a file for a target must be right on.
RUNTIMES_OF = {
    "cpu": ("cpu",),
    "gpu": ("gpu", "cpu"),
    "web": ("webgpu", "wasm"),
}
#: Windows that int8 is calibrated on.
CALIBRATED = 12


@dataclass
class Row:
    """What is known of one artefact.

    Attributes:
        file: Its name.
        precision, target, interface: What it is.
        file_bytes: Its size.
        operations: Name -> number of them.
        findings: What lint found.
        checks: One for each runtime it was run on.
        published: Whether it is in the output folder.
        message: Why not, or what to know.
        picture: uint8 (H, W, 3), its middle frame of the first window.
    """

    file: str
    precision: str
    target: str
    interface: str = "float32"
    file_bytes: int = 0
    operations: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    published: bool = False
    message: str = ""
    picture: np.ndarray | None = None

    def document(self) -> dict:
        """Returns the row as JSON data."""
        kept = dataclasses.replace(self, picture=None)
        return {k: v for k, v in dataclasses.asdict(kept).items() if k != "picture"}

    def one_line(self) -> str:
        """For the terminal."""
        state = "published" if self.published else "NOT PUBLISHED"
        parts = [f"{self.file}: {state}, {self.file_bytes / 1e6:.2f} MB"]
        for check in self.checks:
            error = check.largest_error
            size = "" if error is None else f" (error {error:.1g})"
            parts.append(f"{check.runtime} {check.status}{size}")
        return ", ".join(parts + ([self.message] if self.message else []))


class Workshop:
    """Everything the artefacts of one network share.

    Args:
        subject: The network.
        settings: What is wanted.
        clips: Footage to verify on.
        calibration: Footage to calibrate on, or None.
        folder: Where files are made.
    """

    def __init__(
        self,
        subject: Subject,
        settings: Settings,
        clips: Sequence[np.ndarray],
        calibration: Sequence[np.ndarray] | None,
        folder: Path,
    ):
        self.subject, self.settings, self.folder = subject, settings, folder
        size = (settings.height, settings.width)
        shape = subject.tensor_shape(*size)
        _check_size(subject, shape)
        self.samples = subject.samples(clips, *size, settings.windows)
        self.expected = keras_outputs(subject, self.samples)
        chosen = subject.samples(calibration, *size, CALIBRATED) if calibration else []
        self.calibration = [sample.tensor for sample in chosen]
        model = subject.model
        self.parameters = net2net.count_params(model)
        self.macs = net2net.count_macs(model, subject.sample_shape(*size))
        self.keras_seconds = self._time_keras()
        self._traced: dict = {}

    def make(self, variant: Variant) -> Row:
        """Makes and proves one TFLite file in the workshop's folder."""
        settings, subject = self.settings, self.subject
        row = Row(
            file=variant.file_name(settings, subject.name),
            precision=variant.precision,
            target=", ".join(variant.targets),
            interface=variant.interface,
        )
        precision = PRECISIONS[variant.precision]
        uint8 = variant.interface == "uint8"
        tensors = map(to_uint8, self.calibration) if uint8 else self.calibration
        try:
            traced = self._trace(variant.graph == "gpu", uint8)
            named = precision.build(traced, subject, tensors)
        except ExportError as error:
            row.message = str(error)
            return row
        found = (finding for t in variant.targets for finding in lint(named, t))
        row.findings = list(dict.fromkeys(found))
        row.operations = summary(named).operations
        flatbuffer = self._described(slim(named), variant, precision.words)
        row.file_bytes = len(flatbuffer)
        path = self.folder / row.file
        path.write_bytes(flatbuffer)
        wanted = (name for target in variant.targets for name in RUNTIMES_OF[target])
        for runtime in dict.fromkeys(wanted):
            check, outputs = verify(
                path,
                runtime,
                subject,
                self.samples,
                self.expected,
                precision.budget,
                uint8=uint8,
            )
            row.checks.append(check)
            if outputs and outputs[0].ndim == 4:
                row.picture = _to_picture(outputs[0])
        self._judge(row)
        return row

    def _judge(self, row: Row) -> None:
        failed = [c for c in row.checks if c.status == "failed"]
        not_done = [c for c in row.checks if c.status == "not done"]
        tolerated = self.settings.allow_unverified
        row.published = not failed and (tolerated or not not_done)
        if failed:
            row.message = f"{failed[0].runtime}: {failed[0].message}"
        elif not_done:
            first = not_done[0]
            row.message = f"not verified on the {first.runtime}: {first.message}"

    def _described(self, flatbuffer: bytes, variant: Variant, words: str) -> bytes:
        subject, settings = self.subject, self.settings
        if not isinstance(subject, VideoSubject):
            return flatbuffer
        info = ArtefactInfo(
            model=subject.name,
            version=__version__,
            frames_in=subject.frames_in,
            frames_out=subject.frames_out,
            scale=subject.scale,
            height=settings.height,
            width=settings.width,
            input_type=variant.interface,
            output_type=variant.interface,
            precision=words,
        )
        return with_info(flatbuffer, info)

    def _trace(self, mobile: bool, uint8: bool):
        key = (mobile, uint8)
        if key not in self._traced:
            size = (self.settings.height, self.settings.width)
            self._traced[key] = trace(self.subject, *size, mobile=mobile, uint8=uint8)
        return self._traced[key]

    def _time_keras(self) -> float:
        """Median seconds of the Keras model as a TensorFlow graph on this CPU."""
        tensor = tf.constant(self.samples[0].tensor)
        run = tf.function(self.subject.forward)
        return median_seconds(lambda: np.asarray(run(tensor)))


def saved_model_row(workshop: Workshop) -> Row:
    """Writes the SavedModel, loads it again without Keras's help and compares."""
    subject = workshop.subject
    row = Row(f"{subject.name}_savedmodel", precision="fp32", target="tensorflow")
    folder = workshop.folder / row.file
    write_saved_model(subject.model, folder)
    row.file_bytes = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    served = tf.saved_model.load(str(folder)).signatures["serving_default"]
    outputs = []
    for sample in workshop.samples:
        tensor = sample.tensor
        batch = tensor[None] if isinstance(subject, VideoSubject) else tensor
        output = served(**{INPUT: tf.constant(batch)})[OUTPUT].numpy()
        outputs.append(output[0] if isinstance(subject, VideoSubject) else output)
    error = max(
        float(np.abs(o - e).max())
        for o, e in zip(outputs, workshop.expected, strict=True)
    )
    limit = PRECISIONS["fp32"].budget.largest_error
    row.published = limit is not None and error <= limit
    status = "passed" if row.published else "failed"
    row.checks.append(Check("tensorflow", status, "", largest_error=error))
    if outputs[0].ndim == 4:
        row.picture = _to_picture(outputs[0])
    return row


def _to_picture(output: np.ndarray) -> np.ndarray:
    """The middle frame, a new one if there are any."""
    middle = len(output) // 2
    return (np.clip(output[middle], 0, 1) * 255 + 0.5).astype(np.uint8)


def _check_size(subject: Subject, shape: tuple[int, ...]) -> None:
    known = tuple(subject.model.input_shape)[-3:-1]
    wrong = [k for k, s in zip(known, shape[1:3], strict=True) if k not in (None, s)]
    if wrong:
        raise ExportError(
            f"{subject.name} takes images of {known[1]}x{known[0]} only; received "
            f"{shape[2]}x{shape[1]}. Give --height {known[0]} --width {known[1]}."
        )

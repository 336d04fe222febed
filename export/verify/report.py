"""The report beside the artefacts: report.json for programs, report.html for people.

The page stands alone: pictures are inside it. It shows what is in the folder and what
is not and why; size, operations, errors against Keras on each runtime, luma PSNR; then
the same detail of one new frame from every artefact, and how far it is from Keras's.
"""

import base64
import html
import platform
from collections import Counter
from importlib import metadata
from pathlib import Path

import cv2
import keras
import numpy as np

from export.build.make import Row, Workshop
from export.lint.check import Finding
from keras_megan import __version__
from keras_megan.files import write_json, write_whole
from keras_megan.imaging.resize import trilinear_upsample
from keras_megan.video.compare import most_detailed_box
from keras_megan.video.tiles import to_uint8

#: How much differences are amplified to be seen.
AMPLIFIED = 16
#: How many layers are named for one rule.
LAYERS_SHOWN = 6
_PACKAGES = ("tensorflow", "keras", "ai-edge-litert", "ai-edge-quantizer", "numpy")

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1150px;
       padding: 0 1rem; color: #1d2430; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid #d8dde6;
         vertical-align: top; }
td.number { text-align: right; white-space: nowrap;
            font-variant-numeric: tabular-nums; }
.passed { color: #12733c; } .failed { color: #b3261e; } .not { color: #9a6700; }
figure { display: inline-block; margin: 0 .8rem 1rem 0; vertical-align: top; }
.pair { display: inline-block; white-space: nowrap; }
.pair figcaption { white-space: normal; }
figure img { display: block; image-rendering: pixelated; width: 264px; }
figcaption { font-size: 13px; max-width: 264px; overflow-wrap: anywhere; }
details { margin: .3rem 0; }
"""


def write_report(folder: Path, workshop: Workshop, rows: list[Row]) -> None:
    """Writes both reports."""
    document = _document(workshop, rows)
    write_json(folder / "report.json", document)
    write_whole(folder / "report.html", _page(workshop, rows, document))


def _document(workshop: Workshop, rows: list[Row]) -> dict:
    settings = workshop.settings
    return {
        "model": workshop.subject.name,
        "parameters": workshop.parameters,
        "multiply_adds": workshop.macs,
        "height": settings.height,
        "width": settings.width,
        "footage": settings.clip or "the drawn scene of megan demo",
        "windows": len(workshop.samples),
        "keras_seconds": workshop.keras_seconds,
        "artefacts": [row.document() for row in rows],
        "environment": {
            "keras_megan": __version__,
            "machine": platform.machine(),
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in _PACKAGES},
        },
    }


def _page(workshop: Workshop, rows: list[Row], document: dict) -> str:
    name = html.escape(workshop.subject.name)
    settings, windows = workshop.settings, document["windows"]
    footage = html.escape(str(document["footage"]))
    facts = (
        f"{workshop.parameters:,} parameters, {workshop.macs / 1e9:.2f} billion "
        f"multiply-adds for {settings.width}x{settings.height}. Verified on "
        f"{windows} window{'s' if windows > 1 else ''} of {footage}. "
        f"Keras on this machine's CPU: {workshop.keras_seconds * 1e3:.0f} ms. "
        "Times were taken one after another; benchmarks.export.benchmark measures "
        "side by side."
    )
    versions = ", ".join(f"{k} {v}" for k, v in document["environment"].items())
    return (
        "<!doctype html>\n<html lang=en><meta charset=utf-8>"
        f"<title>{name}: export</title><style>{_STYLE}</style>"
        f"<h1>{name}</h1><p>{facts}</p>{_table(rows)}"
        f"<h2>Pictures</h2>{_pictures(workshop, rows)}"
        f"<h2>Operations and findings</h2>{_details(rows)}"
        f"<p><small>{html.escape(versions)}</small></p></html>\n"
    )


def _table(rows: list[Row]) -> str:
    lines = [
        "<table><tr><th>file<th>size<th>runtime<th>result<th>one run"
        "<th>largest error<th>mean error<th>PSNR (Keras)"
    ]
    for row in rows:
        file = html.escape(row.file)
        link = f"<a href='{file}'>{file}</a>" if row.published else f"<s>{file}</s>"
        cells = [_check_cells(check) for check in row.checks] or [
            f"<td>-<td class=failed>{html.escape(row.message)}<td><td><td><td>"
        ]
        size = f"{row.file_bytes / 1e6:.2f} MB" if row.file_bytes else ""
        lines.append(
            f"<tr><td rowspan={len(cells)}>{link}"
            f"<td rowspan={len(cells)} class=number>{size}{cells[0]}"
        )
        lines += [f"<tr>{cell}" for cell in cells[1:]]
    return "".join(lines) + "</table>"


def _check_cells(check) -> str:
    def number(value, form):
        return "" if value is None else format(value, form)

    psnr = number(check.psnr, ".2f")
    if psnr:
        psnr += f" ({number(check.keras_psnr, '.2f')})"
    result = check.status + (f": {check.message}" if check.message else "")
    if check.fully_accelerated:
        result += ", fully accelerated"
    return (
        f"<td>{check.runtime}<td class='{check.status}'>{html.escape(result)}"
        f"<td class=number>{_milliseconds(check.seconds)}"
        f"<td class=number>{number(check.largest_error, '.1e')}"
        f"<td class=number>{number(check.mean_error, '.1e')}<td class=number>{psnr}"
    )


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{1e3 * seconds:{'.0f' if seconds >= 0.01 else '.2g'}} ms"


def _pictures(workshop: Workshop, rows: list[Row]) -> str:
    sample, expected = workshop.samples[0], workshop.expected[0]
    if sample.truth is None or expected.ndim != 4:
        return "<p>The network's output is not a picture.</p>"
    middle = len(expected) // 2
    truth = sample.truth[middle]
    box = most_detailed_box(truth)
    scale = truth.shape[0] // sample.tensor.shape[1]
    simple = to_uint8(trilinear_upsample(sample.tensor, scale)[middle])
    keras_frame = to_uint8(expected[middle])
    figures = [
        _figure(box.of(truth), "truth"),
        _figure(box.of(simple), "trilinear"),
        _figure(box.of(keras_frame), f"Keras {keras.__version__}"),
    ]
    for row in rows:
        if row.picture is None:
            continue
        difference = np.abs(row.picture.astype(int) - keras_frame.astype(int))
        amplified = np.clip(difference * AMPLIFIED, 0, 255).astype(np.uint8)
        pair = (
            _figure(box.of(row.picture), row.file),
            _figure(box.of(amplified), f"its difference from Keras, x{AMPLIFIED}"),
        )
        figures.append(f"<div class=pair>{''.join(pair)}</div>")
    return "".join(figures)


def _figure(image: np.ndarray, caption: str) -> str:
    _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    text = base64.b64encode(data.tobytes()).decode()
    caption = html.escape(caption)
    return (
        f"<figure><img alt='{caption}' src='data:image/png;base64,{text}'>"
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _details(rows: list[Row]) -> str:
    parts = []
    for row in rows:
        if not row.operations:
            continue
        total = sum(row.operations.values())
        names = _counted(Counter(row.operations))
        opened = " open" if row.findings else ""
        title = f"{row.file}: {total:,} operations, {len(row.findings)} findings"
        parts.append(
            f"<details{opened}><summary>{html.escape(title)}</summary><p>{names}</p>"
            f"{findings_table(row.findings)}</details>"
        )
    return "".join(parts)


def findings_table(findings: list[Finding]) -> str:
    """A row for each rule: how often, which operations, in which layers, what to do."""
    if not findings:
        return ""
    lines = ["<table><tr><th>rule<th>operations<th>in layers<th>the first of them"]
    by_rule: dict[str, list[Finding]] = {}
    for finding in findings:
        by_rule.setdefault(f"{finding.severity}: {finding.rule}", []).append(finding)
    for rule, found in by_rule.items():
        operations = _counted(Counter(finding.operation for finding in found))
        layers = list(dict.fromkeys(finding.layer for finding in found))
        shown = "<br>".join(html.escape(layer) for layer in layers[:LAYERS_SHOWN])
        if len(layers) > LAYERS_SHOWN:
            shown += f"<br>and {len(layers) - LAYERS_SHOWN} more"
        lines.append(
            f"<tr><td class=failed>{html.escape(rule)}, {len(found)} times"
            f"<td>{operations}<td>{shown}<td>{html.escape(found[0].message)}"
        )
    return "".join(lines) + "</table><p>All of them are in report.json.</p>"


def _counted(counts: Counter) -> str:
    return html.escape(", ".join(f"{name} {n}" for name, n in counts.most_common()))

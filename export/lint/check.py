"""What stands between a TFLite file and the device it is meant for.

    flatbuffer, target -> findings: rule, operation, tensor, Keras layer, what to do

Every rule was found by running small graphs on LiteRT's GPU runtime and comparing with
its CPU runtime; the tests repeat that. Some graphs it refuses (`lint_rules`), some it
runs wholly and wrongly (`lint_traps`). A file without findings can still be wrong: only
running it and comparing says so (`verify`).
"""

from dataclasses import dataclass
from pathlib import Path

from export.build.flatbuffer import Graph, Summary, layer_of, read_graph, summary
from export.errors import ExportError

# Imported for the rules it registers.
from export.lint import traps, web_traps  # noqa: F401
from export.lint.rules import RULES, TARGETS, Trouble

__all__ = ["RULES", "TARGETS", "Finding", "Summary", "layer_of", "lint", "summary"]


@dataclass(frozen=True)
class Finding:
    """One place that a rule objects to.

    Attributes:
        rule: The rule's name.
        severity: "error": refused, aborts or computed wrongly; "warning": not tried.
        operation: The operation's name; "" for the ends of the graph.
        tensor: Name of the tensor in question.
        layer: Path of the Keras layer it comes from, or of the nearest one before it;
            "" if no name tells.
        message: What is wrong and what to do.
    """

    rule: str
    severity: str
    operation: str
    tensor: str
    layer: str
    message: str


def lint(model: bytes | str | Path | Graph, target: str) -> list[Finding]:
    """Looks for everything known to fail on a target.

    Args:
        model: The flatbuffer, its path, or what `read_graph` made of it.
        target: A key of `TARGETS`.

    Returns:
        The findings, errors first, in the order of the rules and of the graph.

    Raises:
        ExportError: If the target is unknown or the file is not a TFLite model.
    """
    if target not in TARGETS:
        raise ExportError(
            f"Unknown target '{target}'; choose from {', '.join(TARGETS)}."
        )
    graph = read_graph(model)
    found = [
        _finding(name, entry.severity, trouble)
        for name, entry in RULES.items()
        if target in entry.targets
        for trouble in entry.check(graph)
    ]
    return sorted(found, key=lambda finding: finding.severity != "error")


def _finding(name: str, severity: str, trouble: Trouble) -> Finding:
    operation, tensor = trouble.operation, trouble.tensor
    read = [] if operation is None else operation.inputs
    written = [] if operation is None else operation.outputs
    if tensor is None:
        tensor = written[0]
    # The model's last operation writes a tensor named after the whole graph; then the
    # layers it reads from say where to look.
    layers = (layer_of(t.name) for t in (*written, tensor, *read))
    return Finding(
        rule=name,
        severity=severity,
        operation="" if operation is None else operation.name,
        tensor=tensor.name,
        layer=next(filter(None, layers), ""),
        message=trouble.message,
    )

"""Prunes a network to a budget before it is exported; training then repairs it.

    python -m export.compress --model megan_mobile --macs 14e9 --out lean.keras
    python -m training.train --recipe training/recipes/finetune.py --model lean.keras \
        --data SHARDS --validation CLIPS --out RUN
    python -m export.convert --model RUN/stage_0_finetune/best.keras --out DIR

Structured pruning by net2net: filters are really gone, so every runtime gains. The
budget is one of multiply-adds, parameters, or bytes of the float32 TFLite file; the
file's is met by measuring the file that comes out. Channels stay multiples of 8, which
is what mobile GPUs compute in.
"""

from pathlib import Path

from absl import app, flags, logging
from rich.console import Console

from export.errors import ExportError
from keras_megan.errors import run_program

#: How often a file is measured on the way to its size.
TRIES = 6
#: How near to the wanted size is near enough.
TOLERANCE = 0.03


def compress(subject, height: int, width: int, budget: dict, round_to: int = 8):
    """Prunes the smallest filters everywhere until a budget is met.

    Args:
        subject: The network, an `export.build.subjects.Subject`.
        height, width: Input size at which multiply-adds and files are measured.
        budget: One of ``{"macs": n}``, ``{"parameters": n}``, ``{"file_bytes": n}``.
        round_to: Channels stay multiples of this.

    Returns:
        The pruned network.

    Raises:
        ExportError: If the budget cannot be met.
    """
    from keras_megan import net2net
    from keras_megan.net2net.plan import PlanError

    shape = subject.sample_shape(height, width)
    kind, wanted = next(iter(budget.items()))

    def pruned(**target):
        try:
            plan = net2net.prune(
                subject.model, round_to=round_to, input_shape=shape, **target
            )
        except PlanError as error:
            raise ExportError(f"Cannot prune to {kind} {wanted:g}: {error}") from error
        return plan.apply()

    if kind == "file_bytes":
        return _to_file_size(subject, height, width, int(wanted), pruned)
    return pruned(**{kind: int(wanted)})


def _to_file_size(subject, height, width, wanted, pruned):
    """Prunes to parameters until the file that comes out has the size."""
    from keras_megan import net2net

    size = _file_bytes(subject, subject.model, height, width)
    if wanted >= size:
        raise ExportError(
            f"The file has {size:,} bytes already; a budget must be smaller. Received "
            f"{wanted:,}."
        )
    parameters = net2net.count_params(subject.model)
    best = None
    for _ in range(TRIES):
        parameters += (wanted - size) // 4  # four bytes each
        if parameters < 1:
            break
        network = pruned(parameters=parameters)
        size = _file_bytes(subject, network, height, width)
        if size <= wanted:
            best = network
            if size >= wanted * (1 - TOLERANCE):
                break
    if best is None:
        raise ExportError(
            f"No file of {wanted:,} bytes can be reached: what describes the graph "
            f"takes room too. The smallest that was made has {size:,}."
        )
    return best


def _file_bytes(subject, model, height, width) -> int:
    import copy

    from export.build.slim import slim
    from export.build.tflite import convert
    from export.build.trace import trace

    candidate = copy.copy(subject)
    candidate.model = model
    return len(slim(convert(trace(candidate, height, width), model)))


def _define_flags() -> None:
    """Only in the program itself: flags are global, and modules import each other."""
    flags.DEFINE_string(
        "model", None, "Network to prune: preset, preset folder or .keras file."
    )
    flags.DEFINE_string("out", None, "The .keras file to write.")
    flags.DEFINE_float("macs", None, "Budget of multiply-adds for one window or image.")
    flags.DEFINE_float("parameters", None, "Budget of parameters.")
    flags.DEFINE_float(
        "file_bytes", None, "Budget of bytes for the float32 TFLite file."
    )
    flags.DEFINE_integer("height", 64, "Height of the input in pixels.")
    flags.DEFINE_integer("width", 112, "Width of the input in pixels.")
    flags.DEFINE_integer("round_to", 8, "Channels stay multiples of this.")
    flags.DEFINE_bool("force", False, "Replace the file if it exists.")


def _main() -> int:
    given = flags.FLAGS
    names = ("macs", "parameters", "file_bytes")
    budget = {n: given[n].value for n in names if given[n].value is not None}
    if not (given.model and given.out) or len(budget) != 1:
        raise ExportError(
            "Expected --model MODEL, --out FILE.keras and exactly one budget: --macs, "
            "--parameters or --file_bytes."
        )
    out = Path(given.out)
    if out.suffix != ".keras":
        raise ExportError(f"--out must end in .keras; received '{out}'.")
    if out.exists() and not given.force:
        raise ExportError(f"'{out}' exists; give --force to replace it.")
    logging.set_verbosity(logging.WARNING)
    from export.build.subjects import load_subject
    from export.errors import saving
    from keras_megan import net2net
    from keras_megan.files import appearing

    subject = load_subject(given.model)
    network = compress(subject, given.height, given.width, budget, given.round_to)
    with saving(out), appearing(out) as aside:
        network.save(aside)
    shape = subject.sample_shape(given.height, given.width)
    console = Console()
    for name, model in (("before", subject.model), ("after", network)):
        console.print(
            f"{name}: {net2net.count_params(model):,} parameters, "
            f"{net2net.count_macs(model, shape) / 1e9:.3f} billion multiply-adds"
        )
    console.print(f"Wrote {out}. Train it again before it is exported: docs/export.md.")
    return 0


if __name__ == "__main__":
    _define_flags()
    app.run(lambda argv: run_program("compress", _main))

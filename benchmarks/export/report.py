"""What a benchmark found: a row of numbers for each contender, and tables of them.

A `Row` collects what its contender's process answers; `results_table` shows all rows,
`operations_table` one file's time by type of operation. Rows are numbered, and a legend
names them, since file names are longer than any table has room for.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from rich import box
from rich.table import Table

from benchmarks.export.contenders import SCALE
from keras_megan.metrics import PSNR_CAP, luma_psnr


@dataclass
class Row:
    """One contender and what was measured.

    Attributes:
        kind, name, threads: What it is; see `contenders`.
        height, width: Size of its input frames.
        frames: How many frames one window gives.
        seconds: Time of each round, for all its frames.
        memory: Growth of the process's peak, in bytes, from before it was loaded.
        psnr: "given" and "new" frames -> dB.
        operations: Times by type of operation; empty without a profile.
    """

    kind: str
    name: str
    threads: int
    height: int
    width: int
    frames: int
    seconds: list[float] = field(default_factory=list)
    memory: int = 0
    psnr: dict[str, float] = field(default_factory=dict)
    operations: list[dict] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Name in tables and messages."""
        name = Path(self.name).name if self.kind == "litert" else self.name
        return f"{self.kind}: {name}"

    def add(self, reply: dict) -> None:
        """Takes in what a contender answered to "run"."""
        # FFmpeg's filters run over a whole clip; count what a window would take.
        self.seconds.append(reply["seconds"] / reply["frames"] * self.frames)
        self.memory = reply["memory"]

    def rates(self) -> np.ndarray:
        """Output pixels per second in each round."""
        pixels = self.frames * self.height * self.width * SCALE**2
        return pixels / np.asarray(self.seconds)

    def document(self, first: "Row") -> dict:
        """Returns JSON data, with what follows from the measurements."""
        median = float(np.median(self.seconds))
        return {
            **asdict(self),
            "median": median,
            "p90": float(np.percentile(self.seconds, 90)),
            "frames_per_second": self.frames / median,
            "megapixels_per_second": float(np.median(self.rates())) / 1e6,
            "speed_ratio": float(np.median(self.rates() / first.rates())),
        }


def psnr_of_halves(truth: np.ndarray, made: np.ndarray) -> dict[str, float]:
    """Mean luma PSNR in dB of given frames (0, 2, ...) and new ones (1, 3, ...)."""
    values = np.minimum(luma_psnr(truth, made), PSNR_CAP)
    return {"given": float(values[0::2].mean()), "new": float(values[1::2].mean())}


def legend(rows: list[Row]) -> str:
    """The numbers of the table's rows, and what they stand for."""
    return "\n".join(
        f"{number:3}  {row.title}, {row.width}x{row.height}, "
        f"{row.threads} thread{'s' if row.threads > 1 else ''}"
        for number, row in enumerate(rows, 1)
    )


def results_table(documents: list[dict]) -> Table:
    """The table of all rows, from `Row.document`."""
    table = Table(
        *("", "ms", "p90", "frames/s", "Mpixel/s", "speed", "MB", "given dB", "new dB"),
        title="ms: median for one window (ffmpeg: for as many frames). "
        "speed: output pixels, against row 1",
        box=box.SIMPLE,
    )
    for column in table.columns:
        column.justify, column.no_wrap = "right", True
    for number, entry in enumerate(documents, 1):
        table.add_row(
            str(number),
            f"{1e3 * entry['median']:.1f}",
            f"{1e3 * entry['p90']:.1f}",
            f"{entry['frames_per_second']:.2f}",
            f"{entry['megapixels_per_second']:.2f}",
            f"{entry['speed_ratio']:.2f}x",
            f"{entry['memory'] / 1e6:.0f}",
            f"{entry['psnr']['given']:.2f}",
            f"{entry['psnr']['new']:.2f}",
        )
    return table


def operations_table(row: Row) -> Table:
    """The table of one file's operations by type."""
    total = sum(share["seconds"] for share in row.operations)
    table = Table(
        *("operation", "count", "ms", "share"),
        title=f"{row.title}, {row.threads} threads. Operations timed alone: together "
        f"{1e3 * total:.1f} ms; the whole file at best {1e3 * min(row.seconds):.1f} ms",
        box=box.SIMPLE,
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for share in row.operations:
        note = f" ({share['unmeasured']} not timed)" if share["unmeasured"] else ""
        table.add_row(
            share["name"] + note,
            str(share["count"]),
            f"{1e3 * share['seconds']:.2f}",
            f"{share['share']:.1%}",
        )
    return table

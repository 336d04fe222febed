"""Reports the results: a table for the terminal, ``results.json`` for programs.

The JSON holds the settings, every frame's scores and the means, so that another table
can be made from it without running anything again.
"""

import dataclasses
import math
from collections.abc import Mapping

from rich.markup import escape
from rich.table import Table

from training.evaluation.scoring import FRAME_GROUPS, FrameScore, Summary

#: Clip -> method -> scores of its frames.
Results = Mapping[str, Mapping[str, list[FrameScore]]]


def summarize(results: Results) -> tuple[dict[str, dict[str, Summary]], dict]:
    """Means per clip and over the clips.

    Returns:
        Clip -> method -> ``Summary``, and method -> ``Summary`` over all clips.
    """
    clips = {
        clip: {name: Summary.of_frames(scores) for name, scores in methods.items()}
        for clip, methods in results.items()
    }
    names = next(iter(clips.values()))
    means = {
        name: Summary.of_clips(methods[name] for methods in clips.values())
        for name in names
    }
    return clips, means


def make_table(results: Results) -> Table:
    """The results as a table: a block per clip, one for their mean.

    The best number of each block's column is bold. The last column is the sharpness of
    new frames over that of given ones.
    """
    clips, means = summarize(results)
    table = Table(title="PSNR (dB) / SSIM on luma", title_justify="left")
    table.add_column("method", overflow="fold")
    for group in FRAME_GROUPS:
        table.add_column(f"{group} frames", justify="right", no_wrap=True)
    table.add_column("sharpness", justify="right", no_wrap=True)
    blocks = [*clips.items()]
    if len(blocks) > 1:
        blocks.append(("mean", means))
    for label, summaries in blocks:
        table.add_row(f"[italic]{escape(label)}[/italic]")
        for name, summary in summaries.items():
            cells = [_cell(summary, group, summaries) for group in FRAME_GROUPS]
            even = summary.evenness
            cells.append("" if even is None else f"{even:.2f}")
            table.add_row(f"  {escape(name)}", *cells)
        table.add_section()
    return table


def _cell(summary: Summary, group: str, summaries: Mapping[str, Summary]) -> str:
    parts = []
    for values, digits in (("psnr", 2), ("ssim", 3)):
        value = getattr(summary, values)[group]
        best = max(getattr(other, values)[group] for other in summaries.values())
        text = f"{value:.{digits}f}"
        is_best = len(summaries) > 1 and math.isclose(value, best, rel_tol=1e-12)
        parts.append(f"[bold]{text}[/bold]" if is_best else text)
    return " / ".join(parts)


def results_document(results: Results, settings: Mapping) -> dict:
    """The contents of ``results.json``."""
    clips, means = summarize(results)
    return {
        "settings": dict(settings),
        "mean": {name: summary.as_dict() for name, summary in means.items()},
        "clips": {
            clip: {
                name: {
                    **clips[clip][name].as_dict(),
                    "frames": [dataclasses.asdict(score) for score in scores],
                }
                for name, scores in methods.items()
            }
            for clip, methods in results.items()
        },
    }

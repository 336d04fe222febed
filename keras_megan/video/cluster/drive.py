"""A job whose segments a crew makes: what the driver does besides waiting.

It reads the source once, through the same `Plan` as one process. So it knows how many
segments there are and when each frame appears, and a worker that found other times, and
so read something else, is noticed. Segments are journaled as they come, in any order:
a driver that is killed goes on with what is missing.
"""

from array import array
from typing import TYPE_CHECKING

from keras_megan.interrupts import check_interrupts
from keras_megan.video.cluster.crew import CrewRunner
from keras_megan.video.cluster.worker import Made, Order
from keras_megan.video.errors import VideoError
from keras_megan.video.jobs.job import Job
from keras_megan.video.jobs.journal import SEGMENT_FRAMES, Journal, Segment
from keras_megan.video.jobs.schedule import Plan

if TYPE_CHECKING:
    from keras_megan.video.upscale import Reporter, Summary


def run_on_crew(
    job: Job,
    runner: CrewRunner,
    journal: Journal,
    plan: Plan,
    size: tuple[int, int],
    reporter: "Reporter",
    summary: "Summary",
) -> None:
    """Has all segments made that the journal lacks.

    Args:
        job: The job.
        runner: The crew.
        journal: Where segments go; it knows the tile.
        plan: The plan of the source, not yet read.
        size: Width and height of the result.
        reporter: Hears of each frame and of lost workers.
        summary: Gets the time in the network.

    Raises:
        VideoError: If a segment cannot be made.
    """
    time_base = job.rate.clock(job.clip.info.time_base)
    ticks = _survey(plan, time_base)
    order = Order(
        source=job.source.resolve(),
        content=job.clip.info.content,
        options=job.options,
        deep=job.clip.deep,
        codec=job.codec,
        suffix=journal.suffix,
        width=size[0],
        height=size[1],
        outputs=len(ticks),
        tile=journal.facts["tile"],
        needs=job.needs,
        fingerprint=runner.fingerprint,
    )

    def take(made: Made) -> None:
        frames = order.frames(made.number)
        if made.ticks != tuple(ticks[frames.start : frames.stop]):
            raise VideoError(
                f"A worker found other frames in '{job.source}' than the driver. "
                "Do all machines see the same file, and decode it by the same version "
                "of PyAV?"
            )
        part = journal.folder / f"unfinished{journal.suffix}"
        made.write(part)
        segment = Segment(frames.start, made.ticks, made.delay)
        journal.finish_segment(part, journal.suffix, segment)
        summary.model_seconds += made.seconds
        reporter.advance(len(frames))

    count = -(-len(ticks) // SEGMENT_FRAMES)
    missing = [number for number in range(count) if not journal.has(number)]
    if missing:
        runner.make(order, missing, take, reporter.note)


def _survey(plan: Plan, time_base) -> array:
    """Reads the source through; when each output frame appears, in ticks."""
    ticks = array("q")
    for task in plan.tasks():
        check_interrupts()
        ticks.extend(plan.tick(shot.moment, time_base) for shot in task.shots)
    return ticks

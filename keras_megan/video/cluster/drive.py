"""A job whose segments are made by a crew: the driver's part of the work.

The driver reads the source once, through the same `Plan` as a single process would. So
it knows how many segments there are and when each frame appears, and notices a worker
that read something else and found other times. Segments are journaled in whatever order
they arrive: after a crash the driver only has the missing ones made.
"""

from array import array
from typing import TYPE_CHECKING

from keras_megan.interrupts import check_interrupts
from keras_megan.video.cluster.crew import CrewRunner
from keras_megan.video.cluster.worker import Made, Order
from keras_megan.video.errors import VideoError
from keras_megan.video.jobs.job import Job
from keras_megan.video.jobs.journal import SEGMENT_FRAMES, Journal, Segment
from keras_megan.video.jobs.production import Production

if TYPE_CHECKING:
    from keras_megan.video.upscale import Reporter


class OnCrew:
    """Has a crew make the segments that a job lacks; see `jobs.in_process.InProcess`.

    Args:
        job: The job.
        runner: The crew.
        journal: Where segments go.
        production: What is made of the job's clip, for its plan.
        reporter: Hears of each frame and of lost workers.
    """

    def __init__(
        self,
        job: Job,
        runner: CrewRunner,
        journal: Journal,
        production: Production,
        reporter: "Reporter",
    ):
        self._job, self._runner, self._journal = job, runner, journal
        self._production, self._reporter = production, reporter

    def choose_tile(self) -> int:
        """The tile for the job; see `Worker.choose_tile`."""
        return self._runner.choose_tile(self._job.options.tile)

    def run(self) -> float:
        """Has the segments made, with the tile that the journal knows.

        Returns:
            Seconds in the workers' networks, all together.

        Raises:
            VideoError: If a segment cannot be made.
        """
        job, journal = self._job, self._journal
        ticks = self._survey()
        width, height = self._production.size
        order = Order(
            source=job.source.resolve(),
            content=job.clip.info.content,
            options=job.options,
            deep=job.clip.deep,
            codec=job.codec,
            suffix=journal.suffix,
            width=width,
            height=height,
            outputs=len(ticks),
            tile=journal.facts["tile"],
            needs=job.needs,
            fingerprint=self._runner.fingerprint,
        )
        seconds = 0.0

        def take(made: Made) -> None:
            nonlocal seconds
            frames = order.frames(made.number)
            if made.ticks != tuple(ticks[frames.start : frames.stop]):
                raise VideoError(
                    f"A worker found other frames in '{job.source}' than the driver. "
                    "Do all machines see the same file, and decode it by the same "
                    "version of PyAV?"
                )
            part = journal.folder / f"unfinished{journal.suffix}"
            made.write(part)
            journal.finish_segment(part, Segment(frames.start, made.ticks, made.delay))
            seconds += made.seconds
            self._reporter.advance(len(frames))

        count = -(-len(ticks) // SEGMENT_FRAMES)
        missing = [number for number in range(count) if not journal.has(number)]
        if missing:
            self._runner.make(order, missing, take, self._reporter.note)
        return seconds

    def _survey(self) -> array:
        """Reads the source through; when each output frame appears, in ticks."""
        ticks = array("q")
        for task in self._production.plan.tasks():
            check_interrupts()
            ticks.extend(self._production.tick(shot) for shot in task.shots)
        return ticks

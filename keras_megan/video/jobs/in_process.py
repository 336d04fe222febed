"""The frames of a job, made in this process by three stages at the same time.

reader thread                 calling thread              writer thread
decode, find scene cuts,  ->  the network, tile by   ->   encode into segments
cut into windows              tile                        and record them
"""

import time
from typing import TYPE_CHECKING

from keras_megan.interrupts import check_interrupts
from keras_megan.video.io.writing.segments import SegmentWriter
from keras_megan.video.jobs.job import Job
from keras_megan.video.jobs.journal import Journal
from keras_megan.video.jobs.production import Predictions, Production, predict
from keras_megan.video.jobs.schedule import Shot
from keras_megan.video.jobs.threads import BackgroundWriter, prefetched
from keras_megan.video.models.runner import Runner
from keras_megan.video.tiles import TiledRunner, settle_tile

if TYPE_CHECKING:
    from keras_megan.video.upscale import Reporter


class InProcess:
    """Makes the segments that a job lacks; `cluster.drive.OnCrew` has others do it.

    Args:
        job: The job.
        runner: The network.
        journal: Where segments go.
        production: What is made of the job's clip.
        reporter: Hears of each frame.
    """

    def __init__(
        self,
        job: Job,
        runner: Runner,
        journal: Journal,
        production: Production,
        reporter: "Reporter",
    ):
        self._info, self._asked = job.clip.info, job.options.tile
        self._runner, self._journal = runner, journal
        self._production, self._reporter = production, reporter

    def choose_tile(self) -> int:
        """The tile for the job, tried; see `tiles.settle_tile`."""
        info = self._info
        return settle_tile(self._runner, info.height, info.width, self._asked)

    def run(self) -> float:
        """Makes the segments, with the tile that the journal knows.

        Returns:
            Seconds in the network.
        """
        production, journal, info = self._production, self._journal, self._info
        tile = journal.facts["tile"]
        upscaler = TiledRunner(self._runner, info.height, info.width, tile)
        writer = SegmentWriter(journal, production.new_encoder, self._reporter.advance)
        seconds = 0.0

        def write(item: tuple[int, Shot, Predictions]) -> None:
            index, shot, predictions = item
            image = production.image(shot, predictions)
            writer.write(index, production.tick(shot), image)

        try:
            with (
                prefetched(production.plan.tasks(), depth=2) as tasks,
                BackgroundWriter(write, 2 * upscaler.runner.frames_out) as background,
            ):
                for task in tasks:
                    check_interrupts()
                    first = task.first_output
                    if journal.has_frames(range(first, first + len(task.shots))):
                        continue
                    before = time.monotonic()
                    predictions = predict(task, upscaler)
                    seconds += time.monotonic() - before
                    for index, shot in enumerate(task.shots, first):
                        background.put((index, shot, predictions))
                    del predictions
            writer.finish()
        except BaseException:
            writer.abandon()
            raise
        return seconds

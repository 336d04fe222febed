"""Networks that are loaded: once, when first needed, kept for other clips."""

from collections.abc import Callable
from typing import Any

from keras_megan.video.models.engines import NOTHING_SPECIAL, Model, Needs

#: What a job needs -> what computes it.
FindModel = Callable[[Needs], Model]


class Models:
    """Loads the network when it is first needed and keeps it for other clips.

    Use it as a context manager, since a loaded network may have to be closed.
    """

    def __init__(self, find: FindModel):
        self._find = find
        self._loaded: dict[tuple[str, str], Any] = {}

    def __enter__(self) -> "Models":
        return self

    def __exit__(self, *_) -> None:
        for model in self._loaded.values():
            getattr(model, "close", lambda: None)()
        self._loaded = {}

    def find(self, needs: Needs = NOTHING_SPECIAL) -> Model:
        """Finds the model without loading it.

        Raises:
            VideoError: If there is none.
        """
        return self._find(needs)

    def runner(self, height: int, width: int, needs: Needs):
        """The `Runner` for frames of a size.

        Args:
            height, width: Size of the frames in pixels.
            needs: What the job asks of it.
        """
        model = self._find(needs)
        key = model.name, model.engine
        if key not in self._loaded:
            self._loaded[key] = model.load()
        runner = self._loaded[key]
        if hasattr(runner, "for_size"):  # several files, each for a size of its own
            return runner.for_size(height, width)
        return runner

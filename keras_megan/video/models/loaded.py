"""Networks that are loaded: once, when first needed, kept for other clips."""

from collections.abc import Callable
from typing import Any

from keras_megan.video.models.engines import Model

#: Whether new frames have to lie elsewhere than half-way -> what computes them.
FindModel = Callable[[bool], Model]


class Models:
    """Loads the network when it is first needed and keeps it for other clips.

    Use it as a context manager, since a loaded network may have to be closed.
    """

    def __init__(self, find: FindModel):
        self._find = find
        self._loaded: dict[str, Any] = {}

    def __enter__(self) -> "Models":
        return self

    def __exit__(self, *_) -> None:
        for model in self._loaded.values():
            getattr(model, "close", lambda: None)()
        self._loaded = {}

    def find(self, needs_times: bool = False) -> Model:
        """Finds the model without loading it.

        Raises:
            VideoError: If there is none.
        """
        return self._find(needs_times)

    def runner(self, height: int, width: int, needs_times: bool):
        """The `Runner` for frames of a size.

        Args:
            height, width: Size of the frames in pixels.
            needs_times: Whether new frames have to lie elsewhere than half-way.
        """
        model = self._find(needs_times)
        if model.engine not in self._loaded:
            self._loaded[model.engine] = model.load()
        runner = self._loaded[model.engine]
        if hasattr(runner, "for_size"):  # several files, each for a size of its own
            return runner.for_size(height, width)
        return runner

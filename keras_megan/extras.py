"""Packages that only part of the library needs, and how to install them.

``pip install keras_megan`` brings networks, layers and net2net. What works with files
needs more, in groups that pyproject.toml calls extras. `require` is called where a part
begins, so that its absence is one line that says what to install.
"""

import importlib.util
import sys

from keras_megan.errors import ExplainedError

_VIDEO = ("av", "cv2", "rich", "ai_edge_litert", "flatbuffers")
#: Extra -> the modules that it installs beyond those of the bare package.
EXTRAS: dict[str, tuple[str, ...]] = {
    "video": _VIDEO,
    "training": (
        *_VIDEO,
        "absl",
        "matplotlib",
        "tensorboard",
        "tensorflow_model_optimization",
    ),
    "ray": (*_VIDEO, "ray"),
    "export": (*_VIDEO, "absl", "ai_edge_quantizer"),
}


class MissingExtra(ExplainedError, ImportError):  # noqa: N818  named as it is read
    """A package is missing; the text says which extra installs it."""


def require(extra: str) -> None:
    """Checks that an extra's packages are there, without importing them.

    Args:
        extra: One of `EXTRAS`.

    Raises:
        MissingExtra: If one is not installed.
    """
    missing = [module for module in EXTRAS[extra] if not _is_there(module)]
    if missing:
        raise MissingExtra(
            f"This needs {', '.join(missing)}, which "
            f"{'is' if len(missing) == 1 else 'are'} not installed. Run: "
            f"pip install 'keras_megan[{extra}]'"
        )


def require_or_exit(extra: str) -> None:
    """`require` for packages of programs: prints the line and exits with status 1."""
    try:
        require(extra)
    except MissingExtra as error:
        sys.exit(str(error))


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False

"""keras_megan: space-time video super-resolution, and models that grow and shrink."""

from keras_megan.version import __version__

__all__ = ["__version__"]

"""The base class of everything that net2net refuses."""


class Net2NetError(ValueError):
    """A model cannot be changed as asked: base class of all errors of net2net."""

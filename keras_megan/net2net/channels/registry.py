"""What is known about each type of operation: one table per kind of knowledge.

A Keras model is made of *operations*: layers (``keras.layers.Conv2D``) and raw
operations (what ``keras.ops.reshape`` or ``x + y`` leave in the graph). A layer type is
looked up by its class. A raw operation's class is not public in Keras, so it is looked
up by the text ``"ops.<ClassName>"``, for example ``"ops.Reshape"`` or ``"ops.Add"``;
`operation_key` gives the key of any operation.

A subclass of a known layer inherits its entry if it changes nothing of what the layer
does: see `keras_megan.net2net.channels.faithful`.
"""

import keras

from keras_megan.net2net.channels.faithful import is_faithful


def operation_key(operation):
    """Returns the key under which an operation is registered.

    Args:
        operation: A `keras.Operation`: a layer or a raw operation.

    Returns:
        The layer's class, or ``"ops.<ClassName>"`` for a raw operation.
    """
    if isinstance(operation, keras.Layer):
        return type(operation)
    return f"ops.{type(operation).__name__}"


class OperationRegistry:
    """A table from operation types to functions.

    Args:
        purpose: What the functions do, for error messages, such as ``"rule"``.
    """

    def __init__(self, purpose):
        self.purpose = purpose
        self._entries = {}

    def register(self, *keys):
        """Returns a decorator that enters a function for every key given.

        Args:
            *keys: Layer classes, or ``"ops.<ClassName>"`` for raw operations. A later
                registration of the same key replaces the earlier one.

        Raises:
            TypeError: If a key is neither a `keras.Layer` class nor such a text.
        """
        for key in keys:
            is_layer = isinstance(key, type) and issubclass(key, keras.Layer)
            is_raw = isinstance(key, str) and key.startswith("ops.")
            if not (is_layer or is_raw):
                raise TypeError(
                    f"A {self.purpose} is registered for a keras.Layer class or for "
                    f"'ops.<ClassName>', received {key!r}."
                )

        def enter(function):
            for key in keys:
                self._entries[key] = function
            return function

        return enter

    def find(self, operation):
        """Returns the function for an operation, or None when there is none."""
        key = operation_key(operation)
        if isinstance(key, str):
            return self._entries.get(key)
        if key in self._entries:
            return self._entries[key] if is_faithful(operation, key) else None
        for parent in key.__mro__[1:]:
            if parent in self._entries:
                faithful = is_faithful(operation, parent)
                return self._entries[parent] if faithful else None
        return None

    def __contains__(self, operation):
        return self.find(operation) is not None

    def keys(self):
        """Returns all registered keys."""
        return self._entries.keys()

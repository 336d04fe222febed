"""Whether a layer does what a known class of layers does.

A subclass may change what its parent does in any method: Keras documents
``Conv2D.convolution_op`` as a hook, and a vision transformer for small data overrides
``MultiHeadAttention._compute_attention``. So a subclass is what its parent is only if
it overrides nothing that the parent's own methods could come to use. New methods and
attributes of other names do no harm, nor does another constructor: what it has made is
looked at, and rebuilt through ``get_config``.
"""

_HARMLESS = {
    "__abstractmethods__",
    "__annotations__",
    "__dict__",
    "__doc__",
    "__firstlineno__",
    "__init__",
    "__module__",
    "__orig_bases__",
    "__parameters__",
    "__qualname__",
    "__repr__",
    "__static_attributes__",
    "__str__",
    "__weakref__",
    "_abc_impl",
    "_api_export_path",
    "_api_export_symbol_id",
    "_tf_keras_export",
    "compute_output_shape",
    "compute_output_spec",
    "from_config",
    "get_config",
}


def overridden(layer, known):
    """Returns the names of what a layer changes of a known class.

    Args:
        layer: The layer.
        known: A class that it is an instance of.
    """
    names = set()
    for kind in type(layer).__mro__:
        if kind is known:
            break
        names.update(
            name
            for name in vars(kind)
            if name not in _HARMLESS and hasattr(known, name)
        )
    if "call" in vars(layer):
        names.add("call")
    return names


def is_faithful(layer, known):
    """Returns whether a layer does what a known class does; see above."""
    return not overridden(layer, known)

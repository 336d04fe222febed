"""Selecting: which groups of channels a user means by a layer.

A selector is one of

- a layer's name or path, as ``model.summary()`` shows it: ``"stem"``,
  ``"block1/conv"``; of a layer that contains others, everything inside it; with the
  setting behind a dot where it has several widths: ``"attention.key_dim"``;
- a pattern of such names: ``"stage3_*"``, or a compiled regular expression;
- a `keras.Layer`, the instance, or a class of layers: ``keras.layers.Dense``;
- a `Group` of the graph;
- a list, tuple or set of selectors.

A layer without a width of its own (a normalisation) stands for the channels that pass
through it.
"""

import difflib
import fnmatch
import re

import keras

from keras_megan.net2net.channels.channel_graph import UnknownLayerError
from keras_megan.net2net.channels.layout import Group, Layout

_EXPECTED = (
    "the name, path or pattern of a layer, a regular expression, a keras.Layer, a "
    "class of layers, or a list of them"
)


def groups_of(graph, selector):
    """Returns the groups that may change of all layers that a selector means.

    Args:
        graph: The `ChannelGraph`.
        selector: See the module docstring.

    Returns:
        List of `Group`, in order of appearance, without those that are frozen anyway.

    Raises:
        UnknownLayerError: If a selector means no layer of the model.
    """
    if isinstance(selector, list | tuple | set | frozenset):
        found = [group for part in selector for group in groups_of(graph, part)]
    else:
        layouts = _layouts_of(graph, selector)
        found = [group for layout in layouts for group in layout.groups]
    return [group for group in dict.fromkeys(found) if group.frozen is None]


def label_of(selector):
    """Returns what to call a selector in messages."""
    if isinstance(selector, keras.Layer):
        return selector.name
    if isinstance(selector, type):
        return selector.__name__
    if isinstance(selector, Group):
        return selector.name
    return selector.pattern if isinstance(selector, re.Pattern) else str(selector)


def _layouts_of(graph, selector):
    """The layouts of the axes that one selector means."""
    if isinstance(selector, Group):
        return [Layout([(selector, 1)])]
    if isinstance(selector, str):
        matches = _by_name(selector)
        exact = _find(graph, matches)
        if not exact and any(sign in selector for sign in "*?["):
            pattern = re.compile(fnmatch.translate(selector))
            exact = _find(graph, _by_pattern(pattern.match))
        if exact:
            return exact
        raise UnknownLayerError(
            f"Model '{graph.model.name}' has no layer {selector!r}."
            f"{_suggestion(graph, selector)}"
        )
    if isinstance(selector, re.Pattern):
        found = _find(graph, _by_pattern(selector.search))
    elif isinstance(selector, keras.Layer):
        found = _find(graph, _by_instance([selector]))
    elif isinstance(selector, type) and issubclass(selector, keras.Layer):
        layers = graph.model._flatten_layers()
        found = _find(graph, _by_instance(x for x in layers if isinstance(x, selector)))
    else:
        raise UnknownLayerError(
            f"Layers are selected by {_EXPECTED}; received {selector!r} "
            f"({type(selector).__name__})."
        )
    if not found:
        raise UnknownLayerError(
            f"Model '{graph.model.name}' has no layer {label_of(selector)!r} with "
            "channels."
        )
    return found


def _find(graph, matches):
    """The layouts of all layers that match; of one setting where that is named."""
    found = []
    for follow in graph.follows.values():
        for key, layout in follow.widths.items():
            if matches(follow, f".{key}"):
                found.append(layout)
        if matches(follow, ""):
            found += list(follow.widths.values()) or _passing(graph, follow)
    return found


def _passing(graph, follow):
    """The layouts of what a layer without a width of its own gives."""
    return [
        layout
        for call in graph.graph.calls
        if call.operation is follow.operation
        for tensor in call.outputs
        for layout in graph.layouts[id(tensor)]
    ]


def _by_name(name):
    def matches(follow, setting):
        path = follow.name + setting
        inside = not setting and f"/{name}/" in f"/{follow.name}/"
        return inside or path == name or path.rsplit("/", 1)[-1] == name

    return matches


def _by_pattern(match):
    def matches(follow, setting):
        path = follow.name + setting
        return bool(match(path) or match(path.rsplit("/", 1)[-1]))

    return matches


def _by_instance(layers):
    ids = {id(part) for layer in layers for part in layer._flatten_layers()}

    def matches(follow, setting):
        return not setting and id(follow.operation) in ids

    return matches


def _suggestion(graph, name):
    known = {}
    for follow in graph.follows.values():
        parts = follow.name.split("/")
        known.update(dict.fromkeys([follow.name, *parts]))
    near = difflib.get_close_matches(name, [k for k in known if k], n=3, cutoff=0.5)
    return f" Did you mean {', '.join(map(repr, near))}?" if near else ""

"""Rules: what one operation does to the channels that pass through it.

A rule is a function of one argument, the `Site` of one call. It says how the layouts
(see `keras_megan.net2net.channels.layout`) of the input axes, of the output axes and of
the layer's variables belong together, and returns the layouts of the output. From that
alone, growing, pruning, counting and optimizer transfer follow.

How to register a rule
----------------------
A layer that treats every channel alike and by itself (an activation, a dropout):

    @net2net.register_rule(MyActivation)
    def my_activation(site):
        return site.inputs[0]                 # the same layout for every axis

A layer with weights. Say for every axis of every variable whether it *writes* the axis
of the output (it is copied) or *reads* the axis of an input (it is copied and weighed
by the shares); axes that are not mentioned stay as they are:

    @net2net.register_rule(MyDense)
    def my_dense(site):
        layer = site.operation
        *others, channels = site.inputs[0]    # one Layout per axis of input 0
        units = site.new("units", layer.units)        # a group that may change
        site.setting("units", units)                  # get_config()["units"] follows
        site.weight(layer.kernel, {0: reads(channels), 1: writes(units)})
        site.weight(layer.bias, {0: writes(units)})
        return [*others, units]

Everything a rule can say:

- ``site.inputs[i][axis]``      the `Layout` of an input axis; ``site.shapes[i]`` its
shape;
- ``site.new(key, size)``       a new group of units, named ``"<layer>.<key>"``;
- ``site.fixed(size)``          an axis that can never change;
- ``layout.repeat(n)``          the axis laid end to end n times (index p * C + c);
- ``layout.blocks(n)``          n neighbouring positions per unit (index c * n + q);
- ``Layout.concatenate([...])``, ``layout.cut(start, stop)``;
- ``site.unify(a, b)``          two axes that must change together;
- ``site.freeze(layout, why)``  an axis that must not change, with the reason users see;
- ``site.weight(variable, axes, scale=None)``  how a variable follows; ``scale`` is a
  function of ``index_map_of`` (from a `Layout` to its `IndexMap`) giving a factor,
  one number or an array that broadcasts to the variable's new shape; 1 if no change;
- ``site.setting(key, value)``  the constructor argument `key` of the new layer: a
  `Layout` (its new size), a structure that contains layouts, or a function of
  ``index_map_of``. The first setting is the layer's *width*, what users name;
- ``site.inexact_when_pruned(layouts, why)``  the operation mixes channels, so that
  leaving some out is not the same as masking them;
- ``site.replay(function)``     for what no constructor argument can express: a function
  of a `keras_megan.net2net.rewriting.replay.Replay` that makes the call in the new
  model.

Channels that may only change in equal blocks (groups of a convolution, offset groups of
a deformable one) are said with ``repeat``: a new group for one block, and
``site.unify(channels, block.repeat(groups))`` (the same change inside every block).

If copies of a channel need a correction that depends on the number of copies, such as a
softmax over channels, keep it in a non-trainable weight and let it follow by ``scale``,
or by ``add`` (a summand, 0 if nothing changes):

    site.weight(layer.log_count, {0: writes(channels)},
                add=lambda maps: -np.log(maps(channels).positive_balance))


Operations whose output is a linear function of every channel by itself (`Add`, dropout,
reshapes) are registered with ``linear=True``; it permits units that are an average of
others (see `keras_megan.net2net.channels.index_map.MEAN`).
"""

from collections.abc import Callable

import keras

from keras_megan.net2net.channels.layout import Layout, unify
from keras_megan.net2net.channels.registry import OperationRegistry
from keras_megan.net2net.channels.roles import Weight, reads, writes
from keras_megan.net2net.errors import Net2NetError

__all__ = ["RULES", "RuleError", "Site", "reads", "register_rule", "writes"]

RULES = OperationRegistry("net2net rule")
_LINEAR: set[type | str] = set()


class RuleError(Net2NetError):
    """A rule does not fit the operation it was applied to."""


def register_rule(
    *operation_types: type | str, linear: bool = False
) -> Callable[[Callable], Callable]:
    """Decorator: enters a rule for one or more operation types.

    Args:
        *operation_types: `keras.Layer` classes, or ``"ops.<ClassName>"`` for raw
            `keras.ops` operations.
        linear: Whether every output channel is a linear function (without offset) of
            the same channel of the inputs.
    """
    enter = RULES.register(*operation_types)

    def register(rule):
        if linear:
            _LINEAR.add(rule)
        return enter(rule)

    return register


def is_linear(rule):
    """Returns whether a rule was registered with ``linear=True``."""
    return rule in _LINEAR


class Site:
    """One call of one operation, as its rule sees it.

    Attributes:
        operation: The layer or raw operation.
        call: The `keras_megan.net2net.tracing.graph.Call`.
        inputs: List over input tensors of lists over axes of `Layout`.
        tensors: The input tensors, without those passed as masks by name.
        shapes: List of input shapes.
        output_shapes: List of output shapes.
        inexact: List of (layouts, reason), filled by `inexact_when_pruned`.
        copies_only: List of layouts whose units must be true copies.
        alike: List of layouts whose copies must stay copies, without noise.
    """

    def __init__(
        self,
        call,
        inputs,
        follow,
        prefix=(),
        operation=None,
        shapes=None,
        output_shapes=None,
        tensors=None,
    ):
        self.call = call
        self.operation = operation or call.operation
        self.inputs = inputs
        self.tensors = call.inputs if tensors is None else tensors
        self.shapes = shapes or [tensor.shape for tensor in self.tensors]
        self.output_shapes = output_shapes or [t.shape for t in call.outputs]
        self.follow = follow
        self.player = None
        self.inexact = []
        self.copies_only = []
        self.alike = []
        self.source_uses = {}
        self.read_sources = []
        self._prefix = prefix

    # === Layouts ======================================================================
    def new(self, key, size):
        """Returns the layout of a new group of units, named after call and `key`."""
        name = ".".join([self.follow.name, *self._inner_names(), key])
        return Layout.new(size, name)

    def fixed(self, size, reason="it is not a channel axis"):
        """Returns the layout of an axis that can never change."""
        return Layout.fixed(size, reason)

    def pass_spatial(self, channels, index=0, output=0, batch_axes=1):
        """Returns the axes of a channel-wise or convolution-like output.

        The axes before `batch_axes` and the channel axis pass; the spatial axes are
        fixed, those of the input too, since the operation mixes their positions.

        Args:
            channels: `Layout` of the output's channel axis.
            index: Which input.
            output: Which output.
            batch_axes: Number of leading axes that pass.
        """
        shape = self.output_shapes[output]
        axis = len(shape) - 1 if self.channels_last else batch_axes
        source = self.inputs[index]
        source_axis = len(source) - 1 if self.channels_last else batch_axes
        for position, layout in enumerate(source):
            if position >= batch_axes and position != source_axis:
                self.freeze(layout, "its positions are mixed")
        return [
            source[position]
            if position < batch_axes
            else channels
            if position == axis
            else self.fixed(size)
            for position, size in enumerate(shape)
        ]

    def unify(self, first, second):
        """Makes two axes change together."""
        unify(first, second, self.call.name)

    def freeze(self, layout, reason):
        """Forbids any change along an axis; the reason is shown to users."""
        layout.freeze(f"{reason} (at {self.call.name})")

    def nonlinear(self, layout):
        """Says that units of this axis must be true copies, no averages."""
        if not layout.detached:
            self.copies_only.append(layout)

    def hears_every_copy(self, layouts):
        """Says that copies of no share matter here, so they must stay copies."""
        self.alike += layouts

    def reads_source(self, index, axis):
        """Makes an input that is a plain weight read this axis, instead of write it.

        Returns:
            Whether it could: the input is a variable or constant used only here.
        """
        tensor = self.tensors[index]
        if self._prefix or self.source_uses.get(id(tensor)) != 1:
            return False
        self.read_sources.append((tensor, axis % len(tensor.shape)))
        return True

    def inexact_when_pruned(self, layouts, reason):
        """Says that the operation mixes these channels."""
        self.inexact.append((list(layouts), f"{self.call.name}: {reason}"))

    # === What follows =================================================================
    def weight(self, variable, axes, scale=None, add=None):
        """Says how a variable follows.

        Args:
            variable: A `keras.Variable` of the operation, or None (ignored).
            axes: Dict from axis to `writes(layout)` or `reads(layout)`.
            scale: Function of ``index_map_of``; the variable is multiplied by what it
                returns.
            add: Function of ``index_map_of``; what it returns is added.

        Raises:
            RuleError: If an axis does not have the size of its layout.
        """
        if variable is None:
            return
        roles = {}
        for axis, role in axes.items():
            axis = axis % len(variable.shape)
            if role.layout.opaque or role.layout.size != variable.shape[axis]:
                raise RuleError(
                    f"The rule for {type(self.operation).__name__} says that axis "
                    f"{axis} of '{variable.path}' (shape {tuple(variable.shape)}) "
                    f"follows {role.layout} of size {role.layout.size}."
                )
            roles[axis] = role
        known = self.follow.weights.get(id(variable))
        if known is None:
            self.follow.weights[id(variable)] = Weight(
                variable, roles, scale, add, self.call.name
            )
            return
        for axis, role in roles.items():
            if axis not in known.roles or known.roles[axis].reads != role.reads:
                why = f"'{variable.path}' is used in two ways"
                self.freeze(role.layout, why)
                if axis in known.roles:
                    self.freeze(known.roles[axis].layout, why)
                continue
            self.unify(known.roles[axis].layout, role.layout)
        for axis in set(known.roles) - set(roles):
            self.freeze(known.roles[axis].layout, f"'{variable.path}' is used twice")

    def setting(self, key, value):
        """Says what a constructor argument of the new operation is.

        Args:
            key: Name in ``get_config()``, or a tuple of names for nested ones.
            value: A `Layout` (its size), a structure with layouts, or a function of
                ``index_map_of``.
        """
        path = self._prefix + (key if isinstance(key, tuple) else (key,))
        known = self.follow.settings.get(path)
        if isinstance(known, Layout) and isinstance(value, Layout):
            self.unify(known, value)
            return
        self.follow.settings[path] = value
        if isinstance(value, Layout):
            self.name_width(".".join(p for p in path if p != "config"), value)

    def name_width(self, name, layout):
        """Lets users call a layout ``"<layer>.<name>"``, the first ``"<layer>"``."""
        self.follow.widths.setdefault(name, layout)

    def replay(self, function):
        """Gives the function of a `Replay` that makes this call in the new model."""
        if self._prefix:
            for layouts in self.inputs:
                for layout in layouts:
                    self.freeze(layout, "a wrapped layer cannot be replayed otherwise")
            return
        self.player = function

    def inside(self, layer, inputs, shapes, output_shapes, prefix):
        """Applies the rule of a layer that this one wraps.

        Args:
            layer: The wrapped layer.
            inputs: List of lists of `Layout` as the wrapped layer gets them.
            shapes: The shapes belonging to them.
            output_shapes: The shapes of what it gives.
            prefix: Path to the wrapped layer's settings in this one's configuration.

        Returns:
            List over outputs of lists of `Layout`.

        Raises:
            RuleError: If the wrapped layer has no rule.
        """
        rule = RULES.find(layer)
        if rule is None:
            raise RuleError(
                f"{type(self.operation).__name__} '{self.call.name}' wraps a "
                f"{type(layer).__name__}, for which there is no rule."
            )
        site = Site(
            self.call,
            inputs,
            self.follow,
            self._prefix + prefix,
            layer,
            shapes,
            output_shapes,
        )
        outputs = as_outputs(rule(site))
        self.inexact += site.inexact
        self.copies_only += site.copies_only
        self.alike += site.alike
        for layouts in inputs + outputs:
            for layout in layouts:
                self.nonlinear(layout)
        return outputs

    @property
    def channels_last(self):
        """Whether the operation's channel axis is the last one."""
        data_format = getattr(self.operation, "data_format", None)
        data_format = data_format or keras.config.image_data_format()
        return data_format == "channels_last"

    def _inner_names(self):
        return [name for name in self._prefix if name != "config"]


def as_outputs(result):
    """Returns a rule's result as a list over outputs of lists of `Layout`."""
    if not result or isinstance(result[0], Layout):
        return [list(result)]
    return [list(layouts) for layouts in result]

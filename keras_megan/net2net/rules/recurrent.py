"""Rules of recurrent layers and of layers that wrap another.

A recurrent kernel holds its gates side by side (4 in an LSTM, 3 in a GRU), each over
the same units: the units laid end to end. The recurrent kernel reads the units with its
rows and writes them with its columns.
"""

import keras

from keras_megan.net2net.channels.activations import is_per_channel
from keras_megan.net2net.channels.layout import Layout
from keras_megan.net2net.rules.base import reads, register_rule, writes

_GATES = {
    keras.layers.SimpleRNN: 1,
    keras.layers.GRU: 3,
    keras.layers.LSTM: 4,
    keras.layers.ConvLSTM1D: 4,
    keras.layers.ConvLSTM2D: 4,
    keras.layers.ConvLSTM3D: 4,
}


def _gates(layer):
    return next(count for kind, count in _GATES.items() if isinstance(layer, kind))


def _recurrent(site, channels, units):
    """Ties the cell's variables to the input channels and the units."""
    layer = site.operation
    if layer.stateful:
        site.freeze(units, "a stateful layer keeps its state from batch to batch")
    for name in ("activation", "recurrent_activation"):
        function = getattr(layer, name, None)
        if not is_per_channel(function):
            site.freeze(units, f"the {name} may mix the units")
    gates = units.repeat(_gates(layer))
    cell = layer.cell
    site.weight(cell.kernel, {-2: reads(channels), -1: writes(gates)})
    site.weight(cell.recurrent_kernel, {-2: reads(units), -1: writes(gates)})
    site.weight(cell.bias, {-1: writes(gates)})
    site.nonlinear(units)
    for layouts in site.inputs[1:]:
        axis = -1 if site.channels_last else 1
        site.unify(layouts[axis], units)


@register_rule(keras.layers.SimpleRNN, keras.layers.GRU, keras.layers.LSTM)
def recurrent(site):
    """SimpleRNN, GRU and LSTM, with or without sequences and states."""
    layer = site.operation
    batch, steps, channels = site.inputs[0]
    site.freeze(steps, "it holds the steps")
    units = site.new("units", layer.units)
    site.setting("units", units)
    _recurrent(site, channels, units)
    sequence = [batch, steps, units] if layer.return_sequences else [batch, units]
    if not layer.return_state:
        return sequence
    states = 2 if isinstance(layer, keras.layers.LSTM) else 1
    return [sequence] + [[batch, units] for _ in range(states)]


@register_rule(
    keras.layers.ConvLSTM1D, keras.layers.ConvLSTM2D, keras.layers.ConvLSTM3D
)
def convolutional_recurrent(site):
    """Convolutional LSTMs: filters are the units."""
    layer = site.operation
    batch, steps, *_ = site.inputs[0]
    site.freeze(steps, "it holds the steps")
    axis = len(site.inputs[0]) - 1 if site.channels_last else 2
    channels = site.inputs[0][axis]
    units = site.new("filters", layer.filters)
    site.setting("filters", units)
    _recurrent(site, channels, units)
    for position, layout in enumerate(site.inputs[0]):
        if position not in (0, axis):
            site.freeze(layout, "its positions are mixed")

    def axes_of(shape, has_steps):
        lead = [batch, steps] if has_steps else [batch]
        last = len(shape) - 1 if site.channels_last else len(lead)
        return lead + [
            units if position == last else Layout.fixed(size)
            for position, size in enumerate(shape)
            if position >= len(lead)
        ]

    outputs = [axes_of(site.output_shapes[0], layer.return_sequences)]
    outputs += [axes_of(shape, False) for shape in site.output_shapes[1:]]
    return outputs if layer.return_state else outputs[:1]


# === Wrappers =========================================================================
@register_rule(keras.layers.Bidirectional)
def bidirectional(site):
    """Two recurrent layers side by side; their outputs merged or returned as two."""
    layer = site.operation
    if len(site.inputs) > 1:
        for layouts in site.inputs[1:]:
            for layout in layouts:
                site.freeze(layout, "it is an initial state of a Bidirectional layer")
    parts = []
    for part, key in (
        (layer.forward_layer, "layer"),
        (layer.backward_layer, "backward_layer"),
    ):
        # The backward layer is made from the forward one unless it was given.
        prefix = (key, "config")
        parts.append(
            site.inside(
                part, site.inputs[:1], site.shapes[:1], site.output_shapes, prefix
            )
        )
    forward, backward = parts
    widths = site.follow.widths
    if "backward_layer" not in layer.get_config():
        site.unify(forward[0][-1], backward[0][-1])
        site.follow.settings = {
            path: value
            for path, value in site.follow.settings.items()
            if path[0] != "backward_layer"
        }
        for name in [name for name in widths if name.startswith("backward_layer")]:
            del widths[name]
    states = forward[1:] + backward[1:]
    if layer.merge_mode == "concat":
        joined = Layout.concatenate([forward[0][-1], backward[0][-1]])
        merged = [[*forward[0][:-1], joined]]
    elif layer.merge_mode is None:
        merged = [forward[0], backward[0]]
    else:
        site.unify(forward[0][-1], backward[0][-1])
        merged = [forward[0]]
    return merged + states


@register_rule(keras.layers.TimeDistributed)
def time_distributed(site):
    """The wrapped layer, once per step."""
    layer = site.operation
    batch, steps, *rest = site.inputs[0]
    shape = site.shapes[0]
    outputs = site.inside(
        layer.layer,
        [[batch, *rest]],
        [(shape[0], *shape[2:])],
        [(inner[0], *inner[2:]) for inner in site.output_shapes],
        ("layer", "config"),
    )
    return [[batch, steps, *layouts[1:]] for layouts in outputs]

"""Data: the one form in which everything in net2net that looks at data takes it.

- an array, or a list or dict of arrays: inputs, as ``model.predict`` takes them;
- a tuple: ``(inputs, targets)`` or ``(inputs, targets, sample_weights)``, each an array
  or a structure of arrays;
- a ``tf.data.Dataset``, a `keras.utils.PyDataset` or a torch ``DataLoader`` of batches,
  each batch in one of the two forms above.

Data are read more than once (pruning in steps scores the units before every step), so a
generator, which is used up after one pass, is refused, and so is a data set without an
end.
"""

import collections.abc
import dataclasses
from typing import Any

import keras
import numpy as np

from keras_megan.net2net.errors import Net2NetError

_FORMS = (
    "an array, a list or dict of arrays (several inputs), a tuple (inputs, targets), a "
    "tf.data.Dataset, a keras.utils.PyDataset or a torch DataLoader"
)


class DataError(Net2NetError):
    """Data are not in a form that can be read, or do not fit the model."""


@dataclasses.dataclass(frozen=True)
class Batch:
    """A part of the data.

    Attributes:
        inputs: An array (samples, ...) or a structure of them.
        targets: Likewise, or None.
        weights: Likewise, or None.
    """

    inputs: object
    targets: object = None
    weights: object = None

    @property
    def size(self):
        """Number of samples."""
        return len(keras.tree.flatten(self.inputs)[0])


class Data:
    """Data as batches, as often as they are asked for.

    Args:
        data: See the module docstring; or a `Data`, which is passed on.
        batch_size: Number of samples per batch, where `data` is not batched already.

    Raises:
        DataError: If data of this form cannot be read.
    """

    def __init__(self, data: Any, batch_size: int = 32):
        if isinstance(data, Data):
            self._batches: collections.abc.Callable = data._batches
            return
        if not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise DataError(
                f"batch_size must be a positive integer, received {batch_size!r}."
            )
        reader = next((read for fits, read in _READERS if fits(data)), None)
        if reader is None:
            raise DataError(f"Data must be {_FORMS}; received {_described(data)}.")
        self._batches = reader(data, int(batch_size))

    def __iter__(self):
        empty = True
        for batch in self._batches():
            empty = False
            yield batch
        if empty:
            raise DataError("The data hold no sample.")

    def for_model(self, graph):
        """Yields the batches after a look at whether the first fits a model's inputs.

        Args:
            graph: The model's `ChannelGraph`.

        Raises:
            DataError: If the number or the shapes of the inputs differ.
        """
        for index, batch in enumerate(self):
            if index == 0:
                _check_fit(graph, batch)
            yield batch


def _described(data):
    if isinstance(data, tuple):
        return f"a tuple of {len(data)}"
    return f"{type(data).__name__}"


def _check_fit(graph, batch):
    model, names = graph.model, graph.graph.input_names
    expected = keras.tree.flatten(graph.graph.inputs)
    received = keras.tree.flatten(batch.inputs)
    if len(expected) != len(received):
        raise DataError(
            f"Model '{model.name}' takes {len(expected)} inputs ({', '.join(names)}), "
            f"but the data hold {len(received)}. Several inputs are given as a list or "
            "a dict; a tuple means (inputs, targets)."
        )
    for name, tensor, array in zip(names, expected, received, strict=True):
        fits = len(tensor.shape) == len(array.shape) and all(
            a is None or a == b
            for a, b in zip(tensor.shape[1:], array.shape[1:], strict=True)
        )
        if not fits:
            hint = ""
            if len(array.shape) == len(tensor.shape) - 1:
                hint = " The first axis must count the samples of a batch."
            raise DataError(
                f"Input '{name}' of model '{model.name}' has shape "
                f"{(None, *tensor.shape[1:])}, but the data have shape "
                f"{tuple(array.shape)}.{hint}"
            )


# === Readers ==========================================================================
def _unpack(element):
    """A batch of one element: a tuple is (inputs, targets, weights)."""
    parts = element if isinstance(element, tuple) else (element,)
    if not 1 <= len(parts) <= 3:
        raise DataError(
            "A tuple means (inputs, targets) or (inputs, targets, sample_weights); "
            f"received a tuple of {len(parts)}. Put several inputs into a list or dict."
        )
    return Batch(*(keras.tree.map_structure(_array, part) for part in parts))


def _array(leaf):
    if leaf is None:
        return None
    if hasattr(leaf, "shape") and not isinstance(leaf, np.ndarray):
        leaf = (
            keras.ops.convert_to_numpy(leaf)
            if keras.ops.is_tensor(leaf)
            else np.asarray(leaf)
        )
    if not isinstance(leaf, np.ndarray) or leaf.ndim == 0:
        raise DataError(f"Data must be {_FORMS}; found {type(leaf).__name__} inside.")
    return leaf


def _read_arrays(data, batch_size):
    whole = _unpack(data)
    leaves = [
        leaf
        for part in (whole.inputs, whole.targets, whole.weights)
        for leaf in keras.tree.flatten(part)
        if leaf is not None
    ]
    counts = [len(leaf) for leaf in leaves]
    if not counts or min(counts) == 0 or len(set(counts)) > 1:
        raise DataError(
            "The data must hold at least one sample, and the same number in every "
            f"array; received {counts}."
        )

    def batches():
        for start in range(0, counts[0], batch_size):

            def cut(leaf, start=start):
                return None if leaf is None else leaf[start : start + batch_size]

            parts = (whole.inputs, whole.targets, whole.weights)
            yield Batch(*(keras.tree.map_structure(cut, part) for part in parts))

    return batches


def _read_tf_dataset(data, batch_size):
    if int(data.cardinality()) == -1:
        raise DataError("The tf.data.Dataset has no end; give dataset.take(batches).")
    return lambda: (_unpack(element) for element in data)


def _read_py_dataset(data, batch_size):
    if data.num_batches is None:
        raise DataError("The PyDataset has no end: its __len__ gives no number.")
    return lambda: (_unpack(data[index]) for index in range(data.num_batches))


def _read_loader(data, batch_size):
    def batches():
        for element in data:
            yield _unpack(tuple(element) if isinstance(element, list) else element)

    return batches


def _refuse_iterator(data, batch_size):
    raise DataError(
        f"A {type(data).__name__} can be read only once, and data are read several "
        f"times. Give {_FORMS}."
    )


#: (whether a reader is for such data, the reader), tried in turn.
_READERS = (
    (lambda x: isinstance(x, collections.abc.Iterator), _refuse_iterator),
    (
        lambda x: hasattr(x, "element_spec") and hasattr(x, "cardinality"),
        _read_tf_dataset,
    ),
    (lambda x: isinstance(x, keras.utils.PyDataset), _read_py_dataset),
    (lambda x: hasattr(x, "dataset") and hasattr(x, "batch_sampler"), _read_loader),
    (lambda x: isinstance(x, tuple | list | dict) or hasattr(x, "shape"), _read_arrays),
)

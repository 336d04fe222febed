"""Keeps track of frames that are tensors of their own, while a graph is rewritten.

    batch of n frames (n, H, W, C)  ~  n tensors (1, H, W, C)

`FrameLayout` writes the new list of operations. Operations that only move whole frames
are not written at all where their frames lie apart already:

    frames 1..3 of 4                              names three of the tensors
    frames of two batches one after another       names those of both
    frames -> channels (1, H, W, n*C)             joins them on the channel axis
    channels -> frames                            takes them from the channel axis

Whoever reads a batch as a whole gets it joined, once.
"""

from export.graph_edit import Code, GraphEdit

#: Axes of the transpositions between (n, H, W, C) and (H, W, n, C).
_FRAMES_TO_CHANNELS, _CHANNELS_TO_FRAMES = (1, 2, 0, 3), (2, 0, 1, 3)


class FrameLayout:
    """The operations written so far, and which tensors hold a batch's frames.

    Attributes:
        operators: What was written.
        frames: Number of a tensor -> those of its frames. A list of one stands for
            the tensor itself.
    """

    def __init__(self, edit: GraphEdit):
        self.edit = edit
        self.operators: list = []
        self.frames: dict[int, list[int]] = {}
        self._joined: set[int] = set()
        self._taken: dict[tuple[int, int], int] = {}
        # Tensor (H, W, n, C) that is not written -> (1, H, W, n*C), the same numbers.
        self._side_by_side: dict[int, int] = {}
        self._ends = {int(index) for index in edit.graph.outputs}
        self._rules = {
            Code.STRIDED_SLICE: self._pick_frames,
            Code.CONCATENATION: self._chain_frames,
            Code.TRANSPOSE: self._transpose,
            Code.RESHAPE: self._reshape,
        }

    def emit(self, operation) -> None:
        """Writes an operation on whole batches, or notes where its frames lie."""
        rule = self._rules.get(self.edit.code(operation))
        if rule is not None and rule(operation):
            return
        inputs = [self.whole(int(index)) for index in operation.inputs]
        self.operators.append(self.edit.copy_of(operation, inputs, *operation.outputs))

    def frame(self, index: int, number: int) -> int:
        """The tensor of one frame of a batch, taken out of it if need be."""
        if index in self.frames:
            return self.frames[index][number]
        self._write(index)
        if (index, number) not in self._taken:
            rest = self.edit.sizes(index)[1:]
            start = (number,) + (0,) * len(rest)
            self._taken[index, number] = self._cut(index, start, (1, *rest))
        return self._taken[index, number]

    def whole(self, index: int) -> int:
        """The tensor to read for a batch as a whole."""
        if index not in self.frames:
            self._write(index)
            return index
        if len(self.frames[index]) == 1:
            return self.frames[index][0]
        self.join(index)
        return index

    def join(self, index: int) -> None:
        """Writes a batch from its frames, if it is not there."""
        if index in self.frames and index not in self._joined:
            self._joined.add(index)
            self._concatenate(self.frames[index], 0, index)

    def _write(self, index: int) -> None:
        """Writes a tensor (H, W, n, C) that someone else than expected reads."""
        if index in self._side_by_side and index not in self._joined:
            self._joined.add(index)
            joined = self._side_by_side[index]
            self.operators.append(self.edit.reshaping(joined, index))

    def _concatenate(self, inputs: list[int], axis: int, result: int) -> None:
        self.operators.append(
            self.edit.new_operation(
                Code.CONCATENATION, "ConcatenationOptions", inputs, result, axis=axis
            )
        )

    def _cut(self, index: int, start: tuple[int, ...], sizes: tuple[int, ...]) -> int:
        """A part of a tensor, as a new one."""
        edit = self.edit
        result = edit.new_tensor(index, sizes)
        inputs = [index, edit.new_integers(start), edit.new_integers(sizes)]
        self.operators.append(
            edit.new_operation(Code.SLICE, "SliceOptions", inputs, result)
        )
        return result

    def _pick_frames(self, operation) -> bool:
        """Consecutive whole frames of a batch."""
        source, begin, _, strides = map(int, operation.inputs)
        (result,) = map(int, operation.outputs)
        options = operation.builtinOptions
        count, *rest = self.edit.sizes(result) or (0,)
        first, steps = self.edit.integers(begin), self.edit.integers(strides)
        if (
            source not in self.frames
            or tuple(rest) != self.edit.sizes(source)[1:]
            or options.newAxisMask | options.shrinkAxisMask | options.ellipsisMask
            or first is None
            or steps is None
            or set(steps) != {1}
        ):
            return False
        start = 0 if options.beginMask & 1 else first[0]
        chosen = self.frames[source][start:][:count]
        if len(chosen) != count:
            return False
        self.frames[result] = chosen
        return True

    def _chain_frames(self, operation) -> bool:
        """Batches one after another."""
        inputs = [int(index) for index in operation.inputs]
        sizes = [self.edit.sizes(index) for index in inputs]
        if operation.builtinOptions.axis not in (0, -len(sizes[0])):
            return False
        known = [
            self.frames.get(i, [i] if size[0] == 1 else [])
            for i, size in zip(inputs, sizes, strict=True)
        ]
        if not all(known) or not any(i in self.frames for i in inputs):
            return False
        self.frames[int(operation.outputs[0])] = [i for part in known for i in part]
        return True

    def _transpose(self, operation) -> bool:
        """One half of frames to channels, or the other half of channels to frames."""
        edit = self.edit
        source, (result,) = int(operation.inputs[0]), map(int, operation.outputs)
        axes = edit.integers(int(operation.inputs[1]))
        if axes == _CHANNELS_TO_FRAMES and source in self._side_by_side:
            count, height, width, channels = edit.sizes(result)
            self.frames[result] = [
                self._cut(
                    self._side_by_side[source],
                    (0, 0, 0, number * channels),
                    (1, height, width, channels),
                )
                for number in range(count)
            ]
            return True
        frames = self.frames.get(source, [])
        if (
            axes != _FRAMES_TO_CHANNELS
            or len(frames) < 2
            or not self._read_only_by(Code.RESHAPE, result)
        ):
            return False
        count, height, width, channels = edit.sizes(source)
        joined = edit.new_tensor(result, (1, height, width, count * channels))
        self._concatenate(frames, 3, joined)
        self._side_by_side[result] = joined
        return True

    def _reshape(self, operation) -> bool:
        """The other half of frames to channels, or one half of channels to frames."""
        edit = self.edit
        source, (result,) = int(operation.inputs[0]), map(int, operation.outputs)
        sizes = edit.sizes(result)
        if source in self._side_by_side:
            joined = self._side_by_side[source]
            if sizes == edit.sizes(joined):
                self.frames[result] = [joined]
            else:
                self.operators.append(edit.reshaping(joined, result))
            return True
        readers = edit.readers.get(result, [])
        if (
            len(sizes) != 4
            or not readers
            or not self._read_only_by(Code.TRANSPOSE, result)
            or any(
                edit.integers(int(reader.inputs[1])) != _CHANNELS_TO_FRAMES
                for reader in readers
            )
        ):
            return False
        height, width, count, channels = sizes
        joined = edit.new_tensor(result, (1, height, width, count * channels))
        self.operators.append(edit.reshaping(self.whole(source), joined))
        self._side_by_side[result] = joined
        return True

    def _read_only_by(self, code: int, index: int) -> bool:
        readers = self.edit.readers.get(index, [])
        return index not in self._ends and all(
            self.edit.code(reader) == code for reader in readers
        )

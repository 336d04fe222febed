"""Computes frame after frame, where a whole batch of frames exceeds the cache.

A TFLite file computes each operation for all frames before the next one begins. Seven
frames of 48 features are 10 MB, so every operation fetches them from far away; one of
them stays next to the cores until the next operation needs it. So here

    CONV(7 frames) -> LEAKY_RELU(7) -> CONV(7)

        ->  CONV(frame 0) -> LEAKY_RELU(0) -> CONV(0), CONV(frame 1) -> ... CONV(6)

Operations that compute every frame by itself are taken together into a stretch, as many
as follow each other, and the stretch is written once for each frame. Between stretches
frames stay apart: picking some, putting some between others and laying them side by
side on the channel axis then only name other tensors or join them directly. They come
together where an operation wants them all. Every number is computed as before.

The price is a longer list of operations, and memory: the runtime arranges weights anew
for every operation that reads them. Only convolutions in floating point count: features
in 8 bits are small, and nothing was gained there.
"""

import math

import numpy as np

from export.frame_layout import FrameLayout
from export.graph_edit import FLOATS, Code, GraphEdit, editable, packed
from export.settings import CACHE_BYTES

#: Bytes of weights that may be arranged in addition, in a file.
MOST_COPIED = 32 << 20

_ELEMENTWISE = (
    Code.ADD,
    Code.SUB,
    Code.MUL,
    Code.DIV,
    Code.MINIMUM,
    Code.MAXIMUM,
)
#: Operations that compute every frame by itself -> how many of their inputs have
#: frames; None: all.
_FRAME_INPUTS = {
    Code.CONV_2D: 1,
    Code.DEPTHWISE_CONV_2D: 1,
    Code.LEAKY_RELU: 1,
    Code.RELU: 1,
    Code.RELU6: 1,
    Code.LOGISTIC: 1,
    Code.TANH: 1,
    Code.SOFTMAX: 1,
    Code.AVERAGE_POOL_2D: 1,
    Code.MAX_POOL_2D: 1,
    Code.DEPTH_TO_SPACE: 1,
    Code.SPACE_TO_DEPTH: 1,
    Code.RESIZE_BILINEAR: 1,
    Code.RESHAPE: 1,
    Code.CONCATENATION: None,
    Code.BATCH_MATMUL: None,
    **dict.fromkeys(_ELEMENTWISE),
}


def frame_by_frame(flatbuffer: bytes, cache: int = CACHE_BYTES) -> bytes:
    """The same network, computed frame after frame where that is faster.

    Args:
        flatbuffer: A TFLite model.
        cache: Bytes that stay next to the cores. Stretches are taken apart whose
            convolutions read more than that, all frames together. 0: none is.

    Returns:
        The flatbuffer; the very same if nothing is taken apart.
    """
    if not cache:
        return flatbuffer
    model = editable(flatbuffer)
    edits = [GraphEdit(model, graph) for graph in model.subgraphs]
    taken_apart = [_FrameByFrame(e, cache).run() for e in edits if e.has_fixed_sizes()]
    return packed(model) if any(taken_apart) else flatbuffer


class _FrameByFrame:
    """Rewrites one graph, in place."""

    def __init__(self, edit: GraphEdit, cache: int):
        self.edit, self.cache = edit, cache
        self.layout = FrameLayout(edit)
        self.left_to_copy = MOST_COPIED
        self.taken_apart = 0
        # The stretch that is being collected, and what it computes.
        self.stretch: list = []
        self.frames = 0
        self.computed: set[int] = set()

    def run(self) -> int:
        """Takes apart what is worth it; how many stretches that was."""
        for operation in self.edit.graph.operators:
            self._take(operation)
        self._end_stretch()
        for index in map(int, self.edit.graph.outputs):
            self.layout.join(index)
        self.edit.graph.operators = self.layout.operators
        return self.taken_apart

    def _take(self, operation) -> None:
        frames = self._frames(operation)
        if self.stretch and frames != self.frames:
            if self.computed.isdisjoint(map(int, operation.inputs)):
                # Needs nothing of the stretch, so it can come before.
                self.layout.emit(operation)
                return
            self._end_stretch()
        if not frames:
            self.layout.emit(operation)
            return
        self.frames = frames
        self.stretch.append(operation)
        self.computed |= {int(index) for index in operation.outputs}

    def _frames(self, operation) -> int:
        """How many frames an operation computes each by itself; 0: it does not."""
        edit, code = self.edit, self.edit.code(operation)
        if code not in _FRAME_INPUTS or len(operation.outputs) != 1:
            return 0
        inputs = [int(index) for index in operation.inputs]
        result = edit.sizes(int(operation.outputs[0]))
        if len(result) < 2 or result[0] < 2 or min(inputs) < 0:
            return 0
        along_frames = (0, -len(result))
        if code == Code.CONCATENATION and operation.builtinOptions.axis in along_frames:
            return 0
        if code == Code.BATCH_MATMUL and len(result) != 3:
            return 0
        with_frames = self._with_frames(operation)
        others = set(range(len(inputs))[: _FRAME_INPUTS[code]]) - with_frames
        for index in (inputs[place] for place in others):
            sizes = edit.sizes(index)
            shared = len(sizes) < len(result) or sizes[0] == 1
            if code not in _ELEMENTWISE or not shared or index in self.computed:
                return 0
        return result[0] if with_frames else 0

    def _with_frames(self, operation) -> set[int]:
        """Places of the inputs whose first axis counts the frames of the result."""
        code = self.edit.code(operation)
        result = self.edit.sizes(int(operation.outputs[0]))
        found = set()
        for place, index in enumerate(operation.inputs[: _FRAME_INPUTS[code]]):
            sizes = self.edit.sizes(int(index))
            alike = len(sizes) == len(result) or (sizes and code == Code.RESHAPE)
            computed = self.edit.constant(int(index)) is None
            if alike and computed and sizes[0] == result[0]:
                found.add(place)
        return found

    def _end_stretch(self) -> None:
        stretch, frames = self.stretch, self.frames
        self.stretch, self.frames, self.computed = [], 0, set()
        read, weights, products = self._convolutions(stretch).T
        copied = int(weights.sum()) * (frames - 1)
        # Where the arithmetic is: what a product of features and weights finds.
        gains = products.any() and np.average(read, weights=products) > self.cache
        if gains and copied <= self.left_to_copy:
            self.left_to_copy -= copied
            self.taken_apart += 1
            self._take_apart(stretch, frames)
            return
        for operation in stretch:
            self.layout.emit(operation)

    def _convolutions(self, stretch) -> np.ndarray:
        """Bytes read, bytes of weights and products of those in floating point."""
        edit, found = self.edit, []
        for operation in stretch:
            if edit.code(operation) in (Code.CONV_2D, Code.DEPTHWISE_CONV_2D):
                image, filters = map(int, operation.inputs[:2])
                (result,) = map(int, operation.outputs)
                held = edit.constant(filters)
                if held and held.type in FLOATS and held.sparsity is None:
                    weights = math.prod(edit.sizes(filters))
                    products = weights * math.prod(edit.sizes(result)[:-1])
                    read = math.prod(edit.sizes(image))
                    found.append((4 * read, 4 * weights, products))
        return np.array(found, np.float64).reshape(-1, 3)

    def _take_apart(self, stretch, frames: int) -> None:
        """Writes a stretch once for each frame."""
        edit, layout = self.edit, self.layout
        places = [self._with_frames(operation) for operation in stretch]
        for number in range(frames):
            frame_of: dict[int, int] = {}
            for operation, with_frames in zip(stretch, places, strict=True):
                inputs = []
                for place, index in enumerate(map(int, operation.inputs)):
                    if place not in with_frames:
                        inputs.append(layout.whole(index))
                    elif index in frame_of:
                        inputs.append(frame_of[index])
                    else:
                        inputs.append(layout.frame(index, number))
                (result,) = map(int, operation.outputs)
                frame_of[result] = edit.new_tensor(result, (1, *edit.sizes(result)[1:]))
                if edit.code(operation) == Code.RESHAPE:
                    twin = edit.reshaping(inputs[0], frame_of[result])
                else:
                    twin = edit.copy_of(operation, inputs, frame_of[result])
                layout.operators.append(twin)
            for result, frame in frame_of.items():
                layout.frames.setdefault(result, []).append(frame)

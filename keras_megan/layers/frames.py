"""Frames in, frames out: the leaves that know about time.

Everywhere in the network time is folded into the batch, so features are
(B*T, H, W, C), the frames of one clip lying next to each other, and every
per-frame convolution appears once. Only the layers of this file (and the two
attention leaves) know T:

    FoldFrames        (B, T, H, W, C) -> (B*T, H, W, C)
    UnfoldFrames      (B*T, H, W, C)  -> (B, T, H, W, C)
    FramesToChannels  (B*T, H, W, C)  -> (B, H, W, T*C)   channel t*C + c
    ChannelsToFrames  (B, H, W, T*C)  -> (B*T, H, W, C)
    SelectFrames      (B*T, H, W, C)  -> (B*(stop-start), H, W, C)
    InterleaveFrames  (B*n, ...), (B*(n-1), ...) -> (B*(2n-1), ...)   g m g m g
    AddToFrames       (B*T, H, W, C) + (B, H, W, C) -> (B*T, H, W, C)
    JoinNeighbours    (B*T, ..., C) and 2 x (B*(T-1), ..., C) -> (B*T, ..., 3C)

Where the batch is known to hold exactly one clip (B*T == T, as in an exported
graph), slices and concatenations run along the batch axis itself and no tensor
has more than four axes, which is what mobile GPUs can run.
"""

from typing import Any

import keras
from keras import ops


def unfold(inputs, num_frames):
    """(B*T, H, W, C) -> (B, T, H, W, C), for unknown B, H and W too."""
    shape = ops.shape(inputs)
    return ops.reshape(inputs, (-1, num_frames, *shape[1:]))


def fold(inputs):
    """(B, T, H, W, C) -> (B*T, H, W, C), for unknown B, H and W too."""
    shape = ops.shape(inputs)
    return ops.reshape(inputs, (-1, *shape[2:]))


def frames_to_channels(inputs, num_frames):
    """(B*T, H, W, C) -> (B, H, W, T*C), channel t*C + c."""
    channels = inputs.shape[-1]
    if is_one_clip(inputs, num_frames):
        stacked = ops.transpose(inputs, (1, 2, 0, 3))
        shape = ops.shape(stacked)
        return ops.reshape(stacked, (1, *shape[:2], num_frames * channels))
    stacked = ops.transpose(unfold(inputs, num_frames), (0, 2, 3, 1, 4))
    shape = ops.shape(stacked)
    return ops.reshape(stacked, (*shape[:3], num_frames * channels))


def channels_to_frames(inputs, num_frames):
    """(B, H, W, T*C) -> (B*T, H, W, C); undoes `frames_to_channels`."""
    channels = inputs.shape[-1] // num_frames
    shape = ops.shape(inputs)
    if inputs.shape[0] == 1:
        frames = ops.reshape(inputs, (*shape[1:3], num_frames, channels))
        return ops.transpose(frames, (2, 0, 1, 3))
    frames = ops.reshape(inputs, (*shape[:3], num_frames, channels))
    return fold(ops.transpose(frames, (0, 3, 1, 2, 4)))


def is_one_clip(inputs, num_frames):
    """Whether the batch axis is known to hold the frames of one clip only."""
    return inputs.shape[0] == num_frames


def _times(length, factor):
    return None if length is None else length * factor


def _over(length, divisor, layer):
    if length is None:
        return None
    if length % divisor:
        raise ValueError(
            f"{layer.name} expected a first axis that is a multiple of "
            f"num_frames={divisor} (clips of {divisor} frames, folded into the "
            f"batch). Received: {length}."
        )
    return length // divisor


class _FrameLayer(keras.layers.Layer):
    """Base of the leaves with a fixed number of frames and no weights."""

    def __init__(self, num_frames: int, **kwargs: Any):
        super().__init__(**kwargs)
        if num_frames < 1:
            raise ValueError(
                f"num_frames must be at least 1. Received: num_frames={num_frames}."
            )
        self.num_frames = int(num_frames)

    def get_config(self):
        return {**super().get_config(), "num_frames": self.num_frames}


@keras.saving.register_keras_serializable("keras_megan")
class FoldFrames(keras.layers.Layer):
    """Folds time into the batch: (B, T, H, W, C) -> (B*T, H, W, C)."""

    def call(self, inputs):
        return fold(inputs)

    def compute_output_shape(self, input_shape):
        batch, frames, *rest = input_shape
        folded = None if None in (batch, frames) else batch * frames
        return (folded, *rest)

    def get_config(self):
        # Keras cannot derive it where the dtype was given as a policy.
        return super().get_config()


@keras.saving.register_keras_serializable("keras_megan")
class UnfoldFrames(_FrameLayer):
    """Takes time out of the batch: (B*T, H, W, C) -> (B, T, H, W, C).

    Args:
        num_frames: T, the number of frames of a clip.
    """

    def call(self, inputs):
        return unfold(inputs, self.num_frames)

    def compute_output_shape(self, input_shape):
        clips = _over(input_shape[0], self.num_frames, self)
        return (clips, self.num_frames, *input_shape[1:])


@keras.saving.register_keras_serializable("keras_megan")
class FramesToChannels(_FrameLayer):
    """Stacks a clip's frames on the channel axis: (B*T, H, W, C) -> (B, H, W, T*C).

    Channel t*C + c of the output is channel c of frame t, so a 1x1 convolution
    that follows sees all frames of a pixel at once.

    Args:
        num_frames: T, the number of frames of a clip.
    """

    def call(self, inputs):
        return frames_to_channels(inputs, self.num_frames)

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        clips = _over(batch, self.num_frames, self)
        return (clips, height, width, self.num_frames * channels)


@keras.saving.register_keras_serializable("keras_megan")
class ChannelsToFrames(_FrameLayer):
    """Undoes `FramesToChannels`: (B, H, W, T*C) -> (B*T, H, W, C).

    Args:
        num_frames: T, the number of frames of a clip.
    """

    def call(self, inputs):
        return channels_to_frames(inputs, self.num_frames)

    def compute_output_shape(self, input_shape):
        batch, height, width, stacked = input_shape
        if stacked % self.num_frames:
            raise ValueError(
                f"{self.name} expected a number of channels that is a multiple of "
                f"num_frames={self.num_frames}. Received: input_shape={input_shape}."
            )
        channels = stacked // self.num_frames
        return (_times(batch, self.num_frames), height, width, channels)


@keras.saving.register_keras_serializable("keras_megan")
class SelectFrames(_FrameLayer):
    """Keeps the frames start..stop-1 of every clip, folded as before.

    Args:
        num_frames: T, the number of frames of a clip.
        start: first frame kept.
        stop: one past the last frame kept, at most T.
    """

    def __init__(self, num_frames: int, start: int, stop: int, **kwargs: Any):
        super().__init__(num_frames, **kwargs)
        if not 0 <= start < stop <= num_frames:
            raise ValueError(
                "SelectFrames expected 0 <= start < stop <= num_frames. Received: "
                f"start={start}, stop={stop}, num_frames={num_frames}."
            )
        self.start = int(start)
        self.stop = int(stop)

    def call(self, inputs):
        if is_one_clip(inputs, self.num_frames):
            return inputs[self.start : self.stop]
        return fold(unfold(inputs, self.num_frames)[:, self.start : self.stop])

    def compute_output_shape(self, input_shape):
        clips = _over(input_shape[0], self.num_frames, self)
        return (_times(clips, self.stop - self.start), *input_shape[1:])

    def get_config(self):
        return {**super().get_config(), "start": self.start, "stop": self.stop}


@keras.saving.register_keras_serializable("keras_megan")
class InterleaveFrames(_FrameLayer):
    """Puts n-1 new frames between n given ones: g0 m0 g1 m1 ... g(n-1).

    Call arguments:
        given: (B*n, H, W, C).
        between: (B*(n-1), H, W, C).

    Output shape: (B*(2n-1), H, W, C).

    Args:
        num_frames: n, the number of given frames of a clip, at least 2.
    """

    def __init__(self, num_frames: int, **kwargs: Any):
        super().__init__(num_frames, **kwargs)
        if num_frames < 2:
            raise ValueError(
                "InterleaveFrames needs at least 2 given frames to put one between. "
                f"Received: num_frames={num_frames}."
            )

    def call(self, given, between):
        n = self.num_frames
        if is_one_clip(given, n):
            parts = [given[:1]]
            for i in range(n - 1):
                parts += [between[i : i + 1], given[i + 1 : i + 2]]
            return ops.concatenate(parts, axis=0)
        given, between = unfold(given, n), unfold(between, n - 1)
        pairs = ops.stack([given[:, :-1], between], axis=2)
        shape = ops.shape(given)
        pairs = ops.reshape(pairs, (-1, 2 * (n - 1), *shape[2:]))
        return fold(ops.concatenate([pairs, given[:, -1:]], axis=1))

    def compute_output_shape(self, given_shape, between_shape):
        clips = _over(given_shape[0], self.num_frames, self)
        return (_times(clips, 2 * self.num_frames - 1), *given_shape[1:])


@keras.saving.register_keras_serializable("keras_megan")
class AddToFrames(_FrameLayer):
    """Adds one map per clip to each of the clip's frames.

    Call arguments:
        frames: (B*T, H, W, C).
        shared: (B, H, W, C).

    Args:
        num_frames: T, the number of frames of a clip.
    """

    def call(self, frames, shared):
        if is_one_clip(frames, self.num_frames):
            return frames + shared
        return fold(unfold(frames, self.num_frames) + ops.expand_dims(shared, 1))

    def compute_output_shape(self, frames_shape, shared_shape):
        return frames_shape


@keras.saving.register_keras_serializable("keras_megan")
class JoinNeighbours(_FrameLayer):
    """Joins each frame with what was moved to it from its neighbours, as channels.

    Call arguments:
        own: (B*T, H, W, C), every frame.
        from_left: (B*(T-1), H, W, C), for every frame but a clip's first.
        from_right: (B*(T-1), H, W, C), for every frame but a clip's last.

    Output shape: (B*T, H, W, 3C): own, from the left, from the right. Where there is no
    neighbour the frame itself stands in.

    Args:
        num_frames: T.
    """

    def call(self, own, from_left, from_right):
        frames, pairs = self.num_frames, self.num_frames - 1
        if is_one_clip(own, frames):
            left = ops.concatenate([own[:1], from_left], axis=0)
            right = ops.concatenate([from_right, own[-1:]], axis=0)
            return ops.concatenate([own, left, right], axis=-1)
        whole = unfold(own, frames)
        left = ops.concatenate([whole[:, :1], unfold(from_left, pairs)], axis=1)
        right = ops.concatenate([unfold(from_right, pairs), whole[:, -1:]], axis=1)
        return ops.concatenate([own, fold(left), fold(right)], axis=-1)

    def compute_output_shape(self, own_shape, from_left_shape, from_right_shape):
        return (*own_shape[:-1], 3 * own_shape[-1])

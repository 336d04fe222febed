"""MEGAN: 4 small frames in, 7 frames of 4 times the size out.

    frames (B, T, H, W, 3), RGB in [0, 1]
      -> features of every frame           conv3x3, residual blocks
      -> features of the T-1 missing ones  FrameInterpolation
      -> memory over all 2T-1 frames       MemoryGraphAggregation (LMGA)
      -> global spatial context            NonLocalResidualBlock
      -> fusion of the frames              ProgressiveFusionBlock, repeated
      -> pixels                            Reconstruction
      + trilinear upsampling of the input
    (B, 2T-1, 4H, 4W, 3); even frames are the given ones, odd ones are new

With ``still_blocks`` the picture that this adds to is a better one than trilinear
upsampling: given frames are enlarged one by one (StillNetwork), or with what their
neighbours show of the same places (NeighbourFusion), and new frames are made of their
neighbours' large results, moved along the motion field (LargeInterpolation), at any
time between them:

    frames -> NeighbourMotion, MotionToNeighbours, StillNetwork -> large given frames
           -> NeighbourMotion, MotionAtTime, LargeInterpolation -> large new frames
           -> features, memory, context, fusion -> what those miss, if there is a trunk

Time is folded into the batch between the first and the last layer. Any height and
width; the model pads and crops by itself. A new model equals trilinear upsampling
exactly, because its last convolutions start at zero.

Source: You et al., MEGAN: Memory Enhanced Graph Attention Network for Space-Time
Video Super-Resolution, WACV 2022 (arXiv:2110.15327). Only its abstract was
available: the order of the parts follows it, their equations are those of the papers
named in each layer's file and, for LMGA, a reconstruction.
"""

from typing import Any

import keras
from keras import layers

from keras_megan import net2net
from keras_megan.layers.frames import (
    FoldFrames,
    UnfoldFrames,
)
from keras_megan.layers.pixels.padding import CropToScale, PadToMultiple
from keras_megan.layers.pixels.reconstruction import SCALE
from keras_megan.layers.pixels.residual_block import ResidualBlock
from keras_megan.megan_bases import has_trunk, large_base, small_base, trunk
from keras_megan.presets import Presets, preset_names

SLOPE = 0.1
# The convolutions whose sum a residual or fusion block adds to its input.
LAST_OF_A_BLOCK = ("conv_2", "merge_base", "merge_frame")


@keras.saving.register_keras_serializable("keras_megan")
class MEGAN(Presets, keras.Model):
    """Space-time video super-resolution: x4 in space, x2 in time.

    Input: (B, T, H, W, 3) RGB float in [0, 1]. Output: (B, 2T-1, 4H, 4W, 3) float32,
    not clipped.

    >>> model = keras_megan.MEGAN.from_preset("megan_edge")
    >>> model.predict(frames).shape  # frames: (1, 4, 64, 112, 3)
    (1, 7, 256, 448, 3)
    >>> model.at_times([frames, times]).shape  # times: (1, 3), each in (0, 1)
    (1, 7, 256, 448, 3)

    Args:
        filters: channels of the features.
        num_frames: T, the given frames of a clip, at least 2. Fixed by the weights
            of the fusion: longer clips are cut into overlapping windows.
        extraction_blocks: residual blocks before the interpolation.
        alignment: "deformable" (unbounded motion, CPU and GPU servers) or "window"
            (bounded motion, every operation on mobile GPUs).
        alignment_options: further arguments of `FrameInterpolation`, a dict.
        memory: "bank", "recurrent" or "intra"; see `MemoryGraphAggregation`. None:
            no memory.
        descriptor_size: side of the memory's channel descriptors.
        non_local_blocks: number of non-local residual blocks.
        non_local_pool: "pyramid" or "full"; see `NonLocalResidualBlock`.
        fusion_blocks: number of progressive fusion blocks.
        reconstruction_blocks: residual blocks after the fusion.
        tail: "full" or "light"; see `Reconstruction`.
        tail_filters: channels between the two pixel shuffles; None: `filters`.
        still_blocks: residual blocks of the network that enlarges given frames one by
            one; 0: there is none, new frames start from small ones. Needs
            alignment="window". With it, memory=None and neither non-local nor fusion
            blocks, there is no trunk at all.
        still_filters: its channels; None: `filters`.
        still_tail_filters: its channels between the two pixel shuffles; None: half of
            `still_filters`.
        neighbours: what given frames learn from their neighbours in the window, aligned
            along the motion field; None: nothing. A dict of "before", the indices of
            the still blocks before which they are joined, "moved_filters" and
            "hidden_filters"; see `NeighbourFusion`.
        correction_filters: channels of the layer that corrects new frames made of
            their neighbours' large results; 0: none.
        dtype: dtype policy of all layers; None: the global one. The output is
            float32 whatever the policy.

    Attributes:
        num_frames: T.
        scale: 4.

    Raises:
        ValueError: for still_blocks with another alignment than "window" or options
            that it does not know.
    """

    def __init__(
        self,
        filters: int = 64,
        num_frames: int = 4,
        extraction_blocks: int = 5,
        alignment: str = "deformable",
        alignment_options: dict[str, Any] | None = None,
        memory: str | None = "bank",
        descriptor_size: int = 16,
        non_local_blocks: int = 1,
        non_local_pool: str = "pyramid",
        fusion_blocks: int = 20,
        reconstruction_blocks: int = 40,
        tail: str = "full",
        tail_filters: int | None = None,
        still_blocks: int = 0,
        still_filters: int | None = None,
        still_tail_filters: int | None = None,
        neighbours: dict[str, Any] | None = None,
        correction_filters: int = 0,
        dtype: Any = None,
        name: str = "megan",
        **kwargs: Any,
    ):
        policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        total = 2 * num_frames - 1
        options = dict(alignment_options or {})
        config = {
            "filters": filters,
            "num_frames": num_frames,
            "extraction_blocks": extraction_blocks,
            "alignment": alignment,
            "alignment_options": options,
            "memory": memory,
            "descriptor_size": descriptor_size,
            "non_local_blocks": non_local_blocks,
            "non_local_pool": non_local_pool,
            "fusion_blocks": fusion_blocks,
            "reconstruction_blocks": reconstruction_blocks,
            "tail": tail,
            "tail_filters": tail_filters,
            "still_blocks": still_blocks,
            "still_filters": still_filters,
            "still_tail_filters": still_tail_filters,
            "neighbours": dict(neighbours) if neighbours else None,
            "correction_filters": correction_filters,
        }
        extraction = [
            layers.Conv2D(filters, 3, padding="same", dtype=policy, name="extract"),
            layers.LeakyReLU(SLOPE, dtype=policy, name="extract_activation"),
        ]
        extraction += [
            ResidualBlock(filters, dtype=policy, name=f"extract_{i}")
            for i in range(extraction_blocks)
        ]
        build = large_base if still_blocks else small_base
        multiple, network = build(config, extraction, trunk(config, policy), policy)

        fold = FoldFrames(dtype="float32", name="fold")
        pad = PadToMultiple(multiple, dtype="float32", name="pad")
        crop = CropToScale(SCALE, dtype="float32", name="crop")
        unfold = UnfoldFrames(total, dtype="float32", name="unfold")

        def outputs_of(frames, times=None):
            return unfold(crop(network(pad(fold(frames)), times), frames))

        inputs = keras.Input((num_frames, None, None, 3), name="frames")
        super().__init__(inputs=inputs, outputs=outputs_of(inputs), name=name, **kwargs)
        self.filters = filters
        self.num_frames = num_frames
        self.scale = SCALE
        self.config = config
        self._policy = policy
        self._outputs_of = outputs_of
        self._at_times: list[keras.Model] | None = None

    @property
    def at_times(self) -> keras.Model:
        """The same network with a second input: the times of the new frames.

        A `keras.Model` of [frames, times] that shares this model's layers. times:
        (B, T-1) float in (0, 1), when each new frame lies between its neighbours; at
        one half it computes what this model does.

        Raises:
            ValueError: for a network without `still_blocks`.
        """
        if not self.config["still_blocks"]:
            raise ValueError(
                "New frames at other times than halfway need a network with "
                "still_blocks, such as the preset megan_edge. Received one without."
            )
        if self._at_times is None:
            frames = self.inputs[0]
            times = keras.Input((self.num_frames - 1,), name="times")
            self._at_times = [
                keras.Model(
                    [frames, times],
                    self._outputs_of(frames, times),
                    name=f"{self.name}_at_times",
                )
            ]
        return self._at_times[0]

    def get_config(self) -> dict[str, Any]:
        return {
            **self.config,
            "dtype": keras.dtype_policies.serialize(self._policy),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)

    def deepen(
        self,
        extraction_blocks: int = 0,
        fusion_blocks: int = 0,
        reconstruction_blocks: int = 0,
        still_blocks: int = 0,
    ) -> "MEGAN":
        """Makes a deeper MEGAN that computes exactly the same.

        Each repeated block adds something to its input, so a block whose last
        convolutions are zero adds nothing and can be appended anywhere (Chen et al.,
        Net2Net, ICLR 2016, arXiv:1511.05641). Other growth: `keras_megan.net2net`.

        Args:
            extraction_blocks: residual blocks to append before the interpolation.
            fusion_blocks: progressive fusion blocks to append.
            reconstruction_blocks: residual blocks to append after the fusion.
            still_blocks: residual blocks to append to the still network, if there is
                one.

        Returns:
            A new MEGAN; this one is left as it is.

        Raises:
            ValueError: for a negative number of blocks, or blocks for a part that
                this network does not have.
        """
        added = {
            "extraction_blocks": extraction_blocks,
            "fusion_blocks": fusion_blocks,
            "reconstruction_blocks": reconstruction_blocks,
            "still_blocks": still_blocks,
        }
        if min(added.values()) < 0:
            raise ValueError(f"Blocks can only be appended. Received: {added}.")
        missing = {
            "still_blocks": not self.config["still_blocks"],
            "fusion_blocks": not has_trunk(self.config),
            "reconstruction_blocks": not has_trunk(self.config),
        }
        for key, absent in missing.items():
            if absent and added[key]:
                raise ValueError(
                    f"This network has no part that {key}={added[key]} could be "
                    "appended to."
                )
        config = self.get_config()
        deeper = MEGAN.from_config(
            {**config, **{key: config[key] + more for key, more in added.items()}}
        )
        mine = {variable.path: variable for variable in self.variables}
        for variable in deeper.variables:
            if variable.path in mine:
                variable.assign(mine[variable.path])
            elif variable.path.split("/")[-2] in LAST_OF_A_BLOCK:
                variable.assign(keras.ops.zeros(variable.shape))
        return deeper


MEGAN.presets = preset_names()


@net2net.register_model_rebuilder(MEGAN)
def _rebuild(plan):
    """The MEGAN whose weights have a plan's shapes, or None if no config has them."""
    teacher = plan.model
    config = {**teacher.get_config(), "filters": plan.width("extract")}
    small_tail = config["tail_filters"] is not None or config["tail"] == "light"
    if small_tail and has_trunk(config):
        config["tail_filters"] = plan.width("reconstruct/expand_1") // 4
    if config["still_blocks"]:
        config["still_filters"] = plan.width("still/extract")
        config["still_tail_filters"] = plan.width("still/reconstruct/expand_1") // 4
        if config["neighbours"]:
            fusion = f"still/reconstruct/fusion_{config['neighbours']['before'][0]}"
            config["neighbours"] = {
                **config["neighbours"],
                "moved_filters": plan.width(f"{fusion}/embed"),
                "hidden_filters": plan.width(f"{fusion}/conv"),
            }
        motion = teacher.get_layer("motion")
        config["alignment_options"] = {
            **config["alignment_options"],
            "motion_filters": plan.width("motion/field/fine_0"),
            "matching_filters": motion.matching_filters,
            "finest_filters": plan.width("motion/embed"),
        }
        if config["correction_filters"]:
            config["correction_filters"] = plan.width("between/hidden")
    elif config["alignment"] == "window":
        branch = teacher.get_layer("interpolate").branch
        config["alignment_options"] = {
            **config["alignment_options"],
            "motion_filters": plan.width("interpolate/window/motion/fine_0"),
            "matching_filters": branch.matching_filters,
            "finest_filters": plan.width("interpolate/window/embed"),
        }
    try:
        student = MEGAN.from_config(config)
    except ValueError:
        return None
    pairs = list(zip(teacher.variables, student.variables, strict=False))
    same = len(teacher.variables) == len(student.variables) and all(
        plan.new_value(old).shape == tuple(new.shape) for old, new in pairs
    )
    return student if same else None

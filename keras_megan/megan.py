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

Time is folded into the batch between the first and the last layer. Any height and
width; the model pads and crops by itself. A new model equals trilinear upsampling
exactly, because its last convolution starts at zero.

Source: You et al., MEGAN: Memory Enhanced Graph Attention Network for Space-Time
Video Super-Resolution, WACV 2022 (arXiv:2110.15327). Only its abstract was
available: the order of the parts follows it, their equations are those of the papers
named in each layer's file and, for LMGA, a reconstruction.
"""

import keras
from keras import layers

from keras_megan import net2net
from keras_megan.layers.bilinear_upsampling import BilinearUpsampling
from keras_megan.layers.frame_interpolation import FrameInterpolation
from keras_megan.layers.frames import FoldFrames, InterleaveFrames, UnfoldFrames
from keras_megan.layers.memory_graph import MemoryGraphAggregation
from keras_megan.layers.non_local import NonLocalResidualBlock
from keras_megan.layers.padding import CropToScale, PadToMultiple
from keras_megan.layers.progressive_fusion import ProgressiveFusionBlock
from keras_megan.layers.reconstruction import SCALE, Reconstruction
from keras_megan.layers.residual_block import ResidualBlock
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

    Args:
        filters: channels of the features.
        num_frames: T, the given frames of a clip, at least 2. Fixed by the weights
            of the fusion: longer clips are cut into overlapping windows.
        extraction_blocks: residual blocks before the interpolation.
        alignment: "deformable" (unbounded motion, CPU and GPU servers) or "window"
            (bounded motion, every operation on mobile GPUs).
        alignment_options: further arguments of `FrameInterpolation`, a dict.
        memory: "bank", "recurrent" or "intra"; see `MemoryGraphAggregation`.
        descriptor_size: side of the memory's channel descriptors.
        non_local_blocks: number of non-local residual blocks.
        non_local_pool: "pyramid" or "full"; see `NonLocalResidualBlock`.
        fusion_blocks: number of progressive fusion blocks.
        reconstruction_blocks: residual blocks after the fusion.
        tail: "full" or "light"; see `Reconstruction`.
        tail_filters: channels between the two pixel shuffles; None: `filters`.
        dtype: dtype policy of all layers; None: the global one. The output is
            float32 whatever the policy.

    Attributes:
        num_frames: T.
        scale: 4.
    """

    def __init__(
        self,
        filters=64,
        num_frames=4,
        extraction_blocks=5,
        alignment="deformable",
        alignment_options=None,
        memory="bank",
        descriptor_size=16,
        non_local_blocks=1,
        non_local_pool="pyramid",
        fusion_blocks=20,
        reconstruction_blocks=40,
        tail="full",
        tail_filters=None,
        dtype=None,
        name="megan",
        **kwargs,
    ):
        policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        total = 2 * num_frames - 1

        # === Layers ===
        interpolate = FrameInterpolation(
            filters,
            num_frames,
            alignment,
            dtype=policy,
            name="interpolate",
            **(alignment_options or {}),
        )
        trunk = [
            MemoryGraphAggregation(
                filters, total, memory, descriptor_size, dtype=policy, name="memory"
            )
        ]
        trunk += [
            NonLocalResidualBlock(
                filters, non_local_pool, dtype=policy, name=f"non_local_{i}"
            )
            for i in range(non_local_blocks)
        ]
        trunk += [
            ProgressiveFusionBlock(filters, total, dtype=policy, name=f"fusion_{i}")
            for i in range(fusion_blocks)
        ]
        trunk.append(
            Reconstruction(
                filters,
                reconstruction_blocks,
                tail,
                tail_filters,
                dtype=policy,
                name="reconstruct",
            )
        )
        multiple = 2 ** (interpolate.branch.levels - 1)

        # === Functional model ===
        inputs = keras.Input((num_frames, None, None, 3), name="frames")
        images = FoldFrames(dtype="float32", name="fold")(inputs)
        images = PadToMultiple(multiple, dtype="float32", name="pad")(images)

        features = layers.Conv2D(
            filters, 3, padding="same", dtype=policy, name="extract"
        )(images)
        features = layers.LeakyReLU(SLOPE, dtype=policy, name="extract_activation")(
            features
        )
        for i in range(extraction_blocks):
            features = ResidualBlock(filters, dtype=policy, name=f"extract_{i}")(
                features
            )

        between, images_between = interpolate(features, images)
        features = InterleaveFrames(num_frames, dtype=policy, name="all_features")(
            features, between
        )
        images = InterleaveFrames(num_frames, dtype="float32", name="all_images")(
            images, images_between
        )
        for layer in trunk:
            features = layer(features)

        upsampled = BilinearUpsampling(SCALE, dtype="float32", name="upsample")(images)
        outputs = layers.Add(dtype="float32", name="add")([features, upsampled])
        outputs = CropToScale(SCALE, dtype="float32", name="crop")(outputs, inputs)
        outputs = UnfoldFrames(total, dtype="float32", name="unfold")(outputs)
        super().__init__(inputs=inputs, outputs=outputs, name=name, **kwargs)

        # === Config ===
        self.filters = filters
        self.num_frames = num_frames
        self.scale = SCALE
        self.config = {
            "filters": filters,
            "num_frames": num_frames,
            "extraction_blocks": extraction_blocks,
            "alignment": alignment,
            "alignment_options": dict(alignment_options or {}),
            "memory": memory,
            "descriptor_size": descriptor_size,
            "non_local_blocks": non_local_blocks,
            "non_local_pool": non_local_pool,
            "fusion_blocks": fusion_blocks,
            "reconstruction_blocks": reconstruction_blocks,
            "tail": tail,
            "tail_filters": tail_filters,
        }
        self._policy = policy

    def get_config(self):
        return {
            **self.config,
            "dtype": keras.dtype_policies.serialize(self._policy),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)

    def deepen(self, extraction_blocks=0, fusion_blocks=0, reconstruction_blocks=0):
        """Makes a deeper MEGAN that computes exactly the same.

        Each repeated block adds something to its input, so a block whose last
        convolutions are zero adds nothing and can be appended anywhere (Chen et al.,
        Net2Net, ICLR 2016, arXiv:1511.05641). Other growth: `keras_megan.net2net`.

        Args:
            extraction_blocks: residual blocks to append before the interpolation.
            fusion_blocks: progressive fusion blocks to append.
            reconstruction_blocks: residual blocks to append after the fusion.

        Returns:
            A new MEGAN; this one is left as it is.

        Raises:
            ValueError: for a negative number of blocks.
        """
        added = {
            "extraction_blocks": extraction_blocks,
            "fusion_blocks": fusion_blocks,
            "reconstruction_blocks": reconstruction_blocks,
        }
        if min(added.values()) < 0:
            raise ValueError(f"Blocks can only be appended. Received: {added}.")
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
    if teacher.config["tail_filters"] is not None or config["tail"] == "light":
        config["tail_filters"] = plan.width("reconstruct/expand_1") // 4
    if config["alignment"] == "window":
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

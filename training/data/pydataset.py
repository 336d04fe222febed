"""The same samples for ``model.fit``, on any backend of Keras.

    samples = ClipSequence(Sampler(ClipCache(shards), SamplingSettings()), 8, 1000)
    model.compile("adam", keras_megan.losses.Charbonnier())
    model.fit(samples)

Nothing here needs TensorFlow, except the first decoding of the shards.
"""

import keras
import numpy as np

from training.data.sampling import Sampler


class ClipSequence(keras.utils.PyDataset):
    """Batches of samples as a `keras.utils.PyDataset`.

    Args:
        sampler: Gives sample n.
        batch_size: Samples per batch.
        batches: Per epoch. Epoch e takes batches ``e * batches`` and following, so each
            epoch sees other samples.
        first_batch: Where the first epoch begins.
        **options: ``workers``, ``use_multiprocessing``, ``max_queue_size``.

    Batch i is what step i of `training.train` takes: inputs float32 (B, T, h, w, 3) and
    targets (B, 2T-1, 4h, 4w, 3), both in [0, 1].
    """

    def __init__(
        self,
        sampler: Sampler,
        batch_size: int,
        batches: int,
        first_batch: int = 0,
        **options,
    ):
        super().__init__(**options)
        self.sampler, self.batch_size, self.batches = sampler, batch_size, batches
        self.first_batch = first_batch

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        first = (self.first_batch + index) * self.batch_size
        pairs = [self.sampler.sample(first + i) for i in range(self.batch_size)]
        low, high = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
        return _unit(low[:, 0::2]), _unit(high)

    def on_epoch_end(self) -> None:
        """Lets the next epoch continue where this one ended."""
        self.first_batch += self.batches


def _unit(frames: np.ndarray) -> np.ndarray:
    return frames.astype(np.float32) / np.float32(255.0)

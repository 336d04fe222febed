"""The Charbonnier loss: an absolute error that is smooth at zero.

``sqrt(d^2 + epsilon^2)`` behaves like ``|d|`` for errors well above ``epsilon`` and
like a squared error below it. Against the squared error it forgives outliers (an
occluded pixel cannot be predicted at all) and so blurs less; against the absolute
error its gradient does not jump at zero.

Two conventions differ between papers and are stated here. The constant inside the
root is ``epsilon^2 = 1e-6``, hence ``epsilon = 1e-3``. The reduction: Zooming Slow-Mo
and its successors *sum* over all pixels of the batch, ``reduction="sum"``, so their
loss of 10,000 to 100,000 is normal; the default here is the mean, which does not
depend on batch and crop size. For Adam the factor between the two hardly matters.

Source: Charbonnier et al., "Two deterministic half-quadratic regularization
algorithms for computed imaging", ICIP 1994; Lai et al., LapSRN, CVPR 2017.
"""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_megan")
class Charbonnier(keras.losses.Loss):
    """``sqrt((y_true - y_pred)^2 + epsilon_squared)``, reduced over all values.

    Args:
        epsilon_squared: The constant inside the root, > 0.
        reduction: ``"sum_over_batch_size"``: the mean over all values of the batch
            (frames, pixels and channels included). ``"sum"``: their sum. ``None``:
            no reduction; the loss has the shape of the inputs.
        name: Name in logs.
        dtype: Dtype of the computation; defaults to float32, also under
            ``mixed_float16``, where ``1e-6`` would lose its digits.

    A ``sample_weight`` must broadcast against the inputs' shape: (B, 1, 1, 1, 1)
    weighs clips, (B, T, 1, 1, 1) frames.

    Raises:
        ValueError: If ``epsilon_squared`` is not positive.
    """

    def __init__(
        self,
        epsilon_squared: float = 1e-6,
        reduction: str | None = "sum_over_batch_size",
        name: str = "charbonnier",
        dtype: Any = None,
    ):
        if not epsilon_squared > 0:
            raise ValueError(
                "Charbonnier expects epsilon_squared > 0 (it keeps the gradient finite "
                f"where the error is zero); received {epsilon_squared}."
            )
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.epsilon_squared = float(epsilon_squared)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Elementwise loss, the shape of the inputs (any, equal)."""
        return ops.sqrt(ops.square(y_pred - y_true) + self.epsilon_squared)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon_squared": self.epsilon_squared}

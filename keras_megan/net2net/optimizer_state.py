"""The optimizer's state follows the plan, so that training goes on as it would have.

Changing a model's shape usually throws the optimizer's state away, and the first steps
of the new model are then taken with the wrong step sizes. But the gradients of the new
variables are known functions of the old ones. With consumers W' = c W (shares c):

    what writes a copied axis gets the gradient  c_j G    so m' = c_j m, v' = c_j^2 v
    what reads it gets the gradient              G        so m' = m,     v' = v

(m: averages of gradients, v: of their squares), and a variable scaled by s gets G / s.
So each slot follows by its *power* of the gradient: 1, 2, or 0 where it is free of
scale. Pruning only picks. The step counter is kept. Slots of inserted layers start at
zero.
"""

from typing import Any

import keras
import numpy as np

from keras_megan.net2net.errors import Net2NetError
from keras_megan.net2net.plan import Plan

_SLOTS = {
    keras.optimizers.SGD: {"momentums": 1},
    keras.optimizers.Adam: {"_momentums": 1, "_velocities": 2, "_velocity_hats": 2},
    keras.optimizers.RMSprop: {
        "_velocities": 2,
        "_average_gradients": 1,
        # The momentum adds up gradient / sqrt(velocity): free of scale.
        "_momentums": 0,
    },
    keras.optimizers.Lion: {"_momentums": 1},
    keras.optimizers.Adagrad: {"_accumulators": 2},
}


class OptimizerTransferError(Net2NetError):
    """The state of an optimizer cannot follow."""


def transfer_optimizer(old: Any, new: Any, plan: Plan, student: keras.Model) -> Any:
    """Carries an optimizer's state over to a rewritten model.

    Args:
        old: The original model's optimizer, built. Adam, AdamW, SGD, RMSprop, Lion,
            Adagrad, or a `LossScaleOptimizer` around one of them.
        new: The new model's optimizer of the same kind. It is built if it is not. Its
            learning rate is left as it is; a tenth of the old one is a good start.
        plan: The `Plan`.
        student: The new model: what `plan.apply()` gave, or the same after saving and
            loading.

    Returns:
        `new`.

    Raises:
        OptimizerTransferError: If the optimizers are of different or unknown kinds, or
            the new one does not train the new model.
    """
    if type(old) is not type(new):
        raise OptimizerTransferError(
            f"Both optimizers must be of one kind, received {type(old).__name__} and "
            f"{type(new).__name__}."
        )
    if isinstance(old, keras.optimizers.LossScaleOptimizer):
        if not new.built:
            new.build(student.trainable_variables)
        new.step_counter.assign(old.step_counter.value)
        new.dynamic_scale.assign(old.dynamic_scale.value)
        transfer_optimizer(old.inner_optimizer, new.inner_optimizer, plan, student)
        return new
    slots = _slots_of(old)
    if not old.built:
        raise OptimizerTransferError("The old optimizer has no state yet.")
    if not new.built:
        new.build(student.trainable_variables)
    new.iterations.assign(old.iterations.value)
    old_index = {id(v): i for i, v in enumerate(old._trainable_variables)}
    new_index = {id(v): i for i, v in enumerate(new._trainable_variables)}
    unknown = [v.path for v in student.trainable_variables if id(v) not in new_index]
    if unknown:
        raise OptimizerTransferError(
            f"The new optimizer does not train {unknown[:3]} of the model that the "
            "plan makes."
        )
    pairs = [
        (old_index[id(a)], new_index[id(b)], a)
        for a, b in plan.pairs(student)
        if id(a) in old_index and id(b) in new_index
    ]
    for name, power in slots.items():
        before, after = getattr(old, name, None), getattr(new, name, None)
        if not before or not after:
            continue
        for i, j, variable in pairs:
            if before[i] is None or after[j] is None:
                continue
            value = keras.ops.convert_to_numpy(before[i].value)
            after[j].assign(gradient_power(plan, variable, value, power))
    averages = getattr(old, "_model_variables_moving_average", None)
    if old.use_ema and new.use_ema and averages:
        for i, j, variable in pairs:
            value = keras.ops.convert_to_numpy(averages[i].value)
            new._model_variables_moving_average[j].assign(
                plan.new_value(variable, value)
            )
    return new


def _slots_of(optimizer):
    for kind in type(optimizer).__mro__:
        if kind in _SLOTS:
            return {**_SLOTS[kind], "_accumulated_gradients": 1}
    raise OptimizerTransferError(
        f"It is not known how the state of {type(optimizer).__name__} follows a plan. "
        f"Known: {sorted(kind.__name__ for kind in _SLOTS)}."
    )


def gradient_power(plan, variable, value, power):
    """Returns what becomes of a quantity that goes with a power of the gradient.

    Args:
        plan: The `Plan`.
        variable: The original's variable.
        value: Array of its shape.
        power: Power of the gradient it is proportional to.
    """
    weight = plan.weight_of(variable)
    if weight is None:
        return value
    kind = value.dtype
    value = np.asarray(value, dtype=np.float64)
    for axis, role in weight.roles.items():
        if not plan.is_changed(role.layout):
            continue
        index_map = plan.index_map(role.layout)
        value = index_map.gather(value, axis)
        if not role.reads and power:
            shape = [1] * value.ndim
            shape[axis] = index_map.new_size
            value = value * np.reshape(index_map.share**power, shape)
    if weight.scale is not None and power:
        scale = weight.scale(plan.index_map) ** power
        # What was scaled by zero, a copy that does not count yet, starts at zero.
        value = np.divide(value, scale, out=np.zeros_like(value), where=scale != 0)
    return value.astype(kind)

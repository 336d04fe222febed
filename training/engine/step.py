"""One optimizer step under any strategy.

Loss and gradients are sums over a replica's samples divided by the *global* batch, so
that adding up the replicas' gradients gives the gradient of the mean, however many
replicas there are. Keras's own optimizers clip each replica's gradients before that
sum, which is not the same; so the sum is made here first, clipped by its global norm,
and divided by the number of replicas because the optimizer will sum again.

With each step goes one number from every worker, the request to stop. It is summed like
the losses, so that all workers learn of a SIGTERM to one of them in the same step.
"""

from collections.abc import Callable

import keras
import tensorflow as tf

from training.engine.state import TrainState
from training.errors import TrainingError
from training.stages.recipe import Recipe, Stage
from training.tasks.task import Lesson


def make_step(
    strategy: tf.distribute.Strategy,
    state: TrainState,
    task: Lesson,
    recipe: Recipe,
    stage: Stage,
) -> Callable:
    """Compiles the training step.

    Args:
        strategy: Where it is computed.
        state: What it changes.
        task: Computes the losses.
        recipe: Gives batch size, clipping and compilation.
        stage: The task's schedules run over its steps.

    Returns:
        Function (batch, stop) -> dict of scalars, means over the global batch, with
        ``"stop"`` the sum of the workers' requests.
    """
    with strategy.scope():
        network = task.with_auxiliary(state.model)
    optimizer, variables = state.optimizer, learning_variables(state.model, stage)
    replicas = strategy.num_replicas_in_sync
    clip = recipe.clip_norm

    def gradients(batch, progress):
        with tf.GradientTape() as tape:
            losses = task.losses(network, batch, progress)
            shares = {
                name: tf.reduce_sum(values) / recipe.batch_size
                for name, values in losses.items()
            }
            target = shares["loss"]
            if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
                target = optimizer.scale_loss(target)
        found = tape.gradient(target, [v.value for v in variables])
        found = [
            tf.zeros_like(v.value) if gradient is None else gradient
            for gradient, v in zip(found, variables, strict=True)
        ]
        return shares, found

    def summed(found):
        if replicas == 1:
            return found
        context = tf.distribute.get_replica_context()
        return context.all_reduce(tf.distribute.ReduceOp.SUM, found)

    def replica_step(batch, step, stop):
        progress = tf.cast(step, tf.float32) / float(max(1, stage.steps - 1))
        shares, found = gradients(batch, progress)
        if clip:
            found = summed(found)
            norm = tf.linalg.global_norm(found)
            # Gradients are still multiplied by the loss scale where there is one.
            limit = clip * optimizer.scale_loss(1.0) if _scaled(optimizer) else clip
            factor = limit / tf.maximum(norm, limit) / replicas
            found = [gradient * factor for gradient in found]
        optimizer.apply_gradients(zip(found, variables, strict=True))
        state.update_averages(step)
        if state.masks is not None:
            state.masks.apply(step + 1)
            shares = {**shares, "sparsity": state.masks.share() / replicas}
        return {**shares, "stop": tf.identity(stop)}

    @tf.function(jit_compile=uses_xla(recipe, replicas))
    def step(batch, number, stop):
        results = strategy.run(replica_step, args=(batch, number, stop))
        return {
            name: strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
            for name, value in results.items()
        }

    return step


def learning_variables(model: keras.Model, stage: Stage) -> list[keras.Variable]:
    """Returns the variables that a stage changes, in the network's order.

    Raises:
        TrainingError: If the stage names a layer that the network does not have.
    """
    if not stage.layers:
        return model.trainable_variables
    names = [layer.name for layer in model.layers]
    unknown = sorted(set(stage.layers) - set(names))
    if unknown:
        raise TrainingError(
            f"Stage '{stage.name}' trains the layer '{unknown[0]}', which the network "
            f"does not have; its layers are {', '.join(names)}."
        )
    chosen = {
        id(variable)
        for name in stage.layers
        for variable in model.get_layer(name).trainable_variables
    }
    return [v for v in model.trainable_variables if id(v) in chosen]


def uses_xla(recipe: Recipe, replicas: int) -> bool:
    """Whether the step is compiled by XLA: it pays on GPUs, strategies forbid it."""
    if recipe.xla == "auto":
        return replicas == 1 and bool(tf.config.list_physical_devices("GPU"))
    return recipe.xla == "on"


def _scaled(optimizer) -> bool:
    return isinstance(optimizer, keras.optimizers.LossScaleOptimizer)

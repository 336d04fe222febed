"""Teaching: the loss is the formula, teachers stay as they are, mistakes are found."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from training.errors import TrainingError
from training.stages.checks import check_recipe
from training.stages.recipe import Recipe, Stage
from training.stages.teaching import TaughtTask, Teaching
from training.tasks.images import ImageTask

SIDE, CLASSES = 4, 3


def network(seed, classes=CLASSES):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Flatten()(inputs)
    x = keras.layers.BatchNormalization()(x)
    return keras.Model(inputs, keras.layers.Dense(classes)(x))


@pytest.fixture
def batch(rng):
    images = rng.integers(0, 256, (5, SIDE, SIDE, 3), np.uint8)
    return tf.constant(images), tf.constant([0, 2, 1, 1, 0], tf.int64)


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.parametrize(("temperature", "share"), [(4.0, 0.9), (1.0, 1.0), (2.0, 0.3)])
def test_the_loss_is_the_formula(batch, temperature, share):
    student, teachers = network(0), [network(1), network(2)]
    task = TaughtTask(
        ImageTask(size=SIDE), Teaching(("a", "b"), temperature, share), teachers
    )
    found = task.losses(student, batch, 0.0)
    images, labels = batch[0].numpy() / np.float32(255), batch[1].numpy()
    # The student is training (its batch's statistics), the teachers are not.
    answers = np.asarray(student(images, training=True), np.float64)
    soft = sum(
        softmax(np.asarray(teacher(images), np.float64) / temperature)
        for teacher in teachers
    )
    told = -(soft / 2 * np.log(softmax(answers / temperature))).sum(-1)
    own = -np.log(softmax(answers)[np.arange(5), labels])
    expected = (1 - share) * own + share * temperature**2 * told
    np.testing.assert_allclose(found["loss"], expected, rtol=1e-4)
    np.testing.assert_allclose(found["taught"], temperature**2 * told, rtol=1e-4)
    assert found["accuracy"].shape == (5,)


def test_teachers_do_not_learn(batch):
    student, teacher = network(0), network(1)
    task = TaughtTask(ImageTask(size=SIDE), Teaching(("a",)), [teacher])
    before = [np.array(v) for v in teacher.variables]
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(task.losses(student, batch, 0.0)["loss"])
    learning = [v.value for v in student.trainable_variables]
    taught = [v.value for v in teacher.trainable_variables]
    gradients = tape.gradient(loss, learning + taught)
    assert [g is None for g in gradients] == [False] * len(learning) + [True] * len(
        taught
    )
    for old, new in zip(before, teacher.variables, strict=True):
        np.testing.assert_array_equal(new, old)


def test_teachers_of_other_classes_are_refused():
    task = TaughtTask(ImageTask(size=SIDE), Teaching(("a",)), [network(1, classes=2)])
    with pytest.raises(TrainingError, match=r"\(batch, 3\); received \(None, 2\)"):
        task.with_auxiliary(network(0))


@pytest.mark.parametrize(
    ("stages", "options"),
    [((), {}), (("a",), {"temperature": 0.0}), (("a",), {"share": 0.0})],
)
def test_impossible_settings_of_teaching_are_refused(stages, options):
    with pytest.raises(TrainingError, match="Teaching expects names of earlier stages"):
        Teaching(stages, **options)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("second", "taught by 'second'; expected a stage before it: first"),
        ("third", "taught by 'third'; expected a stage before it: first"),
    ],
)
def test_teachers_must_be_earlier_stages(teacher, message):
    taught = Stage("second", 1, 0.1, teaching=Teaching((teacher,)))
    stages = (Stage("first", 1, 0.1), taught, Stage("third", 1, 0.1))
    with pytest.raises(TrainingError, match=message):
        check_recipe(Recipe("r", ImageTask(size=SIDE), lambda: network(0), stages))

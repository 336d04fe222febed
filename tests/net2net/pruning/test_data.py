"""Data: one form for everything, and clear words about everything else."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_megan import net2net
from keras_megan.net2net.pruning.importances.data import Data, DataError

X = np.arange(40, dtype="float32").reshape(10, 4)
Y = np.arange(10)


class Sequence(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        part = slice(4 * index, 4 * index + 4)
        return X[part], Y[part]


def tf_dataset(*parts):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(parts if len(parts) > 1 else parts[0])


def inputs_of(data):
    return np.concatenate([batch.inputs for batch in Data(data, batch_size=4)])


@pytest.mark.parametrize(
    "make",
    [
        lambda: X,
        lambda: (X,),
        lambda: (X, Y),
        lambda: (X, Y, np.ones(10)),
        lambda: keras.ops.convert_to_tensor(X),
        lambda: tf_dataset(X).batch(4),
        lambda: tf_dataset(X, Y).batch(4),
        lambda: Sequence(),
    ],
)
def test_every_form_gives_the_same_batches_as_often_as_asked(make):
    data = Data(make(), batch_size=4)
    for _ in range(2):
        assert [batch.size for batch in data] == [4, 4, 2]
    np.testing.assert_array_equal(inputs_of(make()), X)


def test_targets_and_weights_are_told_apart():
    batch = next(iter(Data((X, Y, 2.0 * Y), batch_size=3)))
    np.testing.assert_array_equal(batch.targets, Y[:3])
    np.testing.assert_array_equal(batch.weights, 2.0 * Y[:3])
    assert next(iter(Data(X))).targets is None
    batch = next(iter(Data({"left": X, "right": X + 1}, batch_size=3)))
    np.testing.assert_array_equal(batch.inputs["right"], X[:3] + 1)
    assert next(iter(Data([X, X]))).size == 10


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((x for x in [X]), "generator can be read only once"),
        (iter([X]), "can be read only once"),
        ("images", "received str"),
        (None, "received NoneType"),
        ([1.0, 2.0], "found float inside"),
        ((X, Y, Y, Y), "tuple of 4"),
        (X[:0], "at least one sample"),
        ((X, Y[:3]), r"\[10, 3\]"),
    ],
)
def test_what_cannot_be_read_is_refused_at_once(data, message):
    with pytest.raises(DataError, match=message):
        net2net.ActivationDensity(data)


def test_data_without_an_end_are_refused():
    with pytest.raises(DataError, match="take"):
        Data(tf_dataset(X).batch(4).repeat())


def test_a_batch_size_is_a_positive_integer():
    with pytest.raises(DataError, match="batch_size"):
        Data(X, batch_size=0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (X[:, :3], r"Input 'left' of model 'two' has shape \(None, 4\).*\(10, 3\)"),
        (X[0], "first axis must count the samples"),
    ],
)
def test_data_that_do_not_fit_the_model_name_the_input(data, message):
    left = keras.Input((4,), name="left")
    x = layers.Dense(3, activation="relu")(left)
    model = keras.Model(left, layers.Dense(2)(x), name="two")
    with pytest.raises(DataError, match=message):
        net2net.prune(model, 0.5, importance=net2net.ActivationDensity(data))


def test_a_tuple_is_not_several_inputs():
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    x = layers.Dense(6, activation="relu")(layers.Concatenate()([left, right]))
    model = keras.Model([left, right], layers.Dense(2)(x), name="two")
    with pytest.raises(DataError, match="takes 2 inputs .left, right., but the data"):
        net2net.prune(model, 0.5, importance=net2net.ActivationDensity((X, X)))
    net2net.prune(model, 0.5, importance=net2net.ActivationDensity([X, X]))

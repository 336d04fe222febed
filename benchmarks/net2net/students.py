"""Students that start where the teacher stopped: Keras's `mnist_net2net`, rebuilt.

A small teacher is trained on small real images. Then, each with the same budget of
epochs and a tenth of the learning rate:

- a wider student made by `net2net.widen`, and one whose new units are random;
- a deeper student made by `net2net.deepen`, and one whose new layer is random;
- from scratch: networks of the students' sizes, trained for the students' budget at the
  teacher's learning rate.

    python -m benchmarks.net2net.students --data cifar10.npz --output students.json

The data file is an ``.npz`` with ``train_jpeg`` (all JPEG files, one after another),
``train_offsets`` (n + 1 positions), ``train_labels``, and the same with ``val_`` or
``test_``. Without one, scikit-image's pictures are cut into patches that are to be told
apart, which takes no download.

Every row gives the validation loss before the first step ("start") and after each
epoch. What is expected: both Net2Net students start at the teacher's loss, and end
below the networks of their size that were trained from scratch.
"""

import argparse
import sys
import time

import numpy as np

from keras_megan.files import write_json

_PICTURES = ("astronaut", "brick", "camera", "coffee", "chelsea", "grass", "gravel")


def load_pack(path, count, seed=0):
    """Reads `count` training and a fifth as many validation images from a pack."""
    import cv2

    pack = np.load(path)
    names = [key[: -len("_jpeg")] for key in pack.files if key.endswith("_jpeg")]
    held_out = next(name for name in names if name != "train")
    random = np.random.default_rng(seed)
    result = []
    for name, wanted in (("train", count), (held_out, count // 5)):
        offsets, labels = pack[f"{name}_offsets"], pack[f"{name}_labels"]
        data = pack[f"{name}_jpeg"]
        chosen = random.permutation(len(labels))[:wanted]
        images = [
            cv2.imdecode(data[offsets[i] : offsets[i + 1]], cv2.IMREAD_COLOR)
            for i in chosen
        ]
        result += [np.stack(images).astype("float32") / 255.0, labels[chosen]]
    return result


def patches_of_pictures(count, size=32, seed=0):
    """Patches of scikit-image's pictures, labelled by the picture they come from.

    Training patches come from the left two thirds of each picture, validation patches
    from the right third.
    """
    import cv2
    import skimage.data

    random = np.random.default_rng(seed)
    result = []
    for part, wanted in ((0, count), (1, count // 5)):
        images, labels = [], []
        for index in range(wanted):
            label = index % len(_PICTURES)
            picture = getattr(skimage.data, _PICTURES[label])()
            if picture.ndim == 2:
                picture = np.repeat(picture[..., None], 3, axis=-1)
            border = picture.shape[1] * 2 // 3
            picture = picture[:, :border] if part == 0 else picture[:, border:]
            window = int(random.integers(size, 2 * size))
            top = int(random.integers(picture.shape[0] - window))
            left = int(random.integers(picture.shape[1] - window))
            patch = picture[top : top + window, left : left + window]
            images.append(cv2.resize(patch, (size, size), interpolation=cv2.INTER_AREA))
            labels.append(label)
        result += [np.stack(images).astype("float32") / 255.0, np.asarray(labels)]
    return result


def teacher_network(shape, classes, filters=32, units=64, deeper=False):
    """Convolution, pooling, convolution, pooling, dense: the example's network."""
    import keras
    from keras import layers

    x = entry = keras.Input(shape)
    x = layers.Conv2D(filters, 3, padding="same", activation="relu", name="conv1")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(32, 3, padding="same", activation="relu", name="conv2")(x)
    if deeper:
        x = layers.Conv2D(32, 3, padding="same", activation="relu", name="conv3")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Dense(units, activation="relu", name="dense1")(layers.Flatten()(x))
    if deeper:
        x = layers.Dense(units, activation="relu", name="dense2")(x)
    return keras.Model(entry, layers.Dense(classes, name="label")(x))


def randomly_padded(teacher, wide):
    """The wider network with the teacher's weights where they fit, random elsewhere."""
    for old, new in zip(teacher.weights, wide.weights, strict=True):
        value = new.numpy()
        value[tuple(slice(size) for size in old.shape)] = old.numpy()
        new.assign(value)
    return wide


def train(model, data, epochs, learning_rate, seed):
    """Trains and returns validation losses and accuracies, before and after epochs."""
    import keras

    keras.utils.set_random_seed(seed)
    x, y, x_val, y_val = data
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.SGD(learning_rate, momentum=0.9)
    model.compile(optimizer, loss, metrics=["accuracy"])
    curve = [model.evaluate(x_val, y_val, batch_size=256, verbose=0)]
    for _ in range(epochs):
        model.fit(x, y, batch_size=64, epochs=1, verbose=0)
        curve.append(model.evaluate(x_val, y_val, batch_size=256, verbose=0))
    return [[float(value) for value in point] for point in curve]


def experiment(data, epochs, learning_rate, seed):
    """All rows of the comparison, as a dict from name to curve."""
    import keras

    from keras_megan import net2net

    keras.utils.set_random_seed(seed)
    shape, classes = data[0].shape[1:], int(np.max(data[1])) + 1
    teacher = teacher_network(shape, classes)
    rows = {"teacher": train(teacher, data, epochs, learning_rate, seed)}
    widths = {"conv1": 64, "dense1": 128}
    wide = teacher_network(shape, classes, filters=64, units=128)
    deep = teacher_network(shape, classes, deeper=True)
    for layer in teacher.layers:
        if layer.weights:
            deep.get_layer(layer.name).set_weights(layer.get_weights())
    deeper = net2net.deepen(teacher, after="conv2", name="conv3").apply()
    deeper = net2net.deepen(deeper, after="dense1", name="dense2").apply()
    students = {
        "wider, random padding": randomly_padded(teacher, wide),
        "wider, net2net": net2net.widen(teacher, widths).apply(),
        "deeper, random layers": deep,
        "deeper, net2net": deeper,
    }
    for name, student in students.items():
        rows[name] = train(student, data, epochs, learning_rate / 10, seed + 1)
    scratch = {
        "wide from scratch": teacher_network(shape, classes, 64, 128),
        "deep from scratch": teacher_network(shape, classes, deeper=True),
    }
    for name, network in scratch.items():
        rows[name] = train(network, data, epochs, learning_rate, seed + 1)
    return rows


def as_markdown(rows):
    """The table: validation loss at the start and after each epoch, and accuracy."""
    epochs = len(next(iter(rows.values()))) - 1
    heads = ["start", *(f"epoch {i + 1}" for i in range(epochs)), "accuracy"]
    lines = ["| network | " + " | ".join(heads) + " |", "|---" * (epochs + 3) + "|"]
    for name, curve in rows.items():
        losses = [f"{loss:.3f}" for loss, _ in curve]
        lines.append(f"| {name} | {' | '.join(losses)} | {curve[-1][1]:.3f} |")
    return "\n".join(lines)


def main(arguments=None):
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help=".npz pack of JPEG images")
    parser.add_argument("--count", type=int, default=6000, help="training images")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", help="JSON file for the rows")
    options = parser.parse_args(arguments)
    if options.data:
        data = load_pack(options.data, options.count, options.seed)
    else:
        data = patches_of_pictures(options.count, seed=options.seed)
    started = time.perf_counter()
    rows = experiment(data, options.epochs, options.learning_rate, options.seed)
    if options.output:
        write_json(options.output, rows)
    print(as_markdown(rows))
    print(f"{time.perf_counter() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

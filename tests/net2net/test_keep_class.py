"""Models of a class with a configuration: they stay what they are, methods included."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_megan import net2net
from keras_megan.net2net.tracing.calls import TraceError
from tests.net2net.helpers import largest_difference, randomize, run

pytestmark = pytest.mark.slow


@keras.saving.register_keras_serializable("net2net_keep_class")
class Decoder(keras.Model):
    """A small language model: one number for the width of all its feed-forwards."""

    def __init__(self, num_layers=2, num_heads=2, hidden=8, inner=12, **kwargs):
        x = tokens = keras.Input((None,), dtype="int32")
        x = layers.Embedding(11, hidden)(x)
        for index in range(num_layers):
            y = layers.LayerNormalization(name=f"attention_norm{index}")(x)
            attention = layers.MultiHeadAttention(
                num_heads, hidden // num_heads, name=f"attention{index}"
            )
            x = x + attention(y, y, use_causal_mask=True)
            y = layers.LayerNormalization(name=f"feed_forward_norm{index}")(x)
            y = layers.Dense(inner, activation="gelu", name=f"inner{index}")(y)
            x = x + layers.Dense(hidden, name=f"outer{index}")(y)
        super().__init__(tokens, layers.Dense(11)(x), **kwargs)
        self.settings = {
            "num_layers": num_layers,
            "num_heads": num_heads,
            "hidden": hidden,
            "inner": inner,
        }

    def generate(self, tokens, count):
        for _ in range(count):
            scores = self(np.array([tokens]), training=False)
            tokens = [*tokens, int(ops.argmax(scores[0, -1]))]
        return tokens

    def get_config(self):
        return {**self.settings, "name": self.name}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)


def test_growing_and_pruning_keep_a_class_whose_layers_share_one_number():
    model = randomize(Decoder())
    plan = net2net.widen(model, 1.5, keep_class=True)
    wide = plan.apply()
    assert type(wide) is Decoder
    assert wide.settings == {**model.settings, "inner": 18}
    assert wide.generate([1, 2], 4) == model.generate([1, 2], 4)
    narrow = plan.inverse(wide).apply()
    assert type(narrow) is Decoder and narrow.settings == model.settings
    small = net2net.prune(model, 0.5, keep_class=True).apply()
    assert type(small) is Decoder and small.settings["inner"] == 6


def test_widths_that_one_configuration_has_give_the_class_without_being_asked_to():
    model = randomize(Decoder(num_layers=2, hidden=8, inner=8))
    wide = net2net.widen(model, {"inner0": 12, "inner1": 12}).apply()
    assert type(wide) is Decoder
    assert wide.settings == {**model.settings, "inner": 12}
    uneven = net2net.widen(model, {"inner0": 12, "inner1": 10}).apply()
    assert type(uneven) is not Decoder


def test_a_plan_that_keeps_the_class_does_so_after_it_was_saved(tmp_path):
    model = randomize(Decoder())
    net2net.prune(model, 0.25, keep_class=True).save(tmp_path / "plan.json")
    small = net2net.Plan.load(tmp_path / "plan.json", model).apply()
    assert type(small) is Decoder and small.settings["inner"] == 9


def test_pruning_gradually_keeps_the_class():
    model = randomize(Decoder())
    small = net2net.prune_gradually(
        model, lambda network, plan: None, ratio=0.5, steps=2, keep_class=True
    )
    assert type(small) is Decoder and small.settings["inner"] == 6


def test_a_plain_model_has_no_class_to_keep():
    entry = keras.Input((4,))
    model = keras.Model(entry, layers.Dense(2)(layers.Dense(6)(entry)))
    with pytest.raises(TraceError, match="keep_class"):
        net2net.widen(model, 1.5, keep_class=True)


# === keras-hub, where it is installed =================================================
def hub_models(hub):
    llama = hub.models.LlamaBackbone(
        vocabulary_size=10,
        num_layers=2,
        num_query_heads=4,
        num_key_value_heads=2,
        hidden_dim=8,
        intermediate_dim=8,
    )
    yield "llama", hub.models.LlamaCausalLM(llama, preprocessor=None)
    gemma = hub.models.GemmaBackbone(
        vocabulary_size=10,
        num_layers=2,
        num_query_heads=4,
        num_key_value_heads=1,
        hidden_dim=16,
        intermediate_dim=32,
        head_dim=4,
    )
    yield "gemma", hub.models.GemmaCausalLM(gemma, preprocessor=None)
    bert = hub.models.BertBackbone(
        vocabulary_size=10,
        num_layers=2,
        num_heads=2,
        hidden_dim=4,
        intermediate_dim=8,
        max_sequence_length=6,
    )
    yield "bert", bert


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("wanted", ["llama", "gemma", "bert"])
def test_models_of_keras_hub(wanted):
    hub = pytest.importorskip("keras_hub")
    model = randomize(next(m for name, m in hub_models(hub) if name == wanted))
    tokens = {
        "token_ids": np.array([[3, 1, 4, 1, 5]]),
        "padding_mask": np.ones((1, 5), dtype="int32"),
    }
    if wanted == "bert":
        tokens["segment_ids"] = np.zeros((1, 5), dtype="int32")
    graph = net2net.ChannelGraph(model, keep_class=True)
    wide = net2net.widen(graph, 1.5).apply()
    small = net2net.prune(graph, 0.25).apply()
    assert type(wide) is type(small) is type(model)
    assert wide.count_params() > model.count_params() > small.count_params()
    assert largest_difference(run(model, tokens), run(wide, tokens)) <= 1e-5
    if wanted != "bert":
        tokens["padding_mask"][:, 2:] = 0
        for each in (model, wide, small):
            each.compile(sampler="greedy")
        expected = model.generate(tokens, stop_token_ids=None)["token_ids"]
        received = wide.generate(tokens, stop_token_ids=None)["token_ids"]
        assert np.array_equal(expected, received)
        assert np.shape(small.generate(tokens, stop_token_ids=None)["token_ids"])

"""Random models, a few of them by number: what net2net promises holds for each.

`benchmarks.net2net.random_graphs` tries the same promises on thousands.
"""

import pytest

from tests.net2net.graphs import promises


def numbers(first):
    """Every second number; all but the first two models are for `make test` alone."""
    return [
        number if number < 4 else pytest.param(number, marks=pytest.mark.slow)
        for number in range(first, 16 + first, 2)
    ]


IMAGE_MODELS, SEQUENCE_MODELS = numbers(0), numbers(1)

pytestmark = pytest.mark.filterwarnings("ignore:.*does not support masking:UserWarning")


@pytest.mark.parametrize("number", [*IMAGE_MODELS, *SEQUENCE_MODELS])
def test_widening(number):
    promises.widening_keeps_the_function(promises.graph_of(number), number)


@pytest.mark.parametrize("number", IMAGE_MODELS)
def test_widening_and_back(number):
    assert promises.the_way_back_gives_the_weights_back(
        promises.graph_of(number), number
    )


@pytest.mark.parametrize("number", [*IMAGE_MODELS, *SEQUENCE_MODELS[:3]])
def test_pruning_equals_masking(number):
    promises.pruning_equals_masking(promises.graph_of(number), number)


@pytest.mark.parametrize("number", [*IMAGE_MODELS[:2], *SEQUENCE_MODELS[:1]])
def test_saving(number):
    promises.saving_keeps_the_function(promises.graph_of(number), number)

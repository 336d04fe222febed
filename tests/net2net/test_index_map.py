"""The algebra of index maps, against dense matrices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_megan.net2net.channels.index_map import MEAN, ZERO, IndexMap, IndexMapError


@st.composite
def widening_maps(draw, size=None):
    size = size or draw(st.integers(1, 6))
    extra = draw(st.lists(st.integers(0, size - 1), max_size=5))
    order = draw(st.permutations(list(range(size)) + extra))
    shares = draw(st.sampled_from(["equal", "random", "first"]))
    return IndexMap.copies(size, order, shares, seed=draw(st.integers(0, 9)))


def expansion(index_map):
    """The matrix E with x' = E x."""
    matrix = np.zeros((index_map.new_size, index_map.old_size))
    for new, old in enumerate(index_map.source):
        if old == MEAN:
            matrix[new] = 1.0 / index_map.old_size
        elif old != ZERO:
            matrix[new, old] = 1.0
    return matrix


def reading(index_map):
    """The matrix D with W' = W D."""
    matrix = np.zeros((index_map.old_size, index_map.new_size))
    for new, old in enumerate(index_map.source):
        if old >= 0:
            matrix[old, new] = index_map.share[new]
    return matrix


@given(widening_maps())
@settings(deadline=None)
def test_reading_undoes_writing_for_every_map_of_copies(index_map):
    product = reading(index_map) @ expansion(index_map)
    np.testing.assert_allclose(product, np.eye(index_map.old_size), atol=1e-12)
    assert index_map.preserves


@given(widening_maps(), st.data())
@settings(deadline=None)
def test_then_is_the_product_of_the_matrices(first, data):
    second = data.draw(widening_maps(size=first.new_size))
    both = first.then(second)
    np.testing.assert_allclose(expansion(both), expansion(second) @ expansion(first))
    np.testing.assert_allclose(reading(both), reading(first) @ reading(second))


@given(widening_maps())
@settings(deadline=None)
def test_inverse_gives_the_identity_with_its_shares(index_map):
    back = index_map.then(index_map.inverse())
    assert np.array_equal(back.source, np.arange(index_map.old_size))
    np.testing.assert_allclose(back.share, 1.0, rtol=1e-12)


@given(widening_maps(), widening_maps(), st.integers(1, 4))
@settings(deadline=None)
def test_concatenate_blocks_and_repeat_are_kronecker_products(a, b, times):
    joined = expansion(IndexMap.concatenate([a, b]))
    assert np.array_equal(joined[: a.new_size, : a.old_size], expansion(a))
    assert np.array_equal(joined[a.new_size :, a.old_size :], expansion(b))
    assert joined.sum() == a.new_size + b.new_size
    eye = np.eye(times)
    np.testing.assert_array_equal(
        expansion(a.blocks(times)), np.kron(expansion(a), eye)
    )
    np.testing.assert_array_equal(
        expansion(a.repeat(times)), np.kron(eye, expansion(a))
    )


@given(widening_maps())
@settings(deadline=None)
def test_gather_and_weigh_are_the_matrices_on_any_axis(index_map):
    array = np.random.default_rng(0).normal(size=(2, index_map.old_size, 3))
    written = np.einsum("ji,aib->ajb", expansion(index_map), array)
    read = np.einsum("ij,aib->ajb", reading(index_map), array)
    np.testing.assert_allclose(index_map.gather(array, 1), written)
    np.testing.assert_allclose(index_map.weigh(array, 1), read)


@given(widening_maps())
@settings(deadline=None)
def test_balance_makes_sums_over_copies_equal_sums_over_originals(index_map):
    values = np.random.default_rng(0).normal(size=index_map.old_size)
    copied = index_map.gather(values, 0)
    np.testing.assert_allclose((copied * index_map.balance).sum(), values.sum())


def test_average_and_zero_units_are_filled_and_not_read():
    index_map = IndexMap(2, [0, 1, MEAN, ZERO], [1, 1, 0, 0])
    np.testing.assert_array_equal(
        index_map.gather(np.array([2.0, 4.0]), 0), [2, 4, 3, 0]
    )
    np.testing.assert_array_equal(
        index_map.weigh(np.array([2.0, 4.0]), 0), [2, 4, 0, 0]
    )
    assert index_map.preserves


def test_plain_data_round_trip():
    index_map = IndexMap.copies(3, [2, 0, 1, 1], "random")
    assert IndexMap.from_dict(index_map.to_dict()) == index_map


@pytest.mark.parametrize(
    "make",
    [
        lambda: IndexMap(3, [0, 3], [1, 1]),
        lambda: IndexMap(3, [0, -3], [1, 1]),
        lambda: IndexMap(3, [0, 1], [1]),
        lambda: IndexMap(3, [], []),
        lambda: IndexMap(3, [0, 1], [1, np.nan]),
        lambda: IndexMap(3, [0, MEAN], [1, 0.5]),
        lambda: IndexMap.copies(3, [0, 1, 1]),
        lambda: IndexMap.copies(2, [0, 1], "clever"),
        lambda: IndexMap.identity(3).then(IndexMap.identity(4)),
        lambda: IndexMap.keep(3, [0]).inverse(),
        lambda: IndexMap(2, [0, 1, MEAN], [1, 1, 0]).blocks(2),
        lambda: IndexMap(2, [0, 1, MEAN], [1, 1, 0]).repeat(2),
    ],
)
def test_senseless_maps_are_refused(make):
    with pytest.raises(IndexMapError):
        make()

"""Layouts: joining, splitting and freezing groups, against unit-by-unit labels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_megan.net2net.channels.layout import Group, Layout, LayoutError, unify


def labels(layout):
    """One label per position: the group, unit and place inside it, or "frozen"."""
    return [
        (id(group), unit, place) if group.frozen is None else "frozen"
        for group, inner in layout.segments
        for unit in range(group.size)
        for place in range(inner)
    ]


def layout_of(sizes):
    return Layout.concatenate(
        [
            Layout.new(size, f"g{i}").blocks(inner)
            for i, (size, inner) in enumerate(sizes)
        ]
    )


sizes_of_twelve = st.sampled_from(
    [
        [(12, 1)],
        [(6, 2)],
        [(4, 3)],
        [(3, 4)],
        [(4, 1), (8, 1)],
        [(8, 1), (4, 1)],
        [(5, 1), (7, 1)],
        [(2, 3), (6, 1)],
        [(1, 6), (3, 2)],
    ]
)


@given(sizes_of_twelve, sizes_of_twelve)
@settings(deadline=None)
def test_unified_layouts_are_one_axis_or_frozen(first, second):
    a, b = layout_of(first), layout_of(second)
    unify(a, b)
    assert labels(a) == labels(b)
    assert a.size == b.size == 12


@given(sizes_of_twelve, sizes_of_twelve, sizes_of_twelve)
@settings(deadline=None)
def test_unifying_is_kept_when_a_third_axis_joins(first, second, third):
    a, b, c = (layout_of(sizes) for sizes in (first, second, third))
    unify(a, b)
    unify(b, c)
    for x, y in ((a, b), (b, c)):
        for left, right in zip(labels(x), labels(y), strict=True):
            assert left == right


def test_crossed_halves_become_one_group():
    a, b = Layout.new(3, "a"), Layout.new(3, "b")
    unify(Layout.concatenate([a, b]), Layout.concatenate([b, a]))
    assert a.groups == b.groups and len(a.groups) == 1


def test_crossed_parts_of_unequal_size_share_single_units():
    a, b = Layout.new(3, "a"), Layout.new(2, "b")
    left, right = Layout.concatenate([a, b]), Layout.concatenate([b, a])
    unify(left, right)
    assert labels(left) == labels(right)
    assert {group.size for group in left.groups} == {1}


def test_blocks_of_two_and_three_meet_in_blocks_of_six():
    a, b = Layout.new(6, "a").blocks(2), Layout.new(4, "b").blocks(3)
    unify(a, b)
    assert [(g.size, inner) for g, inner in a.segments] == [(2, 6)]
    assert labels(a) == labels(b)


def test_blocks_that_do_not_line_up_are_frozen_with_a_reason():
    a = Layout.concatenate([Layout.new(1, "a").blocks(4), Layout.new(2, "b")])
    b = Layout.new(2, "c").blocks(3)
    unify(a, b, "the addition")
    assert a.is_fixed and b.is_fixed
    assert "the addition" in a.groups[0].frozen


def test_freezing_reaches_everything_unified_before_and_after():
    a, b, c = (Layout.new(4, name) for name in "abc")
    unify(a, b)
    b.freeze("no reason")
    unify(c, a)
    assert a.is_fixed and c.is_fixed
    assert c.groups[0].frozen == "no reason"


def test_cut_splits_groups_at_its_borders():
    whole = Layout.new(8, "conv.filters")
    before = labels(whole)
    middle = whole.cut(2, 5)
    assert [group.name for group in whole.groups] == [
        "conv.filters[0:2]",
        "conv.filters[2:5]",
        "conv.filters[5:8]",
    ]
    assert middle.size == 3 and len(before) == len(labels(whole))
    assert labels(middle) == labels(whole)[2:5]


def test_cut_through_a_block_freezes_it():
    whole = Layout.new(3, "a").blocks(4)
    part = whole.cut(0, 6)
    assert part.size == 6
    assert any(group.frozen for group, _ in part.segments)


def test_opaque_axes_freeze_what_they_meet():
    channels = Layout.new(4, "a")
    unify(channels, Layout.fixed(None))
    assert "unknown size" in channels.groups[0].frozen


def test_different_sizes_are_refused():
    with pytest.raises(LayoutError, match="3 and 4"):
        unify(Layout.new(3, "a"), Layout.new(4, "b"), "here")


def test_size_counts_inner_positions():
    layout = Layout([(Group(3, "a"), 2), (Group(1, "b"), 5)])
    assert layout.size == 11
    assert layout.repeat(2).size == 22 and layout.blocks(3).size == 33
    assert np.all(np.diff([layout.size, layout.repeat(3).size]) == 22)

"""Averages over bins equal those that are computed moment by moment; numbers are said as people say them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentservesim.report.html import wording
from agentservesim.report.html.series import bins, interval_average, rounded, step_average

EDGES = np.array([0.0, 2.0, 3.0, 7.0])


def test_a_level_holds_from_its_time_until_the_next_one() -> None:
    averages = step_average([1.0, 2.5, 6.0], [10.0, 20.0, 40.0], EDGES)
    # 0-2: 0 then 10; 2-3: 10 then 20; 3-7: three of 20, one of 40
    assert averages.tolist() == [5.0, 15.0, 25.0]


def test_several_levels_at_once() -> None:
    averages = step_average([0.0, 3.0], [[1.0, 5.0], [2.0, 6.0]], EDGES)
    assert averages.tolist() == [[1.0, 5.0], [1.0, 5.0], [2.0, 6.0]]


def test_nothing_is_zero() -> None:
    assert step_average([], [], EDGES).tolist() == [0.0, 0.0, 0.0]
    assert interval_average([], [], 1.0, EDGES).tolist() == [0.0, 0.0, 0.0]


intervals = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 5)), min_size=1, max_size=20
)


@given(intervals)
def test_intervals_are_counted_as_long_as_they_are_open(drawn: list[tuple[int, int, int]]) -> None:
    starts, ends = (np.array([f(a, b) for a, b, _ in drawn]) for f in (min, max))
    weights = np.array([w for _, _, w in drawn], float)
    edges = bins(40.0, 8)
    by_hand = [
        sum(
            w * max(0, min(end, right) - max(start, left))
            for start, end, w in zip(starts, ends, weights, strict=True)
        )
        / (right - left)
        for left, right in pairwise(edges)
    ]
    assert interval_average(starts, ends, weights, edges) == pytest.approx(by_hand)


def test_rounded_keeps_five_digits() -> None:
    assert rounded([123456.7, 0.000123456, 0, -1.23456789]) == [123460.0, 0.00012346, 0.0, -1.2346]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (wording.seconds(None), "none"),
        (wording.seconds(0.0853), "85.3 ms"),
        (wording.seconds(1.2), "1.2 s"),
        (wording.seconds(119), "119 s"),
        (wording.seconds(150), "2.5 min"),
        (wording.seconds(24840), "6.9 h"),
        (wording.share(0.4412), "44%"),
        (wording.share(0.0573), "5.7%"),
        (wording.share(0.0001), "under 0.1%"),
        (wording.amount(7.8e12), "7.8 TB"),
        (wording.amount(12), "12 B"),
        (wording.number(12345.6), "12,346"),
    ],
)
def test_wording(said: str, expected: str) -> None:
    assert said == expected

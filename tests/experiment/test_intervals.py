"""Intervals: quantiles by the book, and as many that hold the truth as they say."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from agentservesim.experiment.intervals import (
    Bootstrap,
    Estimate,
    percentile_interval,
    t_interval,
    t_probability,
    t_quantile,
)


@pytest.mark.parametrize(
    ("degrees", "probability", "quantile"),
    [
        (1, 0.975, 12.706),
        (2, 0.975, 4.303),
        (3, 0.995, 5.841),
        (4, 0.975, 2.776),
        (9, 0.95, 1.833),
        (30, 0.975, 2.042),
        (120, 0.975, 1.980),
    ],
)
def test_quantiles_of_t_are_those_of_the_tables(degrees: int, probability: float, quantile: float) -> None:
    assert t_quantile(probability, degrees) == pytest.approx(quantile, abs=5e-4)
    assert t_probability(t_quantile(probability, degrees), degrees) == pytest.approx(probability)


def test_a_t_interval_by_hand() -> None:
    """Mean 3, variance (4 + 0 + 4) / 2 = 4; 4.303 * 2 / sqrt(3) on both sides."""
    estimate = t_interval([1.0, 3.0, 5.0])
    assert estimate.value == 3
    assert estimate.half_width == pytest.approx(4.302653 * 2 / sqrt(3))
    assert not estimate.clear
    assert t_interval([7.0]) == Estimate(7.0)
    assert t_interval([7.0]).half_width is None


def test_equal_values_leave_no_doubt() -> None:
    assert t_interval([2.0, 2.0]).clear
    assert not t_interval([0.0, 0.0]).clear
    assert not Estimate(1.0).clear


def test_t_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Runs of two arms with common noise, 5 seeds, true difference 1; 95% of 4,000, give or take 1%."""
    random = np.random.default_rng(1)
    common = random.normal(100, 30, (4000, 5))
    left = common + 1 + random.normal(0, 2, (4000, 5))
    right = common + random.normal(0, 2, (4000, 5))
    held = 0
    for row in left - right:
        estimate = t_interval(row.tolist())
        assert estimate.low is not None
        assert estimate.high is not None
        held += estimate.low <= 1 <= estimate.high
    assert held / 4000 == pytest.approx(0.95, abs=0.01)


def test_bootstrap_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """60 programs of 1 to 9 turns that have much in common; true difference 1. Percentile intervals are a bit
    short for so few: 92% to 96%."""
    random = np.random.default_rng(2)
    bootstrap = Bootstrap(60, resamples=500)
    held, trials = 0, 400
    for _ in range(trials):
        turns = random.integers(1, 10, 60)
        owner = np.repeat(np.arange(60), turns)
        program = random.normal(0, 2, 60)[owner]
        left = 1 + program + random.normal(0, 1, len(owner))
        drawn = bootstrap.means(left, owner)
        estimate = percentile_interval(float(left.mean()), drawn)
        assert estimate.low is not None
        assert estimate.high is not None
        held += estimate.low <= 1 <= estimate.high
    assert 0.91 <= held / trials <= 0.975


def test_resampled_percentiles_are_numpys() -> None:
    random = np.random.default_rng(3)
    owner = np.array([0, 0, 1, 2, 2, 2, 4])
    values = random.normal(size=7)
    bootstrap = Bootstrap(5, resamples=50)
    percentiles = bootstrap.percentiles(values, owner, (50, 90, 99))
    means = bootstrap.means(values, owner)
    for counts, row, mean in zip(bootstrap.counts, percentiles, means, strict=True):
        sample = np.repeat(values, counts[owner])
        assert row == pytest.approx(np.percentile(sample, (50, 90, 99)))
        assert mean == pytest.approx(sample.mean())
    assert bootstrap.counts.sum(axis=1).tolist() == [5] * 50


def test_a_resample_without_values_is_left_out() -> None:
    """Of two programs only the first has a value; a quarter of the resamples draws the second twice."""
    bootstrap = Bootstrap(2, resamples=100)
    owner, values = np.array([0]), np.array([3.0])
    means = bootstrap.means(values, owner)
    assert 10 < np.isnan(means).sum() < 40
    assert np.isnan(bootstrap.percentiles(values, owner, (50,))).sum() == np.isnan(means).sum()
    assert percentile_interval(3.0, means) == Estimate(3.0, 3.0, 3.0)


def test_pairs_are_drawn_together() -> None:
    """What two arms have in common cancels: the difference of the resamples is the same everywhere."""
    values, owner = np.array([1.0, 50.0, 300.0]), np.arange(3)
    bootstrap = Bootstrap(3)
    difference = bootstrap.means(values + 2, owner) - bootstrap.means(values, owner)
    assert difference == pytest.approx(2)

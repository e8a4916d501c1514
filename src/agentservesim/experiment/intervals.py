"""Confidence intervals of paired differences.

Over seeds: the paired-t interval of Law and Kelton, Simulation Modeling and Analysis, 10.2; the runs of a
pair share their random numbers. Over the programs of a single run: the percentile bootstrap of Efron and
Tibshirani, An Introduction to the Bootstrap, 13.3, in which a program is drawn with all its turns and in both
runs of a pair at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import atan, cos, fsum, pi, sin, sqrt

import numpy as np
from numpy.typing import NDArray

from agentservesim.random import stream

CONFIDENCE = 0.95
RESAMPLES = 2000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value with its confidence interval; the borders are None where nothing is known of the spread."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    @property
    def half_width(self) -> float | None:
        """Half the length of the interval."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def t_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """The mean of independent values; without borders if there is only one."""
    n = len(values)
    mean = fsum(values) / n
    if n < 2:
        return Estimate(mean)
    deviation = sqrt(fsum((value - mean) ** 2 for value in values) / (n - 1))
    reach = t_quantile((1 + confidence) / 2, n - 1) * deviation / sqrt(n)
    return Estimate(mean, mean - reach, mean + reach)


def percentile_interval(value: float, resampled: Floats, confidence: float = CONFIDENCE) -> Estimate:
    """A value, and the middle of what it was in the resamples."""
    tail = 100 * (1 - confidence) / 2
    low, high = np.nanpercentile(resampled, (tail, 100 - tail)).tolist()
    return Estimate(value, low, high)


def t_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t distribution for a probability above one half, by bisection."""
    low, high = 0.0, 1.0
    while t_probability(high, degrees) < probability:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if t_probability(middle, degrees) < probability else (low, middle)
    return high


def t_probability(t: float, degrees: int) -> float:
    """P(T < t) for t >= 0: the finite sums of Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    angle = atan(t / sqrt(degrees))
    odd = degrees % 2
    term, total = (cos(angle) if odd else 1.0), 0.0
    for k in range(1 + odd, degrees, 2):
        total += term
        term *= k / (k + 1) * cos(angle) ** 2
    inside = 2 / pi * (angle + sin(angle) * total) if odd else sin(angle) * total
    return 0.5 + inside / 2


class Bootstrap:
    """Draws of programs, the same for every metric and for both runs of a pair."""

    def __init__(self, programs: int, resamples: int = RESAMPLES) -> None:
        random = stream(0, "bootstrap")
        self.counts = random.multinomial(programs, np.full(programs, 1 / programs), size=resamples)

    def means(self, values: Floats, program: NDArray[np.int64]) -> Floats:
        """Mean of the values in each resample, of shape (resamples,); NaN where none was drawn.

        `program` is the index of each value's program.
        """
        programs = self.counts.shape[1]
        sums = self.counts @ np.bincount(program, weights=values, minlength=programs)
        sizes = self.counts @ np.bincount(program, minlength=programs)
        means: Floats = np.divide(sums, sizes, out=np.full(len(sums), np.nan), where=sizes > 0)
        return means

    def percentiles(self, values: Floats, program: NDArray[np.int64], percents: Sequence[int]) -> Floats:
        """Percentiles in each resample, as `numpy.percentile` has them; of shape (resamples, percentiles)."""
        order = np.argsort(values, kind="stable")
        ascending, owner = values[order], program[order]
        result = np.full((len(self.counts), len(percents)), np.nan)
        for row, counts in zip(result, self.counts, strict=True):
            until = np.cumsum(counts[owner])
            if until[-1] == 0:
                continue
            place = (until[-1] - 1) * np.array(percents) / 100
            lower = np.floor(place)
            below = ascending[np.searchsorted(until, lower, side="right")]
            above = ascending[np.searchsorted(until, np.ceil(place), side="right")]
            row[:] = below + (place - lower) * (above - below)
        return result

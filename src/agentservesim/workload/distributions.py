"""The few distributions that describe agent programs, drawn one value at a time.

Values come from the uniform and normal bits of a generator through `math`, and are rounded to whole tokens or
microseconds by whoever draws them, so that a seed gives the same workload on every platform.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from numpy.random import Generator

T = TypeVar("T")


class Distribution(Protocol):
    """Something to draw positive numbers from."""

    def draw(self, rng: Generator) -> float:
        """One value."""
        ...


@dataclass(frozen=True, slots=True)
class Constant:
    """Always `value`."""

    value: float

    def draw(self, rng: Generator) -> float:
        """One value."""
        return self.value


@dataclass(frozen=True, slots=True)
class Uniform:
    """Evenly from `low` to `high`."""

    low: float
    high: float

    def draw(self, rng: Generator) -> float:
        """One value."""
        return self.low + (self.high - self.low) * float(rng.random())


@dataclass(frozen=True, slots=True)
class LogNormal:
    """exp(mu + sigma * N(0, 1)); the median is exp(mu)."""

    mu: float
    sigma: float

    def draw(self, rng: Generator) -> float:
        """One value."""
        return math.exp(self.mu + self.sigma * float(rng.standard_normal()))


@dataclass(frozen=True, slots=True)
class Weibull:
    """Survival function exp(-(x / scale) ** shape)."""

    shape: float
    scale: float

    def draw(self, rng: Generator) -> float:
        """One value."""
        return self.scale * math.pow(-math.log1p(-float(rng.random())), 1.0 / self.shape)


@dataclass(frozen=True, slots=True)
class Gamma:
    """Mean shape * scale."""

    shape: float
    scale: float

    def draw(self, rng: Generator) -> float:
        """One value."""
        return self.scale * float(rng.standard_gamma(self.shape))


@dataclass(frozen=True, slots=True)
class Mixture:
    """One of several distributions, each with a weight; weights sum to 1."""

    parts: tuple[tuple[float, Distribution], ...]

    def draw(self, rng: Generator) -> float:
        """One value."""
        return pick(rng, self.parts).draw(rng)


@dataclass(frozen=True, slots=True)
class Sum:
    """`base`, and with probability `share` also `extra`."""

    base: Distribution
    share: float
    extra: Distribution

    def draw(self, rng: Generator) -> float:
        """One value."""
        value = self.base.draw(rng)
        return value + self.extra.draw(rng) if float(rng.random()) < self.share else value


def pick(rng: Generator, weighted: tuple[tuple[float, T], ...]) -> T:
    """One of several things, each with a weight; weights sum to 1."""
    point = float(rng.random())
    for weight, thing in weighted:
        point -= weight
        if point < 0:
            return thing
    return weighted[-1][1]

"""Numbers that policies have seen: sorted, and how turns done tell turns left."""

from __future__ import annotations

from math import sqrt

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]


class SortedSamples:
    """Numbers seen so far, in order."""

    def __init__(self) -> None:
        self._values = np.empty(64)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def values(self) -> Samples:
        """The samples, ascending; shape (len(self),)."""
        return self._values[: self._count]

    def add(self, value: float) -> None:
        """Put a number in its place."""
        place = int(np.searchsorted(self.values, value, side="right"))
        if self._count == len(self._values):
            self._values = np.concatenate([self._values, np.empty(self._count)])
        self._values[place + 1 : self._count + 1] = self._values[place : self._count].copy()
        self._values[place] = value
        self._count += 1


class TurnCounts:
    """How the turns done tell the turns left, over the programs that ended."""

    def __init__(self) -> None:
        self._n = self._k = self._left = self._k_k = self._left_left = self._k_left = 0

    def add(self, turns: int) -> None:
        """A program of so many turns had `turns - k` left after its k-th."""
        squares = turns * (turns + 1) * (2 * turns + 1) // 6
        self._n += turns
        self._k += turns * (turns + 1) // 2
        self._left += turns * (turns - 1) // 2
        self._k_k += squares
        self._left_left += squares - turns * turns
        self._k_left += turns * turns * (turns + 1) // 2 - squares

    def memory(self) -> float:
        """eta = -Corr(turns done, turns left): 1 if all programs are equally long, 0 if memoryless.

        1 before there is anything to tell it from.
        """
        n = self._n
        covariance = n * self._k_left - self._k * self._left
        variances = (n * self._k_k - self._k**2) * (n * self._left_left - self._left**2)
        return -covariance / sqrt(variances) if variances > 0 else 1.0

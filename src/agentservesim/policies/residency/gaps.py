"""What policies learn of gaps: the empirical distribution per tool and over all tools."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agentservesim.policies.protocols import ChainView

Samples = NDArray[np.float64]


def tool_of(chain: ChainView) -> str:
    """The tool that a gap is named after; calls made together count as one tool. "" without a call."""
    return "+".join(sorted(set(chain.tools)))


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


class GapHistory:
    """Gaps in seconds, per tool and over all tools."""

    def __init__(self) -> None:
        self._all = SortedSamples()
        self._tools: dict[str, SortedSamples] = {}

    def add(self, tool: str, gap_s: float) -> None:
        """A gap of the tool has ended."""
        self._all.add(gap_s)
        self._tools.setdefault(tool, SortedSamples()).add(gap_s)

    def samples(self, tool: str, more_than: int) -> Samples | None:
        """The tool's own gaps if there are more than so many, else everybody's if those are, else None."""
        own = self._tools.get(tool)
        if own is not None and len(own) > more_than:
            return own.values
        return self._all.values if len(self._all) > more_than else None


class RunningMean:
    """Mean per name."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, name: str, value: float) -> None:
        """Count a value in."""
        total, count = self._sums.get(name, (0.0, 0))
        self._sums[name] = total + value, count + 1

    def get(self, name: str) -> float | None:
        """The mean, or None before the first value."""
        total, count = self._sums.get(name, (0.0, 0))
        return total / count if count else None

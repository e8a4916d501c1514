"""What policies learn of gaps: the empirical distribution per tool and over all tools."""

from __future__ import annotations

import math
from collections.abc import Sequence

from agentservesim.policies.protocols import ChainView, GapEnded
from agentservesim.policies.residency.samples import Samples, SortedSamples

Z95 = 1.6448536269514722
"""95th percentile of the standard normal distribution."""


def tool_of(chain: ChainView) -> str:
    """The tool that a gap is named after; calls made together count as one tool. "" without a call."""
    return "+".join(sorted(set(chain.tools)))


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


class Lengths:
    """How long a gap is taken to be: as long as so far, or, if `rule` is "mean" and they are longer,
    as its tool's were on average, `unseen_s` before the first."""

    def __init__(self, rule: str, unseen_s: float) -> None:
        if rule not in ("elapsed", "mean"):
            raise ValueError(f"gap must be elapsed or mean, not '{rule}'")
        self._means = RunningMean() if rule == "mean" else None
        self._unseen_s = unseen_s

    def ended(self, event: GapEnded) -> None:
        """A gap has ended."""
        if self._means is not None:
            self._means.add(tool_of(event.chain), event.gap_s)

    def of(self, chain: ChainView, now_s: float) -> float:
        """The length of a gap that still lasts, in seconds."""
        elapsed_s = now_s - chain.gap_started_s
        if self._means is None:
            return elapsed_s
        mean_s = self._means.get(tool_of(chain))
        return max(elapsed_s, self._unseen_s if mean_s is None else mean_s)


class LogNormals:
    """A log-normal per set of tools: moving mean and variance of the logarithm of its gaps."""

    def __init__(self, smoothing: float) -> None:
        self._smoothing = smoothing
        self._fits: dict[frozenset[str], tuple[float, float]] = {}

    def add(self, tools: Sequence[str], gap_s: float) -> None:
        """A gap after these tools has ended."""
        value, a, together = math.log(max(gap_s, 1e-3)), self._smoothing, frozenset(tools)
        mean, variance = self._fits.get(together, (value, 0.0))
        off = value - mean
        self._fits[together] = mean + a * off, (1 - a) * (variance + a * off * off)

    def p95_s(self, tools: Sequence[str], most_s: float) -> float | None:
        """exp(mean + 1.645 deviations), at most `most_s`; None before the first gap."""
        fit = self._fits.get(frozenset(tools))
        if fit is None:
            return None
        mean, variance = fit
        return math.exp(min(mean + Z95 * math.sqrt(variance), math.log(most_s)))

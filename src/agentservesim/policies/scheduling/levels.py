"""Queues by level, and a quantum of tokens for each, as multi-level feedback queues have them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate
from math import inf

from agentservesim.policies.protocols import RequestView


def numbers(name: str, text: object) -> tuple[float, ...]:
    """`2048/8192/inf` as numbers. Raises ValueError that names the parameter."""
    try:
        values = tuple(float(part) for part in str(text).split("/"))
    except ValueError:
        raise ValueError(f"{name} must be numbers with slashes between, not '{text}'") from None
    if not all(value > 0 for value in values):
        raise ValueError(f"{name} must be above 0, not '{text}'")
    return values


class Levels:
    """Level 0 is the best. `boundaries` lie between levels; each has a quantum of tokens for a step.

    A call that has used a whole quantum in a step and is not through its prompt goes one level down. Quanta
    are whole and at least 1, or infinite; `last` is the worst level.
    """

    def __init__(self, boundaries: object, quanta: object) -> None:
        self.boundaries = numbers("boundaries", boundaries)
        self.quanta = [
            number if number == inf else max(int(number), 1) for number in numbers("quanta", quanta)
        ]
        self.last = len(self.quanta) - 1
        if len(self.quanta) != len(self.boundaries) + 1:
            raise ValueError(f"{len(self.boundaries)} boundaries need {len(self.boundaries) + 1} quanta")
        if list(self.boundaries) != sorted(self.boundaries):
            raise ValueError("boundaries must ascend")
        self._reached = list(accumulate(self.quanta[:-1]))
        self._allowed: dict[RequestView, float] = {}

    def entry(self, tokens: float) -> int:
        """The level of so many tokens: below its boundary, and no deeper than its quanta would have led."""
        return min(bisect_right(self.boundaries, tokens), bisect_right(self._reached, tokens))

    def bucket(self, tokens: float) -> int:
        """The level of so many tokens: up to and including its boundary."""
        return bisect_left(self.boundaries, tokens)

    def used_up(self, request: RequestView, computed: int) -> bool:
        """Whether the call has computed all that it was last allowed at `grant`."""
        return computed >= self._allowed.get(request, inf)

    def grant(self, request: RequestView, computed: int, level: int) -> float:
        """The quantum of a level, for the step that is being decided."""
        quantum = self.quanta[level]
        self._allowed[request] = computed + quantum
        return quantum

    def forget(self, request: RequestView) -> None:
        """A call is done."""
        self._allowed.pop(request, None)

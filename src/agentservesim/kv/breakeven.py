"""How much of what lower tiers have is worth loading: HBM's prefix | what is loaded | what is computed.

The rest is computed on what lies before it, so a token costs the more the further back it is. Where the
load's time is linear in its size, a turn's time as a function of where the load ends is therefore concave
between two borders at which a step fewer is needed, and so it is from border to border; and a concave
function has its least value at an end of an interval (Boyd and Vandenberghe, Convex Optimization, 2004,
section 3.1). So it is enough to look at the ends of the linear stretches, and at the first and the last
border inside each. A stretch ends where a tier begins or ends, where its load outlasts those of the tiers
before it (they go side by side) and, layer by layer, where the load outlasts the step that hides it. What
outlasts what is found by bisection, as one side grows with the load and the other hardly does. Step times
from tables bend a little, and ends are whole blocks: what is found is the best to within about a block.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from math import inf
from typing import Protocol

from agentservesim.kv.copies import Plan
from agentservesim.kv.tiers import Tier


class Prefill(Protocol):
    """What computing takes: `step_tokens` is how many prompt tokens fit a step."""

    step_tokens: int

    def chunk_ps(self, tokens: int, history: int) -> int:
        """A step of so many prompt tokens, alone, behind `history` others."""


class BreakEven:
    """Finds the end of a load at which a turn, alone on its engine, is through its prompt soonest.

    `load_ps` is how long a plan takes to load. With `layers`, these come in one by one under the first step,
    which lasts as long as the longer of both, and by the first layer longer; without, it waits for the load.
    """

    def __init__(
        self, prefill: Prefill, load_ps: Callable[[Plan], int], block_size: int, layers: int = 0
    ) -> None:
        self._prefill = prefill
        self._load_ps = load_ps
        self._size = block_size
        self._layers = layers

    def end(self, plan: Plan, known: int) -> int:
        """The block at which to stop loading, for a prompt of `known` tokens; of equals the last."""
        best, least_ps = plan[0][1], inf
        step, size = self._prefill.step_tokens, self._size
        if len(plan) == 1 and not self._layers and known - best * size <= step:
            # One step is enough for all of it: the time is concave from the first end to the last.
            last = plan[0][2]
            all_ps = self._load_ps(plan) + self._step_ps(last * size, known)
            return last if all_ps <= self._step_ps(best * size, known) else best
        step_ps = self._prefill.chunk_ps(step, 0)
        for end in sorted(self._candidates(plan, known), reverse=True):
            # The sooner the load ends, the more steps there are, none cheaper than without a history.
            steps_ps = (known - end * size) // step * step_ps
            if steps_ps >= least_ps:
                break
            load_ps = self._until_ps(plan, end)
            if self._layers or load_ps + steps_ps < least_ps:
                total_ps = self._total_ps(load_ps, end * size, known, least_ps)
                if total_ps < least_ps:
                    best, least_ps = end, total_ps
        return best

    def _total_ps(self, load_ps: int, at: int, known: int, enough_ps: float) -> float:
        """Time to load up to a token and to compute the rest, or some of it if that is more than enough."""
        total_ps: float = load_ps
        if self._layers:
            total_ps = max(load_ps, self._step_ps(at, known)) + load_ps / self._layers
            at += self._prefill.step_tokens
        while at < known and total_ps < enough_ps:
            total_ps += self._step_ps(at, known)
            at += self._prefill.step_tokens
        return total_ps

    def _until_ps(self, plan: Plan, end: int) -> int:
        """Time to load up to a block."""
        part = [(tier, start, min(stop, end)) for tier, start, stop in plan if start < end]
        return self._load_ps(part) if part else 0

    def _step_ps(self, at: int, known: int) -> int:
        return self._prefill.chunk_ps(min(self._prefill.step_tokens, known - at), at)

    def _candidates(self, plan: Plan, known: int) -> set[int]:
        """Ends of the stretches in which the time is concave."""
        first, last = plan[0][1], plan[-1][2]
        found = {first}
        for number, (tier, start, stop) in enumerate(plan):
            found.add(stop)
            if number:
                before_ps = self._until_ps(plan, start)
                found |= _turns(start, stop, partial(self._outlasts, before_ps, tier, start))
            if self._layers:
                border = min(max(self._border(1, known), start), stop)
                for low, high in ((start, border), (border, stop)):
                    found |= _turns(low, high, partial(self._shows, plan, known))
        for start, stop in pairwise(sorted(found)):
            found |= self._step_borders(start, stop, known)
        return {end for end in found if first <= end <= last}

    def _step_borders(self, start: int, stop: int, known: int) -> set[int]:
        """The first and the last block in a stretch at which a step fewer is needed, and those before."""
        size, step = self._size, self._prefill.step_tokens
        most, fewest = (known - start * size) // step, -(-(known - stop * size) // step)
        borders = self._border(most, known), self._border(fewest, known)
        return {border - back for border in borders for back in (0, 1)}

    def _border(self, steps: int, known: int) -> int:
        """The first block behind which so many steps are enough."""
        return -(-(known - steps * self._prefill.step_tokens) // self._size)

    def _outlasts(self, before_ps: int, tier: Tier, start: int, end: int) -> bool:
        """Whether a tier's load is the last to end."""
        return self._load_ps([(tier, start, end)]) > before_ps

    def _shows(self, plan: Plan, known: int, end: int) -> bool:
        """Whether a load is longer than the step that hides it."""
        return self._until_ps(plan, end) > self._step_ps(end * self._size, known)


def _turns(low: int, high: int, holds: Callable[[int], bool]) -> set[int]:
    """The last block of a stretch at which something does not hold yet, and the first at which it does."""
    if low >= high:
        return set()
    first = low + bisect_left(range(low, high + 1), True, key=holds)
    return {max(first - 1, low), min(first, high)}

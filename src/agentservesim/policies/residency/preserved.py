"""Contexts that are preserved while their tools run, and when to decide on them again."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from math import inf

from agentservesim.policies.protocols import ChainView, PinBroken, ServerView
from agentservesim.policies.residency.idleness import Session, session_of


@dataclass(slots=True)
class Preserved:
    """A context, how long it takes to compute it alone, and whether its pin holds.

    It is decided on again at `look_s`, or when the `fewest` tokens seen to run since are fewer than `enough`:
    at `due_s`, which its shelf keeps up to date.
    """

    chain: ChainView
    recompute_s: float
    pinned: bool = True
    look_s: float = 0.0
    enough: float = 0.0
    fewest: float = inf
    due_s: float = inf

    def wastes(self, gap_s: float, running: float) -> tuple[float, float]:
        """Token-seconds wasted by preserving it for so long, and by computing it again in chunks.

        While those are computed as many other tokens run, or as few as did since it was decided on.
        """
        tokens = self.chain.tokens
        return gap_s * tokens, self.recompute_s * (tokens / 2 + min(self.fewest, running))

    def good_for(self, margin: float | None, now_s: float, running: float, least_s: float) -> None:
        """It is preserved: discarding it wastes `margin` token-seconds more.

        Half of them are gone when the gap has gone on for so long, at least `least_s`, the other half when so
        much less runs. If `margin` is None it is to be decided on whenever that is possible.
        """
        self.fewest = inf
        if margin is not None:
            self.look_s = now_s + max(least_s, margin / 2 / max(self.chain.tokens, 1))
            self.enough = running - margin / 2 / max(self.recompute_s, 1e-12)


class Shelf(dict[Session, Preserved]):
    """What is preserved on one instance, and in what order it is to be decided on."""

    def __init__(self) -> None:
        self._looks: list[tuple[float, int, Preserved]] = []
        self._numbers = count()

    def put(self, chain: ChainView, recompute_s: float, running: int) -> Preserved:
        """A turn ended, `running` tokens still run, and its context is preserved to begin with."""
        for one in self.values():
            if running < one.fewest:
                one.fewest = running
                if running < one.enough:
                    self.look(one)
        one = self[session_of(chain)] = Preserved(chain, recompute_s)
        self.look(one)
        return one

    def broken(self, event: PinBroken) -> None:
        """A pin gave way: it is to be decided on at once."""
        one = self.get((event.program_id, event.session_id))
        if one is not None:
            one.pinned, one.look_s = False, 0.0
            self.look(one)

    def look(self, one: Preserved) -> None:
        """Something may have to be decided on at another time than before."""
        due_s = 0.0 if one.fewest < one.enough else one.look_s
        if due_s != one.due_s:
            one.due_s = due_s
            heappush(self._looks, (due_s, next(self._numbers), one))

    @property
    def due_s(self) -> float | None:
        """From when on something is to be decided on; None if nothing ever is."""
        looks = self._looks
        while looks:
            due_s, _, one = looks[0]
            if one.due_s == due_s and self.get(session_of(one.chain)) is one:
                return due_s
            heappop(looks)
        return None

    def due(self, now_s: float) -> list[Preserved]:
        """What is to be decided on now."""
        return [one for one in self.values() if one.due_s <= now_s]


def spare_s(tier: str, period_s: float, server: ServerView) -> float:
    """How long a tier's link has time within a period, or a step if that is longer."""
    return max(period_s, server.step_s()) - (server.demote_s(tier, 0) + server.reload_s(tier, 0))

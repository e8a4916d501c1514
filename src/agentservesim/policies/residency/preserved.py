"""Contexts that are preserved while their tools run, and when to decide on them again."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from agentservesim.policies.protocols import ChainView, PinBroken
from agentservesim.policies.residency.idleness import Session, session_of


@dataclass(slots=True)
class Preserved:
    """A context, how long it takes to compute it alone, and whether its pin holds.

    It is decided on again at `look_s`, or when the `fewest` tokens seen to run since are fewer than `enough`.
    """

    chain: ChainView
    recompute_s: float
    pinned: bool = True
    look_s: float = 0.0
    enough: float = 0.0
    fewest: float = inf

    @property
    def due_s(self) -> float:
        """From when on it is to be decided on."""
        return 0.0 if self.fewest < self.enough else self.look_s

    def discarding(self, running: float) -> float:
        """Token-seconds wasted by computing it again in chunks, during which as many other tokens run."""
        return self.recompute_s * (self.chain.tokens / 2 + running)

    def good_for(self, margin: float, now_s: float, running: float, least_s: float) -> None:
        """Discarding it wastes `margin` token-seconds more than preserving it.

        Half of them are gone when the gap has gone on for so long, the other half when so much less runs.
        """
        self.look_s = now_s + max(least_s, margin / 2 / max(self.chain.tokens, 1))
        self.enough = running - margin / 2 / max(self.recompute_s, 1e-12)


class Shelf(dict[Session, Preserved]):
    """What is preserved on one instance."""

    def put(self, chain: ChainView, recompute_s: float, running: int) -> Preserved:
        """A turn ended, `running` tokens still run, and its context is preserved to begin with."""
        for one in self.values():
            if running < one.fewest:
                one.fewest = running
        one = self[session_of(chain)] = Preserved(chain, recompute_s)
        return one

    def broken(self, event: PinBroken) -> None:
        """A pin gave way: it is to be decided on at once."""
        one = self.get((event.program_id, event.session_id))
        if one is not None:
            one.pinned, one.look_s = False, 0.0

    @property
    def due_s(self) -> float | None:
        """From when on something is to be decided on; None if nothing ever is."""
        return min([one.due_s for one in self.values()], default=None)

    def due(self, now_s: float) -> list[Preserved]:
        """What is to be decided on now."""
        return [one for one in self.values() if one.due_s <= now_s]

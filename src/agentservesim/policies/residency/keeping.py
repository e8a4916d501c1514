"""How long the KV of a session can be found that nobody holds: learnt from those that come back."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from agentservesim.policies.protocols import ChainView, Event, GapEnded, TurnAdmitted


@dataclass(slots=True)
class Away:
    """A session that was let go: how many tokens, since when, and for how long."""

    tokens: int
    since_s: float
    gap_s: float = 0.0


class KeepingTime:
    """The estimate `s`: infinite at first; who is back and contradicts it corrects it by the share `step`."""

    def __init__(self, step: float) -> None:
        self.s = inf
        self._step = step
        self._away: dict[tuple[str, str], Away] = {}

    def let_go(self, chain: ChainView, now_s: float) -> None:
        """A session is not held any longer."""
        self._away[chain.program_id, chain.session_id] = Away(max(chain.tokens, 1), now_s)

    def observe(self, event: Event) -> None:
        """Sessions come back, and half of their context is found or not."""
        if isinstance(event, GapEnded):
            away = self._away.get((event.chain.program_id, event.chain.session_id))
            if away is not None:
                away.gap_s = event.chain.gap_started_s + event.gap_s - away.since_s
        elif isinstance(event, TurnAdmitted):
            away = self._away.pop((event.program_id, event.session_id), None)
            if away is not None:
                self._correct(away, found=2 * event.hit_tokens >= away.tokens)

    def _correct(self, away: Away, found: bool) -> None:
        if found and away.gap_s > self.s:
            self.s *= 1 + self._step
        elif not found and away.gap_s < self.s:
            self.s = away.gap_s if self.s == inf else self.s * (1 - self._step)

"""After how many turns sessions end: learnt from those of programs that ended."""

from __future__ import annotations

from collections import Counter

from agentservesim.policies.protocols import Event, GapEnded, ProgramEnded, TurnAdmitted


class Survival:
    """The share of the sessions that went on after so many turns."""

    def __init__(self) -> None:
        self._turns: dict[str, dict[str, int]] = {}
        self._went_on: Counter[int] = Counter()
        self._ended: Counter[int] = Counter()

    def observe(self, event: Event) -> None:
        """A session went on, or a program ended with all of its sessions."""
        if isinstance(event, GapEnded):
            chain = event.chain
            self._went_on[chain.turns_done] += 1
            self._turns.setdefault(chain.program_id, {})[chain.session_id] = chain.turns_done + 1
        elif isinstance(event, TurnAdmitted):
            self._turns.setdefault(event.program_id, {}).setdefault(event.session_id, 1)
        elif isinstance(event, ProgramEnded):
            self._ended.update(self._turns.pop(event.program_id, {}).values())

    def after(self, turns: int) -> float:
        """Share of the sessions that went on after so many turns; 1 before any was seen there."""
        went_on = self._went_on.get(turns, 0)
        seen = went_on + self._ended.get(turns, 0)
        return went_on / seen if seen else 1.0

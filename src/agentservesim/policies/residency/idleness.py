"""How idle sessions are: the share of their time that they spend outside the engine."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from agentservesim.policies.protocols import ChainView, Event, GapEnded, TurnAdmitted

Session = tuple[str, str]


def session_of(chain: ChainView) -> Session:
    """Program id and session id."""
    return chain.program_id, chain.session_id


class Span(NamedTuple):
    """A session in its gap: time in the tools of its last calls but the present one, time in the engine of
    them all, and of the present one."""

    acting_s: float
    reasoning_s: float
    busy_s: float


class Idleness:
    """Keeps the clocks: a session reasons from the end of its gap on, less what it waits for admission."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._calls: dict[Session, deque[tuple[float, float]]] = {}
        self._ready_s: dict[Session, float] = {}
        self._waits_s: dict[Session, float] = {}
        self._gaps: dict[Session, Span] = {}

    def in_gap(self, session: Session) -> bool:
        """Whether the session's gap has begun and not ended."""
        return session in self._gaps

    def begins(self, chain: ChainView) -> None:
        """A gap has begun."""
        session = session_of(chain)
        since_s = self._ready_s.pop(session, chain.arrival_s) + self._waits_s.pop(session, 0.0)
        busy_s = max(chain.gap_started_s - since_s, 0.0)
        calls = self._calls.get(session, ())
        acting_s, reasoning_s = sum([gap for gap, _ in calls]), sum([busy for _, busy in calls])
        self._gaps[session] = Span(acting_s, reasoning_s + busy_s, busy_s)

    def observe(self, event: Event) -> None:
        """Ends of gaps, and waits."""
        if isinstance(event, GapEnded):
            session = session_of(event.chain)
            calls = self._calls.setdefault(session, deque(maxlen=self._window - 1))
            gap = self._gaps.pop(session, None)
            calls.append((event.gap_s, 0.0 if gap is None else gap.busy_s))
            self._ready_s[session] = event.chain.gap_started_s + event.gap_s
        elif isinstance(event, TurnAdmitted):
            session = event.program_id, event.session_id
            self._waits_s[session] = self._waits_s.get(session, 0.0) + event.wait_s

    def of(self, chain: ChainView, now_s: float) -> float:
        """Time in tools over time in tools and in the engine: the last calls, the present one included. 0 for
        a session that is in no gap."""
        span = self._gaps.get(session_of(chain))
        if span is None:
            return 0.0
        acting_s = span.acting_s + (now_s - chain.gap_started_s)
        total = acting_s + span.reasoning_s
        return acting_s / total if total else 0.0

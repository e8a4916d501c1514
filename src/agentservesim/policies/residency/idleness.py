"""How idle sessions are: the share of their time that they spend outside the engine."""

from __future__ import annotations

from collections import deque

from agentservesim.policies.protocols import ChainView, Event, GapEnded, TurnAdmitted

Session = tuple[str, str]


def session_of(chain: ChainView) -> Session:
    """Program id and session id."""
    return chain.program_id, chain.session_id


class Idleness:
    """Keeps the clocks: a session reasons from the end of its gap on, less what it waits for admission."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._calls: dict[Session, deque[tuple[float, float]]] = {}
        self._ready_s: dict[Session, float] = {}
        self._waits_s: dict[Session, float] = {}
        self._busy_s: dict[Session, float] = {}

    def in_gap(self, session: Session) -> bool:
        """Whether the session's gap has begun and not ended."""
        return session in self._busy_s

    def begins(self, chain: ChainView) -> None:
        """A gap has begun."""
        session = session_of(chain)
        since_s = self._ready_s.pop(session, chain.arrival_s) + self._waits_s.pop(session, 0.0)
        self._busy_s[session] = max(chain.gap_started_s - since_s, 0.0)

    def observe(self, event: Event) -> None:
        """Ends of gaps, and waits."""
        if isinstance(event, GapEnded):
            session = session_of(event.chain)
            calls = self._calls.setdefault(session, deque(maxlen=self._window))
            calls.append((event.gap_s, self._busy_s.pop(session, 0.0)))
            self._ready_s[session] = event.chain.gap_started_s + event.gap_s
        elif isinstance(event, TurnAdmitted):
            session = event.program_id, event.session_id
            self._waits_s[session] = self._waits_s.get(session, 0.0) + event.wait_s

    def of(self, chain: ChainView, now_s: float) -> float:
        """Time in tools over time in tools and in the engine: the last calls, the present one included."""
        session = session_of(chain)
        calls = list(self._calls.get(session, ()))
        if session in self._busy_s:
            calls.append((now_s - chain.gap_started_s, self._busy_s[session]))
        acting = sum(gap for gap, _ in calls[-self._window :])
        total = acting + sum(busy for _, busy in calls[-self._window :])
        return acting / total if total else 0.0

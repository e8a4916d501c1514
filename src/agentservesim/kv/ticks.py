"""When a residency policy looks at the sessions of one instance by itself."""

from __future__ import annotations

from collections.abc import Callable

from agentservesim.kernel import Event, Kernel
from agentservesim.kv.advice import Advice
from agentservesim.model import to_ps, to_s

TICK = -(1 << 19)
"""Priority, to which the index is added: at one time steps end first, then policies look, one instance after
the other, then requests arrive."""


class Ticks:
    """The multiples of `tick_s` that a policy wants, of those behind the time: `tick` is called at the first.

    A policy that does not say which it wants is ticked for the whole fleet at once, elsewhere.
    """

    def __init__(self, index: int, kernel: Kernel, advice: Advice, tick: Callable[[], None]) -> None:
        self._index = index
        self._kernel = kernel
        self._advice = advice
        self._tick = tick
        self._next_s: float | None = None
        self._event: Event | None = None
        self._last_ps = 0

    def heard(self) -> None:
        """The policy heard or said something: it may want another tick next."""
        if not self._advice.names_ticks:
            return
        next_s = self._advice.next_tick_s(self._index)
        if next_s == self._next_s:
            return
        if self._event is not None:
            self._kernel.cancel(self._event)
        self._next_s, self._event = next_s, None
        if next_s is not None:
            period, now = self._advice.tick_ps, self._kernel.now
            at = max(to_ps(next_s), now) // period * period
            # In seconds, as the policy will see it.
            if at < now or at == self._last_ps or to_s(at) < next_s:
                at += period
            self._event = self._kernel.tick_at(at, self._due, TICK + self._index)

    def _due(self) -> None:
        self._next_s = self._event = None
        self._last_ps = self._kernel.now
        self._tick()
        self.heard()

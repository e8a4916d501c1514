"""Clock and event heap.

Events run in one total order: (time, priority, id). The id counts up as events are scheduled, so
that two events of equal time and priority run in the order in which they were asked for, and a run
is the same on every platform. Callbacks, not coroutines: an event is a function and one argument
(see docs/adr). The kernel knows nothing of what it is used for.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

Action = Callable[[Any], None]
Event = list[Any]
"""[time, priority, id, action, argument]; the action of a cancelled event is None."""


class Kernel:
    """A clock with a heap of pending events. Time is an integer; its unit is the user's choice."""

    __slots__ = ("_cancelled", "_heap", "_next_id", "_ticks", "_wanted", "now")

    def __init__(self) -> None:
        self.now = 0
        self._heap: list[Event] = []
        self._next_id = 0
        self._cancelled = 0
        self._ticks = 0
        self._wanted: list[Callable[[], bool]] = []

    def at(self, time: int, action: Action, argument: Any = None, priority: int = 0) -> Event:
        """Run `action(argument)` at `time`; of equal times the lowest priority runs first.

        Returns the event, which `cancel` takes. Raises ValueError for a time in the past.
        """
        if time < self.now:
            raise ValueError(f"cannot schedule at {time}: the clock is at {self.now}")
        event: Event = [time, priority, self._next_id, action, argument]
        self._next_id += 1
        heappush(self._heap, event)
        return event

    def after(self, delay: int, action: Action, argument: Any = None, priority: int = 0) -> Event:
        """Run `action(argument)` when `delay` has passed."""
        return self.at(self.now + delay, action, argument, priority)

    def every(
        self, period: int, action: Callable[[], None], wanted: Callable[[], bool] | None = None
    ) -> None:
        """Run `action()` whenever another `period` has passed.

        Ticks do not keep a run alive: it is over when nothing else is pending, unless one is `wanted()`.
        """
        if wanted is not None:
            self._wanted.append(wanted)

        def tick() -> None:
            action()
            self.tick_at(self.now + period, tick)

        self.tick_at(self.now + period, tick)

    def tick_at(self, time: int, action: Callable[[], None], priority: int = 0) -> Event:
        """Run `action()` at `time`, unless the run is over by then; returns the event, for `cancel`."""
        self._ticks += 1
        return self.at(time, self._tick, action, priority)

    def _tick(self, action: Callable[[], None]) -> None:
        self._ticks -= 1
        action()

    @property
    def idle(self) -> bool:
        """Whether nothing is pending but ticks."""
        return len(self._heap) == self._cancelled + self._ticks

    @property
    def _over(self) -> bool:
        """Whether only ticks are left, and nobody wants them."""
        return self.idle and not any(wanted() for wanted in self._wanted)

    def cancel(self, event: Event) -> None:
        """Forget a pending event. Cancelling twice, or after it ran, has no effect."""
        if event[3] is not None:
            self._ticks -= event[3] == self._tick
            event[3] = None
            self._cancelled += 1

    @property
    def pending(self) -> int:
        """Events that are still to run."""
        return sum(event[3] is not None for event in self._heap)

    def peek(self) -> int | None:
        """The time of the next event, or None."""
        heap = self._heap
        while heap and heap[0][3] is None:
            heappop(heap)
            self._cancelled -= 1
        return heap[0][0] if heap else None

    def step(self) -> bool:
        """Run the next event; False when there is none."""
        heap = self._heap
        while heap and (len(heap) > self._cancelled + self._ticks or not self._over):
            event = heappop(heap)
            action = event[3]
            if action is not None:
                event[3] = None
                self.now = event[0]
                action(event[4])
                return True
            self._cancelled -= 1
        return False

    def run(self, until: int | None = None) -> None:
        """Run events until none is left, or until the next one lies after `until`."""
        if until is not None:
            while (time := self.peek()) is not None and time <= until and self.step():
                pass
            self.now = max(self.now, until)
            return
        heap = self._heap
        while heap and (len(heap) > self._cancelled + self._ticks or not self._over):
            event = heappop(heap)
            action = event[3]
            if action is not None:
                event[3] = None
                self.now = event[0]
                action(event[4])
            else:
                self._cancelled -= 1

"""Steps on the clock: when they are scheduled, when they end, and how many are leapt over.

A clock ticks. At a tick the step that just ended is settled (its last requests are finished),
and the next step is scheduled. With synchronous scheduling that step starts at once; with
asynchronous scheduling one step is always scheduled ahead: step n+1 is decided when step n
starts, so a request that arrives during step n first runs in step n+2. A pipeline of several stages has
as many steps in flight, each in another stage, and one more with asynchronous scheduling.

When only decode steps lie ahead and nothing in them is left to decide, the clock plans a leap:
it computes at which times it would tick and sleeps until the last. A request that arrives
meanwhile cuts the leap short at the next tick.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import isqrt
from typing import Protocol

from agentservesim.engine.request import Request
from agentservesim.engine.step import Requests, Step
from agentservesim.kernel import Event, Kernel
from agentservesim.model import Listener

SETTLE, SCHEDULE = -(1 << 20), 1
"""Priorities: at one time steps end first, then requests arrive (0), then steps are scheduled.

Each clock adds its index, so that ties between clocks do not depend on how many ticks each of them
leapt over.
"""


class Leap:
    """Decode steps that are certain to come, and the ticks at which they would be scheduled.

    Tick i (from 1) schedules step i. The first tick is at `tick`. With synchronous scheduling a
    step starts at its tick. With asynchronous scheduling it starts one tick later, because the step
    before it is still to run: the one that is scheduled already takes `second` picoseconds.
    Step i takes `cost + (i - 1) * growth`.

    Requests that end with the last step are not settled at the tick behind it when a step is always
    scheduled ahead, only at the one after that. `coda` says that this first tick, which no event
    stands for, is part of the leap too.
    """

    __slots__ = ("coda", "cost", "growth", "second", "steps", "tick")

    def __init__(self, steps: int, tick: int, second: int, cost: int, growth: int, coda: bool) -> None:
        self.coda = coda
        self.steps = steps
        self.tick = tick
        self.second = second
        self.cost = cost
        self.growth = growth

    def span(self, steps: int) -> int:
        """Duration of the first `steps` steps together."""
        return steps * self.cost + self.growth * (steps * (steps - 1) // 2)

    def tick_at(self, index: int) -> int:
        """Time of tick `index`, at most steps + 1."""
        if not self.second:
            return self.tick + self.span(index - 1)
        return self.tick if index == 1 else self.tick + self.second + self.span(index - 2)

    def start_of(self, index: int) -> int:
        """When step `index` starts."""
        return self.tick_at(index + 1) if self.second else self.tick_at(index)

    def duration_of(self, index: int) -> int:
        """How long step `index` takes."""
        return self.cost + self.growth * (index - 1)

    def ticks_before(self, time: int) -> int:
        """Number of the leap's ticks that lie before `time`."""
        if time <= self.tick:
            return 0
        ticks, left = 1, time - self.tick
        if self.second:
            if left <= self.second:
                return min(1, self.steps)
            ticks, left = 2, left - self.second
        return min(ticks + self._whole_steps(left), self.steps)

    def end_before(self, time: int) -> None:
        """Leave out the steps that would be scheduled at `time` or later."""
        steps = self.ticks_before(time)
        if steps < self.steps:
            self.steps, self.coda = steps, False

    def _whole_steps(self, span: int) -> int:
        """The largest n with the first n steps together shorter than `span` (span >= 1)."""
        cost, growth = self.cost, self.growth
        if growth == 0:
            return (span - 1) // cost
        b = 2 * cost - growth
        n = max((isqrt(b * b + 8 * growth * span) - b) // (2 * growth), 0)
        while self.span(n) >= span:
            n -= 1
        while self.span(n + 1) < span:
            n += 1
        return n

    def drop(self, steps: int, start: int, duration: int) -> None:
        """Forget the first `steps` steps: they were taken, the last one with this start and duration."""
        if self.second:
            self.tick, self.second = start, duration
        else:
            self.tick = start + duration
        self.cost = duration + self.growth
        self.steps -= steps


class Decider(Protocol):
    """Who decides what a clock's steps are: a scheduler, or those of a wave together.

    `last_end_ps` is when the step before the one to decide ends, and `in_flight` are the steps that have
    not, oldest first.
    """

    last_end_ps: int
    in_flight: Sequence[Step]

    def schedule(self, now: int, one_by_one: bool) -> Step | None:
        """Decide and price the next step; None if nothing can be scheduled."""

    def open_valve(self) -> bool:
        """Nothing runs: make room by force for whoever waits; False if there is no way to."""

    def steps_ahead(self) -> int:
        """How many decode steps are certain to come next if no request arrives."""

    def decides_again_ps(self) -> int | None:
        """When there is something to decide in spite of that, if there will be."""

    def cost_ahead(self) -> tuple[int, int]:
        """Duration of the first of the `steps_ahead`, and its growth from each to the next."""

    def ends_after(self, steps: int) -> bool:
        """Whether a request ends with the last of so many decode steps."""

    def is_plain(self, steps: int) -> bool:
        """Whether the step behind so many decode steps asks nothing of pins, lower tiers and policy."""

    def leap(self, steps: int, at: int) -> Requests:
        """Take some of the `steps_ahead`, the last of which is decided at a time.

        Returns the requests that end with it.
        """


class Clock(ABC):
    """Steps in flight, and the event at which the oldest of them ends.

    `prefill_busy_ps` and `decode_busy_ps` are the time that the accelerators of all stages, one after the
    other, spent in steps with and without prefill.
    """

    def __init__(
        self,
        index: int,
        kernel: Kernel,
        decider: Decider,
        *,
        async_scheduling: bool,
        stages: int = 1,
        leap: bool = True,
        listener: Listener | None = None,
    ) -> None:
        self.index = index
        self.steps = 0
        self.leaps = 0
        self.prefill_busy_ps = 0
        self.decode_busy_ps = 0
        self._kernel = kernel
        self._decider = decider
        self._leaping = leap
        self._listener = listener if listener is not None and listener.wants_steps else None
        self._depth = stages + 1 if async_scheduling else stages
        self._stages = [0] * stages
        self._flight: list[Step] = []
        self._tick: Event | None = None
        self._deciding = False
        self._plan: Leap | None = None

    @property
    def now_ps(self) -> int:
        """The time."""
        return self._kernel.now

    def wake(self) -> None:
        """See to it that the next step is decided no later than the present one ends."""
        self.catch_up()
        if self._plan is not None:
            self._kernel.cancel(self._tick)  # type: ignore[arg-type]
            self._tick = self._kernel.at(self._plan.tick, self._settle, None, SETTLE + self.index)
            self._plan = None
        if self._tick is None and not self._deciding:
            self._tick = self._kernel.at(self._kernel.now, self._schedule, None, SCHEDULE + self.index)

    def catch_up(self) -> None:
        """Take the steps of the leap in progress that are due, so that the state is that of now."""
        plan = self._plan
        if plan is not None:
            self._commit(plan, plan.ticks_before(self._kernel.now))
            if plan.coda and not plan.steps and plan.tick < self._kernel.now:
                self._take_coda(plan)

    @property
    def leaping(self) -> bool:
        """Whether a leap is in progress."""
        return self._plan is not None

    @property
    def steps_due(self) -> int:
        """Steps of the leap in progress that are due and not taken; if all of them are, all are taken."""
        plan = self._plan
        if plan is None:
            return 0
        due = plan.ticks_before(self._kernel.now)
        if due < plan.steps:
            return due
        self.catch_up()
        return 0

    @abstractmethod
    def _finish(self, request: Request) -> None:
        """The last token of a request is out."""

    @abstractmethod
    def _record(self, step: Step, listener: Listener) -> None:
        """Tell the listener of a step that was just decided."""

    @abstractmethod
    def _record_leap(self, plan: Leap, steps: int, listener: Listener) -> None:
        """Tell the listener of the first `steps` steps of a leap, which are about to be taken."""

    # ---- ticks --------------------------------------------------------------------------------

    def _settle(self, _: object) -> None:
        """A tick: a step has ended, and its last requests with it."""
        kernel = self._kernel
        self._tick = None
        self._deciding = True
        if self._plan is not None:
            self._commit(self._plan, self._plan.steps)
            if self._plan.coda:
                self._take_coda(self._plan)
            self._plan = None
        self._end(self._flight.pop(0))
        self._deciding = False
        if kernel.peek() == kernel.now:
            self._tick = kernel.at(kernel.now, self._schedule, None, SCHEDULE + self.index)
        else:
            self._schedule(None)

    def _schedule(self, _: object) -> None:
        """Fill the pipeline, then sleep until the next tick."""
        self._tick = None
        self._deciding = True
        self._fill(self._kernel.now)
        while not self._flight and self._decider.open_valve():
            self._fill(self._kernel.now)
        self._deciding = False
        if self._flight:
            self._sleep()

    def _fill(self, now: int) -> None:
        flight = self._flight
        while len(flight) < self._depth:
            start = flight[-1].start_ps + flight[-1].duration_ps if flight else now
            self._decider.last_end_ps = start
            self._decider.in_flight = flight
            step = self._decide(now)
            if step is None:
                break
            step.start_ps = start
            if step.chunks:
                self.prefill_busy_ps += step.duration_ps
            else:
                self.decode_busy_ps += step.duration_ps
            if len(self._stages) > 1:
                self._pass_stages(step, now)
            if step.load_ps:
                step.duration_ps = max(step.duration_ps, step.load_ps - step.start_ps) + step.first_layer_ps
            flight.append(step)
            if step.duration_ps:
                self.steps += 1
            if step.first:
                end = step.start_ps + step.duration_ps
                for request in step.first:
                    request.first_token_ps = end
                    request.prefill_ps = end - request.arrival_ps - request.queue_ps - request.transfer_ps
                    if request.on_first_token is not None:
                        request.on_first_token(request)
            if self._listener is not None and step.duration_ps:
                self._record(step, self._listener)

    def _pass_stages(self, step: Step, now: int) -> None:
        """Send a step through a pipeline: an equal part of its time in each stage, behind the step before
        it there, and no sooner than its rows' last tokens are out."""
        rows = step.rows
        assert rows is not None
        part = -(-step.duration_ps // len(self._stages))
        step.start_ps = at = max(now, rows.ends_ps, self._stages[0])
        for stage, free in enumerate(self._stages):
            at = self._stages[stage] = max(at, free) + part
        rows.ends_ps = at
        step.duration_ps = at - step.start_ps

    def _decide(self, now: int) -> Step | None:
        return self._decider.schedule(now, not self._leaping)

    def _end(self, step: Step) -> None:
        for request in step.ending:
            request.finish_ps = self._kernel.now
            self._finish(request)

    def _sleep(self) -> None:
        """Wake up when the oldest step ends, or behind the leap that can be planned."""
        flight, decider = self._flight, self._decider
        tick = flight[0].start_ps + flight[0].duration_ps
        if self._leaping and len(flight) == self._depth and not (flight[0].ending or flight[-1].ending):
            ahead = decider.steps_ahead()
            if ahead > 1:
                second = flight[1].duration_ps if self._depth == 2 else 0
                coda = second > 0 and decider.ends_after(ahead) and decider.is_plain(ahead)
                plan = Leap(ahead, tick, second, *decider.cost_ahead(), coda)
                until = decider.decides_again_ps()
                if until is not None:
                    plan.end_before(until)
                if plan.steps:
                    self._plan = plan
                    tick = plan.tick_at(plan.steps + 1)
                    if plan.coda:
                        tick += plan.duration_of(plan.steps)
        self._tick = self._kernel.at(tick, self._settle, None, SETTLE + self.index)

    # ---- leaps --------------------------------------------------------------------------------

    def _commit(self, plan: Leap, steps: int) -> None:
        """Take the first `steps` of the plan; the plan keeps the rest."""
        if steps == 0:
            return
        self.steps += steps
        self.leaps += 1
        self.decode_busy_ps += plan.span(steps)
        if self._listener is not None:
            self._record_leap(plan, steps, self._listener)
        ending = self._decider.leap(steps, plan.tick_at(steps))
        start, duration = plan.start_of(steps), plan.duration_of(steps)
        last = Step(0, start, duration, ending)
        if self._depth == 1:
            self._flight = [last]
        elif steps == 1:
            self._flight = [self._flight[1], last]
        else:
            before = duration - plan.growth
            self._flight = [Step(0, start - before, before), last]
        plan.drop(steps, start, duration)

    def _take_coda(self, plan: Leap) -> None:
        """The tick behind the leap, at which nothing ends."""
        self._plan = None
        self._flight.pop(0)
        self._fill(plan.tick)

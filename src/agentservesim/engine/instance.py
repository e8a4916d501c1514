"""One engine on the clock: when it schedules, when steps end, and how many it leaps over.

An instance ticks. At a tick the step that just ended is settled (its last requests are finished),
and the next step is scheduled. With synchronous scheduling that step starts at once; with
asynchronous scheduling one step is always scheduled ahead: step n+1 is decided when step n
starts, so a request that arrives during step n first runs in step n+2.

When only decode steps lie ahead and nothing in them is left to decide, the instance plans a leap:
it computes at which times it would tick and sleeps until the last. A request that arrives
meanwhile cuts the leap short at the next tick.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt

from agentservesim.cost.base import StepTime
from agentservesim.engine.config import EngineConfig
from agentservesim.engine.request import Request
from agentservesim.engine.scheduler import Scheduler
from agentservesim.engine.step import Step
from agentservesim.kernel import Event, Kernel
from agentservesim.model import Listener, StepRecord

SETTLE, SCHEDULE = -(1 << 20), 1
"""Priorities: at one time steps end first, then requests arrive (0), then steps are scheduled.

Each instance adds its index, so that ties between instances do not depend on how many ticks each
of them leapt over.
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

    def _sum(self, steps: int) -> int:
        """Duration of the first `steps` steps together."""
        return steps * self.cost + self.growth * (steps * (steps - 1) // 2)

    def tick_at(self, index: int) -> int:
        """Time of tick `index`, at most steps + 1."""
        if not self.second:
            return self.tick + self._sum(index - 1)
        return self.tick if index == 1 else self.tick + self.second + self._sum(index - 2)

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

    def _whole_steps(self, span: int) -> int:
        """The largest n with the first n steps together shorter than `span` (span >= 1)."""
        cost, growth = self.cost, self.growth
        if growth == 0:
            return (span - 1) // cost
        b = 2 * cost - growth
        n = max((isqrt(b * b + 8 * growth * span) - b) // (2 * growth), 0)
        while self._sum(n) >= span:
            n -= 1
        while self._sum(n + 1) < span:
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


class Instance:
    """A vLLM-like engine: requests in, finished requests out through `on_finish(request)`."""

    def __init__(
        self,
        index: int,
        kernel: Kernel,
        config: EngineConfig,
        num_gpu_blocks: int,
        step_time: StepTime,
        on_finish: Callable[[Request], None],
        *,
        leap: bool = True,
        listener: Listener | None = None,
    ) -> None:
        self.index = index
        self.config = config
        self.scheduler = Scheduler(config, num_gpu_blocks, step_time)
        self.load = 0
        self.steps = 0
        self.leaps = 0
        self._kernel = kernel
        self._on_finish = on_finish
        self._leaping = leap
        self._listener = listener if listener is not None and listener.wants_steps else None
        self._depth = 2 if config.async_scheduling else 1
        self._flight: list[Step] = []
        self._tick: Event | None = None
        self._deciding = False
        self._plan: Leap | None = None

    def submit(self, request: Request) -> None:
        """A request arrives, now."""
        self.load += 1
        request.instance = self.index
        self.wake()
        self.scheduler.add(request)

    def wake(self) -> None:
        """See to it that the next step is decided no later than the present one ends."""
        self.catch_up()
        if self._plan is not None:
            self._kernel.cancel(self._tick)  # type: ignore[arg-type]
            self._tick = self._kernel.at(self._plan.tick, self._settle, None, SETTLE + self.index)
            self._plan = None
        if self._tick is None and not self._deciding:
            self._tick = self._kernel.at(self._kernel.now, self._schedule, None, SCHEDULE + self.index)

    def freed(self) -> None:
        """Blocks are about to be freed from outside: only a waiting request has to be told at once."""
        if self.scheduler.waiting.queue:
            self.wake()
        else:
            self.catch_up()

    def catch_up(self) -> None:
        """Take the steps of the leap in progress that are due, so that the state is that of now."""
        plan = self._plan
        if plan is not None:
            self._commit(plan, plan.ticks_before(self._kernel.now))
            if plan.coda and not plan.steps and plan.tick < self._kernel.now:
                self._take_coda(plan)

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
        if not self._flight and self.scheduler.memory is not None:
            while self.scheduler.waiting.queue and not self._flight and self.scheduler.open_valve():
                self._fill(self._kernel.now)
        self._deciding = False
        if self._flight:
            self._sleep()

    def _fill(self, now: int) -> None:
        flight = self._flight
        while len(flight) < self._depth:
            start = flight[-1].start_ps + flight[-1].duration_ps if flight else now
            self.scheduler.last_end_ps = start
            step = self._decide(now)
            if step is None:
                break
            step.start_ps = start
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
            if self._listener is not None and step.duration_ps:
                self._record(step, self.scheduler.pool.free)

    def _decide(self, now: int) -> Step | None:
        return self.scheduler.schedule(now, not self._leaping)

    def _end(self, step: Step) -> None:
        for request in step.ending:
            self.scheduler.finish(request)
            request.finish_ps = self._kernel.now
            self.load -= 1
            self._on_finish(request)

    def _sleep(self) -> None:
        """Wake up when the oldest step ends, or behind the leap that can be planned."""
        flight = self._flight
        tick = flight[0].start_ps + flight[0].duration_ps
        if self._leaping and len(flight) == self._depth and not (flight[0].ending or flight[-1].ending):
            ahead = self.scheduler.steps_ahead()
            if ahead > 1:
                second = flight[1].duration_ps if self._depth == 2 else 0
                coda = second > 0 and self.scheduler.ends_after(ahead) and self.scheduler.is_plain(ahead)
                self._plan = plan = Leap(ahead, tick, second, *self.scheduler.cost_ahead(), coda)
                tick = plan.tick_at(ahead + 1)
                if coda:
                    tick += plan.duration_of(ahead)
        self._tick = self._kernel.at(tick, self._settle, None, SETTLE + self.index)

    # ---- leaps --------------------------------------------------------------------------------

    def _commit(self, plan: Leap, steps: int) -> None:
        """Take the first `steps` of the plan; the plan keeps the rest."""
        if steps == 0:
            return
        self.steps += steps
        self.leaps += 1
        if self._listener is not None:
            self._record_leap(plan, steps)
        rows = self.scheduler.rows.count
        ending = self.scheduler.leap(steps)
        start, duration = plan.start_of(steps), plan.duration_of(steps)
        last = Step(rows, start, duration, ending)
        if self._depth == 1:
            self._flight = [last]
        elif steps == 1:
            self._flight = [self._flight[1], last]
        else:
            before = duration - plan.growth
            self._flight = [Step(rows, start - before, before), last]
        plan.drop(steps, start, duration)

    def _take_coda(self, plan: Leap) -> None:
        """The tick behind the leap, at which nothing ends."""
        self._plan = None
        self._flight.pop(0)
        self._fill(plan.tick)

    # ---- records ------------------------------------------------------------------------------

    def _record(self, step: Step, free_blocks: int) -> None:
        assert self._listener is not None
        scheduler = self.scheduler
        self._listener.step_done(
            StepRecord(
                instance=self.index,
                start_ps=step.start_ps,
                end_ps=step.start_ps + step.duration_ps,
                prefill_tokens=step.prefill_tokens,
                decode_rows=step.decode_rows,
                running=len(scheduler.running),
                waiting=len(scheduler.waiting),
                free_blocks=free_blocks,
            )
        )

    def _record_leap(self, plan: Leap, steps: int) -> None:
        rows, free = self.scheduler.rows, self.scheduler.pool.free
        for i in range(1, steps + 1):
            step = Step(rows.count, plan.start_of(i), plan.duration_of(i))
            self._record(step, free - rows.blocks_for(i))

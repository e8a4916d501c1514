"""Data-parallel engines that go in step: a wave.

Engines that share the experts of a sparse model meet twice in each of its layers, so none can be ahead
of the others: every step of theirs starts together and lasts as long as the slowest needs. An engine
that has nothing to compute runs a dummy batch of one token beside the others. With all of them idle the
wave ends; the next request starts another.

Rules after vLLM 0.32 (`v1/engine/core.py`, `DPEngineCoreProc`; `v1/worker/dp_utils.py`):

- The ranks agree on a step when they launch it. A rank that launched a dummy is bound to it until the
  others launch theirs, and only then looks for requests: what arrives meanwhile is scheduled one step
  later than on a busy rank.
- Where all batches fit a captured CUDA graph they are padded to the largest of them, else to none
  (`StepTime` does that: `WaveTime.wave_ps`).

Not modelled: vLLM asks only every 16th or 32nd step whether all ranks are idle, and runs dummies till then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agentservesim.cost.base import Batch, WaveTime
from agentservesim.engine.clock import Clock, Leap
from agentservesim.engine.config import EngineConfig
from agentservesim.engine.endpoint import Endpoint
from agentservesim.engine.order import Order
from agentservesim.engine.records import leap_records, step_record
from agentservesim.engine.request import Request
from agentservesim.engine.rows import NEVER
from agentservesim.engine.scheduler import Scheduler
from agentservesim.engine.step import Requests, Step
from agentservesim.kernel import Kernel
from agentservesim.model import InputError, Listener


class WaveStep(Step):
    """A step of all ranks; `parts` are what each of them has in it, None where it has nothing."""

    __slots__ = ("parts",)

    def __init__(self, parts: Sequence[Step | None]) -> None:
        super().__init__()
        self.parts = parts
        busy = [part for part in parts if part is not None]
        self.chunks = [chunk for part in busy for chunk in part.chunks]
        self.first = [request for part in busy for request in part.first]
        self.ending = [request for part in busy for request in part.ending]
        self.load_ps = max(part.load_ps for part in busy)
        self.first_layer_ps = max(part.first_layer_ps for part in busy)


class _OwnRows:
    """The `StepTime` of a rank's scheduler: its own rows alone; what is shared is added by the wave."""

    def __init__(self, time: WaveTime) -> None:
        self.knots = time.knots
        self.longest = time.longest
        self.step_ps: Callable[[Batch], int] = time.rows_ps
        self.growth_ps: Callable[[Batch], int] = time.growth_ps


class WaveScheduler:
    """The schedulers of all ranks, as one that decides steps of them all."""

    def __init__(self, schedulers: Sequence[Scheduler], time: WaveTime) -> None:
        self.last_end_ps = 0
        self.in_flight: Sequence[Step] = ()
        self._schedulers = schedulers
        self._time = time
        self._bound: set[int] = set()
        self._ahead = 0, 0

    def schedule(self, now: int, one_by_one: bool) -> Step | None:
        """Decide the next step of every rank; None if none of them has one."""
        ranks = range(len(self._schedulers))
        parts = [None if rank in self._bound else self._part(rank, now, one_by_one) for rank in ranks]
        if self._bound and not any(parts):
            parts = [self._part(rank, now, one_by_one) for rank in ranks]
        if not any(parts):
            self._bound = set()
            return None
        self._bound = {
            rank for rank in ranks if parts[rank] is None and not self._schedulers[rank].waiting.queue
        }
        step = WaveStep(parts)
        tokens = [0 if part is None else part.decode_rows + part.prefill_tokens for part in parts]
        if any(tokens):
            rows_ps = [0 if part is None else part.duration_ps for part in parts]
            prefill = any(part is not None and part.chunks for part in parts)
            step.duration_ps = self._time.wave_ps(tokens, rows_ps, prefill)
        return step

    def _part(self, rank: int, now: int, one_by_one: bool) -> Step | None:
        scheduler = self._schedulers[rank]
        scheduler.last_end_ps = self.last_end_ps
        part = scheduler.schedule(now, one_by_one)
        while part is None and not scheduler.running and scheduler.open_valve():
            part = scheduler.schedule(now, one_by_one)
        return part

    def open_valve(self) -> bool:
        """Each rank opens its own where nothing of its runs."""
        return False

    def steps_ahead(self) -> int:
        """Decode steps that are certain on every rank, for as long as one and the same is the slowest."""
        ahead, costs = NEVER, []
        for scheduler in self._schedulers:
            if scheduler.rows.count:
                ahead = min(ahead, scheduler.steps_ahead())
            elif scheduler.running or scheduler.waiting.queue:
                return 0
            if ahead < 2:
                return 0
            costs.append(scheduler.cost_ahead() if scheduler.rows.count else (0, 0))
        tokens = [scheduler.rows.count for scheduler in self._schedulers]
        now = [self._time.rank_ps(tokens, rank, cost) for rank, (cost, _) in enumerate(costs)]
        slowest = max(range(len(costs)), key=lambda rank: (now[rank], costs[rank][1]))
        growth = costs[slowest][1]
        for rank, (_, other) in enumerate(costs):
            if other > growth:
                ahead = min(ahead, (now[slowest] - now[rank]) // (other - growth) + 1)
        self._ahead = self._time.wave_ps(tokens, [cost for cost, _ in costs], False), growth
        return ahead

    def decides_again_ps(self) -> int | None:
        """When the order of the requests that wait at a rank may change by itself, if it may."""
        times = [scheduler.decides_again_ps() for scheduler in self._schedulers]
        return min((time for time in times if time is not None), default=None)

    def cost_ahead(self) -> tuple[int, int]:
        """Duration of the first of the `steps_ahead` just asked for, and its growth from each to the next."""
        return self._ahead

    def ends_after(self, steps: int) -> bool:
        """Whether a request ends with the last of so many decode steps."""
        return any(scheduler.ends_after(steps) for scheduler in self._schedulers)

    def is_plain(self, steps: int) -> bool:
        """Whether the step behind so many decode steps asks nothing of pins, lower tiers and policy."""
        return all(scheduler.is_plain(steps) for scheduler in self._schedulers)

    def leap(self, steps: int, at: int) -> Requests:
        """Take some of the `steps_ahead`, the last of which is decided at a time.

        Returns the requests that end with it.
        """
        return [
            request
            for scheduler in self._schedulers
            if scheduler.rows.count
            for request in scheduler.leap(steps, at)
        ]


class Wave(Clock):
    """The clock of data-parallel engines; `ranks` are what requests are submitted to."""

    def __init__(
        self,
        first_index: int,
        kernel: Kernel,
        configs: Sequence[EngineConfig],
        num_gpu_blocks: Sequence[int],
        time: WaveTime,
        on_finish: Callable[[Request], None],
        *,
        order: Order | None = None,
        leap: bool = True,
        listener: Listener | None = None,
    ) -> None:
        """Ranks have indices from `first_index` on. Raises InputError where they do not schedule alike."""
        asynchronous = {config.async_scheduling for config in configs}
        if len(asynchronous) > 1:
            raise InputError("async_scheduling: the engines of a wave must all have it on, or all off")
        if any(config.pipeline_parallel_size > 1 for config in configs):
            raise InputError("pipeline_parallel_size: engines that go in step have one stage each")
        own = _OwnRows(time)
        self.ranks = [
            Rank(first_index + rank, self, config, Scheduler(config, blocks, own, order))
            for rank, (config, blocks) in enumerate(zip(configs, num_gpu_blocks, strict=True))
        ]
        self._first_index = first_index
        self._on_finish = on_finish
        decider = WaveScheduler([rank.scheduler for rank in self.ranks], time)
        super().__init__(
            first_index, kernel, decider, async_scheduling=asynchronous.pop(), leap=leap, listener=listener
        )

    def _finish(self, request: Request) -> None:
        self.ranks[request.instance - self._first_index].release(request)
        self._on_finish(request)

    def _record(self, step: Step, listener: Listener) -> None:
        assert isinstance(step, WaveStep)
        end_ps = step.start_ps + step.duration_ps
        for rank, part in zip(self.ranks, step.parts, strict=True):
            record = step_record(rank.index, rank.scheduler, part or Step(), step.start_ps, end_ps)
            listener.step_done(record)

    def _record_leap(self, plan: Leap, steps: int, listener: Listener) -> None:
        for rank in self.ranks:
            for record in leap_records(rank.index, rank.scheduler, plan, steps):
                listener.step_done(record)


class Rank(Endpoint):
    """One engine of a wave."""

    def __init__(self, index: int, wave: Wave, config: EngineConfig, scheduler: Scheduler) -> None:
        self.index = index
        self.config = config
        self.scheduler = scheduler
        self._wave = wave

    @property
    def now_ps(self) -> int:
        """The time."""
        return self._wave.now_ps

    @property
    def steps(self) -> int:
        """Steps so far, those with a dummy batch included."""
        return self._wave.steps

    @property
    def leaps(self) -> int:
        """Runs of steps taken at once so far."""
        return self._wave.leaps

    @property
    def prefill_busy_ps(self) -> int:
        """Time spent in steps in which some rank has prefill."""
        return self._wave.prefill_busy_ps

    @property
    def decode_busy_ps(self) -> int:
        """Time spent in the other steps."""
        return self._wave.decode_busy_ps

    @property
    def leaping(self) -> bool:
        """Whether a leap of the wave is in progress."""
        return self._wave.leaping

    @property
    def steps_due(self) -> int:
        """Decode steps of the leap in progress that are due and not taken, and with which nothing ends."""
        return self._wave.steps_due

    def wake(self) -> None:
        """Wake the wave."""
        self._wave.wake()

    def catch_up(self) -> None:
        """Let the wave catch up."""
        self._wave.catch_up()

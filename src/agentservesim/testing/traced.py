"""The engine as the scheduler oracle would see it: its step times, its names of blocks, its step records."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Any

from agentservesim.cost.base import Batch
from agentservesim.engine.config import EngineConfig
from agentservesim.engine.instance import Instance
from agentservesim.engine.order import Order
from agentservesim.engine.request import Request
from agentservesim.engine.step import Step
from agentservesim.kernel import Kernel
from agentservesim.kv.pool import Holding
from agentservesim.model import InputError, Path, Segment, to_ps, to_s
from agentservesim.testing.oracle_workload import OracleRequest, OracleWorkload

Record = dict[str, Any]
Block = tuple[Segment, int]


class AffineStepTime:
    """The oracle's step time: base + prefill tokens + decode rows + context tokens, each times a factor.

    `counted` is (prefill tokens, decode rows, context tokens) of the step, as the oracle counts them.
    """

    knots = (0,)
    longest = 0

    def __init__(self, factors_s: Iterable[float]) -> None:
        padded = [*factors_s, 0.0, 0.0, 0.0, 0.0]
        self._factors = [to_ps(x) for x in padded[:4]]
        self.counted = (0, 0, 0)

    def step_ps(self, batch: Batch) -> int:
        """Time of the step that was counted last."""
        base, *factors = self._factors
        return base + sum(f * n for f, n in zip(factors, self.counted, strict=True))

    def growth_ps(self, batch: Batch) -> int:
        """Every row's context grows by one."""
        return batch.rows * self._factors[3]


class RecordedStepTime(AffineStepTime):
    """Step times of a real run, one after the other; 0 behind the end of the recording."""

    def __init__(self, seconds: Iterable[float]) -> None:
        super().__init__(())
        self._times = iter([to_ps(x) for x in seconds])

    def step_ps(self, batch: Batch) -> int:
        """The next recorded time."""
        return next(self._times, 0)


class BlockLabels:
    """Names blocks as the oracle does: "<a request of the step that holds the tokens>:<index>"."""

    def __init__(self, workload: OracleWorkload, block_size: int) -> None:
        self._requests = workload.requests
        self._size = block_size
        self._names: dict[Block, str] = {}
        self._events: list[tuple[Holding, int, int] | tuple[Segment, int, int]] = []

    def hashed(self, holding: Holding, first: int, end: int) -> None:
        """Blocks became findable."""
        self._events.append((holding, first, end))

    def evicted(self, segment: Segment, first: int, end: int) -> None:
        """Blocks were taken away, the last one first."""
        self._events.append((segment, first, end))

    def drain(
        self, scheduled: list[str], alive: dict[str, int], owner: dict[int, str]
    ) -> tuple[int, list[str]]:
        """Blocks stored, and labels of those evicted, since the last call.

        scheduled: ids of the step's requests; alive: tokens known of each unfinished request; owner:
        whose a holding is.
        """
        stored, gone = 0, []
        for subject, first, end in self._events:
            if isinstance(subject, Segment):
                gone += [self._names.get((subject, i), "?") for i in range(end - 1, first - 1, -1)]
                continue
            stored += end - first
            tokens = self._requests[owner[id(subject)]].tokens[first * self._size : end * self._size]
            shown = self._index_behind(subject.path, first)
            name = self._finder(tokens, shown * self._size, scheduled, alive)
            for index in range(first, end):
                block = segment_of(subject.path, index, self._size), index
                self._names[block] = f"{name}:{shown + index - first}"
        self._events.clear()
        return stored, gone

    def _index_behind(self, path: Path, first: int) -> int:
        """The index that the oracle takes `first` for: one more than its parent's, if that has a name."""
        if first == 0:
            return 0
        parent = self._names.get((segment_of(path, first - 1, self._size), first - 1))
        return 0 if parent is None else int(parent.rsplit(":", 1)[1]) + 1

    def forget(self) -> None:
        """Drop what happened since the last drain, unnamed."""
        self._events.clear()

    def _finder(self, tokens: list[int], start: int, scheduled: list[str], alive: dict[str, int]) -> str:
        for name in scheduled:
            end = min(start + len(tokens), alive.get(name, 0))
            if self._requests[name].tokens[start:end] == tokens:
                return name
        return f"tok{tokens[:1]}"


def segment_of(path: Path, block: int, block_size: int) -> Segment:
    """The segment that names a full block: the one its last token lies in."""
    last = (block + 1) * block_size - 1
    return next(segment for segment, end in path if end > last)


class TracedInstance(Instance):
    """An instance that takes its arrivals from a workload and writes down every step."""

    def __init__(
        self,
        workload: OracleWorkload,
        config: EngineConfig,
        num_blocks: int,
        step_time: AffineStepTime,
        order: Order | None,
        at_once: bool,
    ) -> None:
        kernel = Kernel()
        super().__init__(0, kernel, config, num_blocks, step_time, self._finished, order=order, leap=False)
        self.records: list[Record] = []
        self._at_once = at_once
        self._time = step_time
        self._caching = config.enable_prefix_caching
        self._due: list[tuple[int, int, OracleRequest]] = []
        self._by_step: list[tuple[int, int, OracleRequest]] = []
        self._children: dict[str, list[OracleRequest]] = {}
        self._alive: dict[str, Request] = {}
        self._owner: dict[int, str] = {}
        self._arrived: list[str] = []
        self._hole: list[str] | None = None
        self._number = 0
        self._ended: list[OracleRequest] = []
        self._workload = workload
        self._labels = BlockLabels(workload, config.block_size)
        self._open: list[Record] = []
        self._draft: Record = {}
        scheduler = self.scheduler
        scheduler.on_admit, scheduler.on_preempt, scheduler.on_step = self._admit, self._preempt, self._count
        scheduler.pool.on_hash, scheduler.pool.on_evict = self._labels.hashed, self._labels.evicted
        for request in workload.requests.values():
            spec = request.spec
            if "after" in spec:
                self._children.setdefault(spec["after"], []).append(request)
            elif "arrival_step" in spec:
                self._by_step.append((spec["arrival_step"], request.order, request))
            else:
                self._arrive_at(to_ps(spec.get("arrival_time", 0.0)), request)
        heapq.heapify(self._by_step)

    def run(self) -> list[Record]:
        """All step records. Raises InputError if requests are left that can never run."""
        kernel = self._kernel
        if self._by_step and self._by_step[0][0] <= 0:
            self.wake()
        while True:
            if kernel.peek() is None:
                if not self._by_step:
                    break
                self.steps = self._number = max(self.steps, self._by_step[0][0])
                self.wake()
            kernel.step()
        if self._alive:
            raise InputError(f"deadlock: {next(iter(self._alive))} cannot be scheduled")
        return self.records

    # ---- arrivals -----------------------------------------------------------------------------

    def _arrive_at(self, time: int, request: OracleRequest) -> None:
        self._kernel.at(max(time, self._kernel.now), self._fall_due, request, request.order - (1 << 19))

    def _fall_due(self, request: OracleRequest) -> None:
        heapq.heappush(self._due, (self._kernel.now, request.order, request))
        self.wake()

    def _release(self, now: int) -> None:
        while self._by_step and self._by_step[0][0] <= self.steps:
            _, order, request = heapq.heappop(self._by_step)
            heapq.heappush(self._due, (now, order, request))
        while self._due:
            _, _, due = heapq.heappop(self._due)
            arrived = Request(due.turn, now)
            self._alive[due.id] = arrived
            self._owner[id(arrived.holding)] = due.id
            self._arrived.append(due.id)
            self.scheduler.add(arrived, now)

    # ---- what happens in a step ---------------------------------------------------------------

    def _admit(self, request: Request, hit_tokens: int) -> None:
        again = request.preemptions > 0
        self._draft["admitted"].append([request.id, hit_tokens, "resumed" if again else "new"])
        if self._caching:
            self._draft["pq" if again else "q"] += request.known
            self._draft["ph" if again else "h"] += hit_tokens

    def _preempt(self, request: Request) -> None:
        self._draft["preempted"].append(request.id)

    def _count(self, step: Step) -> None:
        chunks = dict(zip(step.prefills, step.chunks, strict=True))
        scheduled, prefill, decode, context = [], 0, 0, 0
        for request in self.scheduler.running:
            if request.holding.catch_up is not None:
                request.holding.catch_up()
            if request in chunks:
                new, start = chunks[request]
                last = new == 1 and start >= request.prompt_tokens and start + 2 >= request.known
            elif request.in_rows:
                new, start, last = 1, self.scheduler.rows.computed(request) - 1, True
            else:
                continue
            scheduled.append([request.id, start, new])
            prefill, decode = (prefill, decode + 1) if last else (prefill + new, decode)
            context += start + new
        self._time.counted = (prefill, decode, context)
        self._draft.update(sched=scheduled, prefill_tokens=prefill, decode_tokens=decode, ctx_tokens=context)

    def _decide(self, now: int) -> Step | None:
        self._release(now)
        scheduler = self.scheduler
        draft = self._draft = {"admitted": [], "preempted": [], "sched": [], "q": 0, "h": 0, "pq": 0, "ph": 0}
        step = scheduler.schedule(now, not self._at_once)
        if step is None:
            if self._flight:
                self._hole, self._arrived = self._arrived, []
            else:
                self._close_hole()
            return None
        record: Record = {
            "ev": "step",
            "step": self._number,
            "t0": to_s(now),
            "t1": to_s(now),
            "arrived": self._arrived,
        }
        record.update(draft)
        record.update(
            running=len(scheduler.running), waiting=len(scheduler.waiting), free_sched=scheduler.pool.free
        )
        self._number += 1
        self._arrived = []
        self._open.append(record)
        if self._hole is not None:
            self._labels.forget()
            self._close_hole()
        return step

    def _close_hole(self) -> None:
        """The oracle takes back an empty schedule behind the next one, whose block events it then
        drops; arrivals that came with the empty one are told with the one after."""
        if self._hole is not None:
            self._arrived = self._hole + self._arrived
            self._hole = None

    def _end(self, step: Step) -> None:
        super()._end(step)
        record = self._open.pop(0)
        now = to_s(self._kernel.now)
        scheduled = [name for name, _, _ in record["sched"]]
        known = {name: self._known(request) for name, request in self._alive.items()}
        stored, evicted = self._labels.drain(scheduled, known, self._owner)
        record.update(
            t2=now,
            t3=now,
            finished=[request.id for request in self._ended],
            free_end=self.scheduler.pool.free,
            stored=stored,
            evicted=evicted,
        )
        self.records.append(record)
        for request in sorted(self._ended, key=lambda r: r.order):
            for child in self._children.pop(request.id, []):
                if "delay_steps" in child.spec:
                    at = self.steps + child.spec["delay_steps"]
                    heapq.heappush(self._by_step, (at, child.order, child))
                else:
                    self._arrive_at(self._kernel.now + to_ps(child.spec.get("delay", 0.0)), child)
        self._ended = []

    def _known(self, request: Request) -> int:
        """Tokens of a request whose content is known once the step that ended is settled."""
        if not request.in_rows:
            return max(request.known, request.computed)
        return self.scheduler.rows.computed(request) + 1 - len(self._flight)

    def _finished(self, request: Request) -> None:
        del self._alive[request.id]
        self._ended.append(self._workload.requests[request.id])

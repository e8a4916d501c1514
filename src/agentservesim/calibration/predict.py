"""Prediction of a logged run: its programs, played against a simulated engine with fitted step times.

The programs and the pauses between their turns are those of the run, and so is what each turn says; when
a turn is sent follows from the simulated end of the turn before. Contents are compared token by token
where the log kept the tokens; a log without them is played with a content of its own for each program.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np

from agentservesim.calibration.steplog import LoggedTurn, StepLog
from agentservesim.cost.base import Batch, StepTime
from agentservesim.cost.calibration import LONGEST_FRONT_END_S, FrontEnd
from agentservesim.engine.config import EngineConfig
from agentservesim.fleet import Counts, Fleet, InstanceSpec
from agentservesim.fleet.config import ToolsConfig
from agentservesim.model import (
    Dependency,
    InputError,
    Path,
    Program,
    Segment,
    StepRecord,
    Turn,
    TurnRecord,
    Workload,
    to_ps,
    to_s,
)
from agentservesim.policies import load_policy
from agentservesim.releases import EngineVersion
from agentservesim.workload.tokens import TokenTree


@dataclass(frozen=True)
class Outcome:
    """Means of a run, in seconds: time to first token and time per output token of the turns, latency of the
    programs, and makespan; prompt tokens found cached, preemptions, and KV blocks evicted."""

    ttft_s: float
    tpot_s: float
    program_s: float
    makespan_s: float
    cached_tokens: int
    preemptions: int
    evicted_blocks: int

    @property
    def times(self) -> dict[str, float]:
        """The four times by name."""
        return {
            "TTFT": self.ttft_s,
            "TPOT": self.tpot_s,
            "program": self.program_s,
            "makespan": self.makespan_s,
        }


def front_end(log: StepLog, turns: Sequence[LoggedTurn]) -> FrontEnd:
    """Median front-end latencies: what the clients saw beyond the step log, and none of it below 0.

    A request that comes while a step runs is looked at when the step is over, which is no part of the
    front end: the way in is that of turns that found the engine idle. Raises InputError for turns of
    another run, or on another clock.
    """
    ends: dict[str, float] = {}
    for step in log.steps:
        for request, computed, new in step.sched:
            if computed + new >= log.requests[request].prompt_len:
                ends.setdefault(request, step.t3)
    begins = [step.t0 for step in log.steps]
    in_s, out_s = [], []
    for turn, name in zip(turns, _matched(log, turns), strict=True):
        if name not in ends:
            raise InputError(
                f"step log '{log.name}' ends before the first token of '{name}'; is it cut short?"
            )
        sent = turn.t0 + turn.t_send
        before = bisect_right(begins, sent) - 1
        if before < 0 or log.steps[before].t3 < sent:
            in_s.append(log.requests[name].t - sent)
        out_s.append(turn.t0 + turn.t_first - ends[name])
    middle = [max(0.0, float(np.median(times))) if times else 0.0 for times in (in_s, out_s)]
    if max(middle) > LONGEST_FRONT_END_S:
        raise InputError(
            f"step log '{log.name}': its turns are {max(middle):.3g} s off; "
            "are both files of one run, in seconds?"
        )
    return FrontEnd(in_s=middle[0], out_s=middle[1])


def recorded(log: StepLog, turns: Sequence[LoggedTurn]) -> Outcome:
    """What the run's clients saw."""
    arrivals = {turn.program: turn.t_send for turn in reversed(turns)}
    ends = {name: max(t.t_last for t in of) for name, of in groupby(turns, lambda t: t.program)}
    several = [turn for turn in turns if turn.n_out > 1]
    return Outcome(
        ttft_s=float(np.mean([turn.t_first - turn.t_send for turn in turns])),
        tpot_s=float(np.mean([(turn.t_last - turn.t_first) / (turn.n_out - 1) for turn in several])),
        program_s=float(np.mean([ends[name] - arrivals[name] for name in ends])),
        makespan_s=max(ends.values()),
        cached_tokens=sum(turn.cached or 0 for turn in turns),
        preemptions=sum(len(step.preempted) for step in log.steps),
        evicted_blocks=sum(len(step.evicted) for step in log.steps),
    )


def predict(
    log: StepLog,
    workload: Workload,
    step_time: StepTime,
    clients: FrontEnd,
    engine_version: EngineVersion = "0.32",
    *,
    leap: bool = True,
) -> Outcome:
    """Simulate a workload, such as that of the run, on an engine with its limits and the given step times."""
    seen = _Seen()
    spec = InstanceSpec(
        log.name,
        _engine(log, engine_version),
        step_time,
        log.limits.num_blocks,
        to_ps(clients.in_s),
        to_ps(clients.out_s),
    )
    fleet = Fleet(
        workload,
        [spec],
        router=load_policy("router", "round-robin"),
        scheduler=load_policy("scheduler", log.limits.policy),
        tools=ToolsConfig(),
        seed=0,
        leap=leap,
        listener=seen,
    )
    counts = fleet.run()
    return seen.outcome({program.id: program.arrival_ps for program in workload.programs}, counts)


def replay(log: StepLog, engine_version: EngineVersion = "0.32") -> Outcome:
    """Simulate a synchronous engine with the log's own arrivals and step times: the decisions alone.

    Each request is sent when the step that first knew it was scheduled, and each step takes from then until
    the next was scheduled, or until its end where nothing was left to do. Raises InputError for a log of an
    asynchronous engine or one without arrivals.
    """
    if log.limits.async_scheduling:
        raise InputError(f"step log '{log.name}': only synchronous engines can be replayed step by step")
    begin = {request: step.t0 for step in log.steps for request in step.arrived}
    missing = next((request for request in log.requests if request not in begin), None)
    if missing is not None:
        raise InputError(f"step log '{log.name}': no step says that '{missing}' had arrived")
    names = list(begin)
    paths = _tree(log, names) or [((Segment(), log.requests[n].prompt_len + _length(log, n)),) for n in names]
    programs = [
        Program(
            name,
            to_ps(begin[name] - log.steps[0].t0),
            (_turn(log, name, 0, name, path),),
        )
        for name, path in zip(names, paths, strict=True)
    ]
    workload = Workload(tuple(programs), log.name)
    return predict(log, workload, _Replayed(log), FrontEnd(), engine_version, leap=False)


class _Replayed:
    """Step times as they were, one after the other."""

    knots = (0,)
    longest = 0

    def __init__(self, log: StepLog) -> None:
        last = {row[0]: index for index, step in enumerate(log.steps) for row in step.sched}
        open_until, ends = -1, []
        for index, step in enumerate(log.steps):
            for request in step.arrived:
                open_until = max(open_until, last.get(request, -1))
            busy = open_until > index and index + 1 < len(log.steps)
            ends.append((log.steps[index + 1].t0 if busy else step.t3) - log.steps[0].t0)
        begins = [step.t0 - log.steps[0].t0 for step in log.steps]
        spans = [to_ps(end) - to_ps(begin) for begin, end in zip(begins, ends, strict=True)]
        self._spans = iter([span for span, step in zip(spans, log.steps, strict=True) if step.sched])

    def step_ps(self, batch: Batch) -> int:
        """The time of the next step; nothing behind the last."""
        return max(1, next(self._spans, 1))

    def growth_ps(self, batch: Batch) -> int:
        """Unknown: every step is taken."""
        return 0


def _turn(log: StepLog, name: str, index: int, session: str, path: Path) -> Turn:
    request = log.requests[name]
    length = _length(log, name)
    return Turn(name, index, session, request.prompt_len, length, path, priority=request.priority)


def _length(log: StepLog, name: str) -> int:
    return len(log.outputs[name]) if name in log.outputs else log.requests[name].max_tokens


def workload_of(log: StepLog, turns: Sequence[LoggedTurn]) -> Workload:
    """The run's programs as a workload. Raises InputError for a turn that the step log does not hold."""
    names = _matched(log, turns)
    paths = _paths(log, turns, names)
    programs = []
    for program, group in groupby(enumerate(turns), lambda pair: pair[1].program):
        own, before = [], None
        for index, (at, turn) in enumerate(group):
            pause = (
                ()
                if before is None
                else (Dependency(index - 1, delay_ps=to_ps(turn.t_send - before.t_done)),)
            )
            own.append(
                replace(
                    _turn(log, names[at], index, program, paths[at]),
                    id=turn.id,
                    output_tokens=turn.n_out,
                    dependencies=pause,
                )
            )
            before = turn
            if index == 0:
                arrival_ps = to_ps(max(0.0, turn.t_send))
        programs.append(Program(program, arrival_ps, tuple(own)))
    return Workload(tuple(sorted(programs, key=lambda p: (p.arrival_ps, p.id))), log.name)


def _tree(log: StepLog, names: Sequence[str]) -> list[Path] | None:
    """The content of each request, prompt and reply, token by token; None if the log kept no tokens."""
    if not all(log.requests[name].prompt is not None and name in log.outputs for name in names):
        return None
    tree = TokenTree()
    return [tree.place([*(log.requests[n].prompt or ()), *log.outputs[n]]) for n in names]


def _paths(log: StepLog, turns: Sequence[LoggedTurn], names: Sequence[str]) -> list[Path]:
    """The content of each turn, prompt and reply."""
    placed = _tree(log, names)
    if placed is not None:
        return placed
    own: Mapping[str, Segment] = {turn.program: Segment() for turn in turns}
    return [((own[turn.program], turn.prompt_len + turn.n_out),) for turn in turns]


def _matched(log: StepLog, turns: Sequence[LoggedTurn]) -> list[str]:
    """The request of each turn: of the same id, or of one that holds it (servers add to the client's)."""
    found = []
    for turn in turns:
        if turn.id in log.requests:
            found.append(turn.id)
            continue
        holding = [name for name in log.requests if f"-{turn.id}-" in f"-{name}-"]
        if len(holding) != 1:
            raise InputError(
                f"turn '{turn.id}' of the turns file is {len(holding)} requests of step log '{log.name}'; "
                "it must be one: are the two files of the same run?"
            )
        found.append(holding[0])
    return found


def _engine(log: StepLog, version: EngineVersion) -> EngineConfig:
    limits = log.limits
    return EngineConfig(
        engine_version=version,
        block_size=limits.block_size,
        max_num_batched_tokens=limits.max_num_batched_tokens,
        max_num_seqs=limits.max_num_seqs,
        max_model_len=limits.max_model_len,
        long_prefill_token_threshold=limits.long_prefill_token_threshold,
        enable_chunked_prefill=limits.chunked_prefill,
        enable_prefix_caching=limits.prefix_caching,
        scheduler_reserve_full_isl=limits.reserve_full_isl,
        watermark=limits.watermark,
        async_scheduling=limits.async_scheduling,
    )


@dataclass
class _Seen:
    """Listens for turns."""

    turns: list[TurnRecord] = field(default_factory=list)
    wants_steps: bool = False

    def turn_done(self, record: TurnRecord) -> None:
        self.turns.append(record)

    def step_done(self, record: StepRecord) -> None:
        """Not asked for."""

    def outcome(self, arrivals_ps: Mapping[str, int], counts: Counts) -> Outcome:
        """The same figures as of a recorded run."""
        several = [turn for turn in self.turns if turn.output_tokens > 1]
        ends: dict[str, int] = {}
        for turn in self.turns:
            ends[turn.program_id] = max(turn.finish_ps, ends.get(turn.program_id, 0))
        per_token = [(t.finish_ps - t.first_token_ps) / (t.output_tokens - 1) for t in several]
        return Outcome(
            ttft_s=to_s(1) * float(np.mean([t.first_token_ps - t.ready_ps for t in self.turns])),
            tpot_s=to_s(1) * float(np.mean(per_token)),
            program_s=to_s(1) * float(np.mean([ends[name] - arrivals_ps[name] for name in ends])),
            makespan_s=to_s(max(ends.values())),
            cached_tokens=sum(turn.cached_tokens for turn in self.turns),
            preemptions=counts.preemptions,
            evicted_blocks=counts.evicted_blocks,
        )

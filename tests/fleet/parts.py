"""Fleets whose numbers can be worked out by hand: simple step times, programs in seconds, a log of turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agentservesim.cost.base import Batch
from agentservesim.engine.config import EngineConfig
from agentservesim.fleet import Counts, Fleet, InstanceSpec
from agentservesim.fleet.config import ToolsConfig
from agentservesim.model import (
    PS_PER_S,
    Dependency,
    Program,
    StepRecord,
    ToolCall,
    Turn,
    TurnRecord,
    Workload,
)
from agentservesim.policies.protocols import Router, Scheduler
from agentservesim.policies.routing import RoundRobin
from tests.paths import root

S = PS_PER_S
SYNC = EngineConfig(async_scheduling=False)


@dataclass(frozen=True)
class Metronome:
    """Every step takes a second.

    With synchronous scheduling and everything else on whole seconds, a turn of n tokens takes n
    seconds, whoever runs beside it.
    """

    step_s: int = 1
    knots: tuple[int, ...] = (0,)
    longest: int = 0

    def step_ps(self, batch: Batch) -> int:
        return self.step_s * S

    def growth_ps(self, batch: Batch) -> int:
        return 0


@dataclass(frozen=True)
class PerToken:
    """A step takes so long for each prompt token and for each decode row."""

    prompt_ps: int = 1000
    row_ps: int = 1_000_000
    knots: tuple[int, ...] = (0,)
    longest: int = 0

    def step_ps(self, batch: Batch) -> int:
        return sum(new for new, _ in batch.chunks) * self.prompt_ps + batch.rows * self.row_ps

    def growth_ps(self, batch: Batch) -> int:
        return 0


@dataclass
class Log:
    """A listener that keeps the records as they come."""

    wants_steps: bool = False
    turns: list[TurnRecord] = field(default_factory=list)
    steps: list[StepRecord] = field(default_factory=list)

    def turn_done(self, record: TurnRecord) -> None:
        self.turns.append(record)

    def step_done(self, record: StepRecord) -> None:
        self.steps.append(record)

    def by_turn(self) -> dict[str, TurnRecord]:
        return {record.turn_id: record for record in self.turns}


@dataclass
class Served:
    """A run: what its listener heard, what it counted, and when the clock stopped."""

    log: Log
    counts: Counts
    now_ps: int

    def __getitem__(self, turn_id: str) -> TurnRecord:
        return self.log.by_turn()[turn_id]

    def times(self, turn_id: str) -> tuple[float, float, float]:
        """(gap, ready, finish) of a turn in seconds."""
        record = self[turn_id]
        return record.gap_ps / S, record.ready_ps / S, record.finish_ps / S


def turn(
    index: int,
    output: int = 1,
    *after: Dependency,
    name: str = "",
    session: str = "main",
    prompt: int = 16,
    not_before_s: int = 0,
    tools: Sequence[ToolCall] = (),
) -> Turn:
    """A turn with content of its own; its id is its index unless it has a name."""
    return Turn(
        id=name or str(index),
        index=index,
        session_id=session,
        prompt_tokens=prompt,
        output_tokens=output,
        path=root(prompt + output),
        dependencies=after,
        not_before_ps=not_before_s * S,
        tools=tuple(tools),
    )


def after(index: int, delay_s: int = 0, tools_s: int | None = None) -> Dependency:
    """Behind the end of turn `index`, its tools (as recorded, or run) and a delay."""
    return Dependency(index, delay_ps=delay_s * S, tools_ps=None if tools_s is None else tools_s * S)


def with_dispatch_of(index: int, delay_s: int = 0) -> Dependency:
    """Behind the moment at which turn `index` is sent."""
    return Dependency(index, trigger="dispatch", delay_ps=delay_s * S)


def call(name: str, duration_s: int | None, offset_s: int = 0) -> ToolCall:
    """A tool call in whole seconds."""
    return ToolCall(name, None if duration_s is None else duration_s * S, offset_s * S)


def chain(name: str, outputs: Sequence[int], gap_s: int = 0, arrival_s: int = 0) -> Program:
    """Turns one after the other, each `gap_s` behind the end of the one before; ids are name:index."""
    turns = (
        turn(i, n, *([after(i - 1, gap_s)] if i else []), name=f"{name}:{i}", session=name)
        for i, n in enumerate(outputs)
    )
    return Program(name, arrival_s * S, tuple(turns))


def program(*turns: Turn, name: str = "p", arrival_s: int = 0) -> Program:
    return Program(name, arrival_s * S, turns)


def instance(**changes: object) -> InstanceSpec:
    """An instance on the metronome with room for everything."""
    spec = InstanceSpec(name="i", engine=SYNC, step_time=Metronome(), num_gpu_blocks=1 << 20)
    return replace(spec, **changes)  # type: ignore[arg-type]


def serve(
    programs: Sequence[Program],
    instances: Sequence[InstanceSpec] | None = None,
    *,
    router: Router | None = None,
    scheduler: Scheduler | None = None,
    tools: ToolsConfig | None = None,
    seed: int = 0,
    leap: bool = True,
    max_concurrency: int | None = None,
    wants_steps: bool = False,
    **settings: Any,
) -> Served:
    """Run programs to their end; `settings` are the fleet's others."""
    log = Log(wants_steps)
    fleet = Fleet(
        Workload(tuple(programs)),
        instances or [instance()],
        router=router or RoundRobin(),
        scheduler=scheduler,
        tools=tools or ToolsConfig(),
        seed=seed,
        listener=log,
        leap=leap,
        max_concurrency=max_concurrency,
        **settings,
    )
    counts = fleet.run()
    return Served(log, counts, fleet.now_ps)

"""Random fleets: programs with forks and joins, tools, routers, front ends, on a coarse clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from agentservesim.fleet import Counts, Fleet, InstanceSpec
from agentservesim.fleet.config import Distribution, ToolsConfig
from agentservesim.model import Dependency, Path, Program, ToolCall, Turn, Workload
from agentservesim.policies.protocols import InstanceView, Router, TurnView
from agentservesim.policies.routing import LeastLoaded, RoundRobin, SessionAffinity
from tests.engine.runs import Tape
from tests.engine.scenarios import Contents, draw_blocks, draw_config, draw_prompt, draw_step_time
from tests.paths import turn


@dataclass
class Roomiest:
    """A router that looks at everything a view shows."""

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> int:
        keys = [(i.waiting - i.free_blocks + i.running * 2 + i.load, i.index) for i in instances]
        return min(keys)[1]


@dataclass(frozen=True)
class FleetScenario:
    """All that a fleet is made of, but for the router, which keeps state."""

    workload: Workload
    instances: Sequence[InstanceSpec]
    router: type
    tools: ToolsConfig
    max_concurrency: int | None
    seed: int

    def fleet(self, tape: Tape, *, leap: bool) -> Fleet:
        """A fresh fleet."""
        router: Router = self.router()
        return Fleet(
            self.workload,
            self.instances,
            router=router,
            tools=self.tools,
            seed=self.seed,
            listener=tape,
            leap=leap,
            max_concurrency=self.max_concurrency,
        )

    def run(self, *, leap: bool) -> tuple[Tape, Counts, int]:
        """What the fleet did, its counts, and when the clock stopped."""
        tape = Tape()
        fleet = self.fleet(tape, leap=leap)
        counts = fleet.run()
        return tape, counts, fleet.now_ps


def draw_fleet(seed: int) -> FleetScenario:
    """One to three instances and up to ten programs."""
    random = Random(seed)
    longest = random.choice([20, 60, 150, 300])
    grid = random.choice([1, 5, 10, 50, 200])
    specs = []
    for index in range(random.choice([1, 2, 3])):
        config = draw_config(random, longest)
        specs.append(
            InstanceSpec(
                name=f"i{index}",
                engine=config,
                step_time=draw_step_time(random),
                num_gpu_blocks=draw_blocks(random, config, longest),
                frontend_in_ps=random.choice([0, 0, 1, 10]),
                frontend_out_ps=random.choice([0, 0, 1, 10]),
            )
        )
    contents = Contents(random, longest)
    programs = [
        draw_program(random, contents, f"p{number}", random.randrange(12) * grid)
        for number in range(random.randint(1, 10))
    ]
    return FleetScenario(
        Workload(tuple(sorted(programs, key=lambda program: program.arrival_ps))),
        specs,
        random.choice([RoundRobin, LeastLoaded, SessionAffinity, Roomiest]),
        draw_tools(random),
        random.choice([None, None, 1, 2, 3]),
        random.randrange(1000),
    )


def draw_tools(random: Random) -> ToolsConfig:
    """Durations of a few ticks of the clock."""
    tick_s = 1e-12
    return ToolsConfig(
        durations=random.choice(["recorded", "recorded", "drawn"]),
        default=Distribution(kind="fixed", median_s=10 * tick_s),
        by_tool={"bash": Distribution(kind="exponential", median_s=30 * tick_s)},
        max_workers=random.choice([None, None, 1, 2]),
    )


def draw_program(random: Random, contents: Contents, name: str, arrival_ps: int) -> Program:
    """A chain of turns, some of them forked off to sub-agents and joined again."""
    path: Path | None = contents.first(0.3)
    turns: list[Turn] = []
    session = 0
    while path is not None and len(turns) < 5:
        index = len(turns)
        if index and random.random() < 0.25:
            session += 1
        one = turn(
            f"{name}/{index}",
            path,
            draw_prompt(random, path),
            index=index,
            # Unlike any other's, so that equals do not preempt one another for ever.
            priority=random.getrandbits(30),
            session=f"{name}:{session}",
        )
        turns.append(
            replace(
                one,
                dependencies=draw_dependencies(random, index),
                not_before_ps=random.choice([0, 0, 0, 5, 100]),
                tools=tuple(draw_call(random) for _ in range(random.choice([0, 0, 1, 1, 2, 3]))),
            )
        )
        path = contents.next(path)
        if random.random() < 0.2:
            break
    return Program(name, arrival_ps, tuple(turns))


def draw_dependencies(random: Random, index: int) -> tuple[Dependency, ...]:
    """Up to two earlier turns, most often the one before."""
    if index == 0 or random.random() < 0.05:
        return ()
    chosen = {index - 1} if random.random() < 0.8 else {random.randrange(index)}
    if random.random() < 0.3:
        chosen.add(random.randrange(index))
    return tuple(
        Dependency(
            turn=other,
            trigger=random.choice(["completion", "completion", "completion", "dispatch"]),
            delay_ps=random.choice([0, 0, 1, 10, 50]),
            tools_ps=random.choice([None, None, None, 0, 20]),
        )
        for other in sorted(chosen)
    )


def draw_call(random: Random) -> ToolCall:
    """A call that is over within a few steps."""
    return ToolCall(
        random.choice(["bash", "read"]),
        random.choice([None, 0, 5, 10, 100, 400]),
        random.choice([0, 0, 5, 20]),
    )

"""Pure functions from a workload to a changed one."""

from __future__ import annotations

from dataclasses import replace

from agentservesim.model import Dependency, Program, ToolCall, Turn, Workload, to_ps
from agentservesim.random import stream
from agentservesim.workload.rows import QUANTUM_PS


def first_programs(workload: Workload, count: int) -> Workload:
    """The first `count` programs."""
    return replace(workload, programs=workload.programs[:count])


def capped_gaps(workload: Workload, max_gap_s: float) -> Workload:
    """No think time, recorded tool time or tool call longer than `max_gap_s`."""
    cap = to_ps(max_gap_s)

    def least(duration: int | None) -> int | None:
        return None if duration is None else min(duration, cap)

    def capped(turn: Turn) -> Turn:
        dependencies = tuple(
            Dependency(d.turn, d.trigger, min(d.delay_ps, cap), least(d.tools_ps), d.relation)
            for d in turn.dependencies
        )
        tools = tuple(ToolCall(t.name, least(t.duration_ps), min(t.offset_ps, cap)) for t in turn.tools)
        return replace(turn, dependencies=dependencies, tools=tools)

    programs = (replace(program, turns=tuple(map(capped, program.turns))) for program in workload.programs)
    return replace(workload, programs=tuple(programs))


def arriving_at_once(workload: Workload) -> Workload:
    """Every program arrives at 0, in the same order."""
    return replace(workload, programs=tuple(replace(program, arrival_ps=0) for program in workload.programs))


def arriving_at_rate(workload: Workload, rate: float, burstiness: float, seed: int) -> Workload:
    """Programs in the same order, `rate` a second on average.

    Gaps are gamma-distributed with shape `burstiness` and mean 1 / rate (vLLM's meaning of the word): 1 is a
    Poisson process and the coefficient of variation is burstiness ** -0.5. The first program arrives at 0.
    """
    programs = workload.programs
    gaps_s = stream(seed, "arrivals").gamma(burstiness, 1.0 / (rate * burstiness), max(0, len(programs) - 1))
    moved: list[Program] = list(programs[:1] and [replace(programs[0], arrival_ps=0)])
    at_s = 0.0
    for program, gap_s in zip(programs[1:], gaps_s, strict=True):
        at_s += float(gap_s)
        moved.append(replace(program, arrival_ps=round(at_s * 1e6) * QUANTUM_PS))
    return replace(workload, programs=tuple(moved))

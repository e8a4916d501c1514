"""What a workload is like: the numbers behind `agentservesim trace stats`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from agentservesim.model import Dependency, Program, Turn, Workload, to_s
from agentservesim.workload.content import unlimited_hits

RESET = 0.8
"""A prompt below this share of the prompt before it in its session counts as a context reset."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How a quantity is spread over its `n` values; all zero where there are none."""

    n: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summary of `values`; percentiles interpolate linearly."""
        if not values:
            return cls(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        data = np.asarray(values, dtype=np.float64)
        p50, p90, p95, p99 = (float(value) for value in np.percentile(data, (50, 90, 95, 99)))
        return cls(len(values), float(data.mean()), p50, p90, p95, p99, float(data.max()))


@dataclass(frozen=True, slots=True)
class ToolStats:
    """Calls of one tool. Durations are of the part after the end of the reply, where they are known."""

    name: str
    calls: int
    duration_s: Spread


@dataclass(frozen=True, slots=True)
class TraceStats:
    """A workload in numbers. Lengths are in tokens, times in seconds.

    turns_per_program: turns of the main session (sub-agents have their own). append: prompt minus the prompt
    and the reply before it in its session, at least 0; resets (prompt under 0.8 of the one before) and other
    shorter prompts left out. gaps: time outside the engine before a turn, by what the turn brings; "start to
    start" is the recorded distance between starts where service times are unknown. reuse: share of prompt
    tokens that a cache without limit and with token granularity serves, programs taken one after the other.
    stated_reuse: the same by the trace's own prefix_tokens, where all turns have them.
    """

    source: str
    synthetic: bool
    programs: int
    turns: int
    sub_agents: int
    programs_with_sub_agents: int
    prompt_tokens: int
    output_tokens: int
    turns_per_program: Spread
    prompt: Spread
    output: Spread
    append: Spread
    context_at_last_turn: Spread
    resets: int
    tool_gap_s: Spread
    user_gap_s: Spread
    other_gap_s: Spread
    start_to_start_s: Spread
    tools: tuple[ToolStats, ...]
    reuse: float
    stated_reuse: float | None
    arrivals_span_s: float
    programs_per_s: float | None
    arrivals_cv: float | None
    notes: tuple[str, ...]

    def __str__(self) -> str:
        rows = list(self.rows())
        width = max(len(label) for label, _ in rows)
        return "\n".join(f"{label:{width}}  {value}" for label, value in rows)

    def rows(self) -> Iterator[tuple[str, str]]:
        """Label and value, line by line, for a terminal."""
        yield "source", self.source + (" (synthetic)" if self.synthetic else "")
        yield "programs", f"{self.programs:,}"
        yield "turns", f"{self.turns:,}"
        yield "turns per program", _spread(self.turns_per_program, "mean", "p50", "p95", "max")
        yield "sub-agents", f"{self.sub_agents:,} in {self.programs_with_sub_agents:,} programs"
        yield "prompt tokens", f"{self.prompt_tokens:,}"
        yield "output tokens", f"{self.output_tokens:,}"
        yield "prompt", _spread(self.prompt, "mean", "p50", "p95", "max")
        yield "new in a prompt", _spread(self.append, "mean", "p50", "p95", "max")
        yield "output", _spread(self.output, "mean", "p50", "p95", "max")
        yield "context at last turn", _spread(self.context_at_last_turn, "mean", "p50", "p95", "max")
        yield "context resets", f"{self.resets:,}"
        for label, gap in (
            ("tool gap, s", self.tool_gap_s),
            ("user gap, s", self.user_gap_s),
            ("other gap, s", self.other_gap_s),
            ("start to start, s", self.start_to_start_s),
        ):
            if gap.max > 0:
                yield label, _spread(gap, "p50", "p90", "p99", "n")
        for tool in self.tools[:6]:
            known = _spread(tool.duration_s, "p50", "p90", "p99") if tool.duration_s.n else "unknown"
            yield f"tool {tool.name}", f"{tool.calls:,} calls; duration, s: {known}"
        stated = "" if self.stated_reuse is None else f" (the trace states {self.stated_reuse:.1%})"
        yield "reuse, infinite cache", f"{self.reuse:.1%}{stated}"
        yield "arrivals", self._arrivals()
        for note in self.notes:
            yield "note", note

    def _arrivals(self) -> str:
        if self.programs_per_s is None:
            return "all at once"
        cv = "" if self.arrivals_cv is None else f", CV of gaps {self.arrivals_cv:.2f}"
        return f"{self.programs_per_s:.4g} programs/s over {self.arrivals_span_s:,.0f} s{cv}"


def trace_stats(workload: Workload) -> TraceStats:
    """Describe a workload."""
    turns = [turn for program in workload.programs for turn in program.turns]
    gaps = _gaps(workload.programs)
    appends, resets = _appends(workload.programs)
    main = [[turn for turn in p.turns if turn.session_id == p.turns[0].session_id] for p in workload.programs]
    sessions = [len({turn.session_id for turn in p.turns}) - 1 for p in workload.programs]
    prompt_tokens = sum(turn.prompt_tokens for turn in turns)
    span_s, rate, cv = _arrivals(workload.programs)
    return TraceStats(
        source=workload.source,
        synthetic=workload.synthetic,
        programs=len(workload.programs),
        turns=len(turns),
        sub_agents=sum(sessions),
        programs_with_sub_agents=sum(count > 0 for count in sessions),
        prompt_tokens=prompt_tokens,
        output_tokens=sum(turn.output_tokens for turn in turns),
        turns_per_program=Spread.of([len(chain) for chain in main]),
        prompt=Spread.of([turn.prompt_tokens for turn in turns]),
        output=Spread.of([turn.output_tokens for turn in turns]),
        append=Spread.of(appends),
        context_at_last_turn=Spread.of([chain[-1].prompt_tokens for chain in main]),
        resets=resets,
        tool_gap_s=Spread.of(gaps["tool"]),
        user_gap_s=Spread.of(gaps["user"]),
        other_gap_s=Spread.of(gaps["other"]),
        start_to_start_s=Spread.of(gaps["start to start"]),
        tools=_tools(turns),
        reuse=sum(unlimited_hits(turns)) / max(1, prompt_tokens),
        stated_reuse=_stated(turns, prompt_tokens),
        arrivals_span_s=span_s,
        programs_per_s=rate,
        arrivals_cv=cv,
        notes=workload.notes,
    )


def _gaps(programs: Iterable[Program]) -> dict[str, list[float]]:
    gaps: dict[str, list[float]] = {"tool": [], "user": [], "other": [], "start to start": []}
    for program in programs:
        for turn in program.turns:
            if not turn.dependencies:
                continue
            first = turn.dependencies[0]
            waits = [_wait_ps(d, program.turns[d.turn]) for d in turn.dependencies]
            if first.trigger == "dispatch" and first.relation == "sequence":
                kind = "start to start"
            elif first.relation == "spawn" or turn.trigger not in gaps:
                kind = "other"
            else:
                kind = turn.trigger
            known = [wait for wait in waits if wait is not None]
            if len(known) == len(waits):
                gaps[kind].append(to_s(max(known)))
    return gaps


def _wait_ps(dependency: Dependency, before: Turn) -> int | None:
    """Think time and tool time after a turn; None where some tool time is not known."""
    if dependency.tools_ps is not None:
        return dependency.delay_ps + dependency.tools_ps
    if any(call.duration_ps is None for call in before.tools):
        return None
    return dependency.delay_ps + calls_ps(before)


def calls_ps(turn: Turn) -> int:
    """Time from the end of a turn's reply to the end of its last tool call, as far as durations are known."""
    return max((call.offset_ps + (call.duration_ps or 0) for call in turn.tools), default=0)


def _appends(programs: Iterable[Program]) -> tuple[list[int], int]:
    appends: list[int] = []
    resets = 0
    for program in programs:
        last: dict[str, Turn] = {}
        for turn in program.turns:
            before = last.get(turn.session_id)
            if before is not None:
                if turn.prompt_tokens >= before.prompt_tokens:
                    appends.append(max(0, turn.prompt_tokens - before.total_tokens))
                resets += turn.prompt_tokens < RESET * before.prompt_tokens
            last[turn.session_id] = turn
    return appends, resets


def _tools(turns: Iterable[Turn]) -> tuple[ToolStats, ...]:
    calls: defaultdict[str, int] = defaultdict(int)
    durations: defaultdict[str, list[float]] = defaultdict(list)
    for turn in turns:
        for call in turn.tools:
            calls[call.name] += 1
            if call.duration_ps is not None:
                durations[call.name].append(to_s(call.duration_ps))
    names = sorted(calls, key=lambda name: (-calls[name], name))
    return tuple(ToolStats(name, calls[name], Spread.of(durations[name])) for name in names)


def _stated(turns: Sequence[Turn], prompt_tokens: int) -> float | None:
    stated = [turn.prefix_tokens for turn in turns if turn.prefix_tokens is not None]
    return sum(stated) / max(1, prompt_tokens) if len(stated) == len(turns) else None


def _arrivals(programs: Sequence[Program]) -> tuple[float, float | None, float | None]:
    """Span, rate and coefficient of variation of the gaps between arrivals."""
    at_s = np.array([to_s(program.arrival_ps) for program in programs])
    span = float(at_s[-1] - at_s[0]) if len(at_s) else 0.0
    if span == 0.0:
        return 0.0, None, None
    gaps = np.diff(at_s)
    cv = float(gaps.std() / gaps.mean()) if len(gaps) > 1 else None
    return span, (len(at_s) - 1) / span, cv


def _spread(spread: Spread, *names: str) -> str:
    return "  ".join(f"{name} {_short(getattr(spread, name))}" for name in names)


def _short(value: float) -> str:
    if isinstance(value, int) or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"

"""Comparisons and sweeps as tables: in a terminal, as plain text in a pipe, and in Markdown."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console
from rich.table import Table

from agentservesim.experiment import Comparison, Estimate, Line, Sweep
from agentservesim.experiment.comparison import metric_at, objectives_met
from agentservesim.report.terminal import number
from agentservesim.results import parse_place

PLACES = (
    "program.latency_s.mean",
    "program.latency_s.p95",
    "program.queue_s.mean",
    "program.slowdown.mean",
    "turn.ttft_s.mean",
    "turn.ttft_s.p99",
    "turn.tpot_s.mean",
    "throughput.agent_steps_per_min",
    "goodput.program_share",
    "fairness.jain_programs",
    "fairness.jain_tenants",
    "tokens.hit_rate",
    "counts.preemptions",
)
"""What is shown unless somebody asks for something else; as far as it has a value."""


def places(metrics: Sequence[str]) -> list[str]:
    """Where metrics are in the summary, as turn.ttft.p99. Raises InputError for unknown ones."""
    return [parse_place(metric)[0] for metric in metrics]


@dataclass(frozen=True)
class Sheet:
    """A table of texts with what is to be read before and after it. Columns of `left` are names."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]
    left: int = 1

    def markdown(self) -> str:
        """The sheet in Markdown."""
        rule = ["---" if index < self.left else "---:" for index in range(len(self.header))]
        lines = [f"| {' | '.join(row)} |" for row in (self.header, rule, *self.rows)]
        table = "\n".join(lines).replace("+-", "±")
        return "\n".join([f"**{self.title}**", "", table, "", *self.notes]).rstrip() + "\n"

    def print(self, file: TextIO) -> None:
        """The sheet as text. A pipe gets as much width as the table needs."""
        console = Console(file=file, highlight=False, width=None if file.isatty() else 200)
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for index, name in enumerate(self.header):
            table.add_column(name, justify="left" if index < self.left else "right", no_wrap=True)
        for row in self.rows:
            table.add_row(*row, style="bold" if row[-1] == "best" else "")
        with console.capture() as screen:
            console.print(self.title, style="bold", soft_wrap=True)
            console.print()
            console.print(table)
            console.print()
            for note in self.notes:
                console.print(note, soft_wrap=True)
        file.write("".join(f"{line.rstrip()}\n" for line in screen.get().splitlines()))


def comparison_sheet(comparison: Comparison, places: Sequence[str] = ()) -> Sheet:
    """The comparison: a row for each metric and arm."""
    wanted = places or PLACES
    lines = {line.place: line for line in comparison.lines}
    rows = [row for place in wanted if place in lines for row in _rows(comparison, lines[place])]
    header = ("metric", "arm", "mean", "difference", "95% interval", "relative", "")
    notes = [
        *_objectives(comparison),
        *_oracles({arm: runs[0].oracle for arm, runs in comparison.arms.items()}),
        *_turned_away(comparison),
    ]
    lacking = {
        arm: [p for p in wanted if p in lines and arm not in lines[p].cells] for arm in comparison.arms
    }
    notes += [*_unknown(places, lines), *_blanks(lacking), _method(comparison)]
    if comparison.note:
        notes.append(f"Note: {comparison.note}.")
    seeds = f"{len(comparison.seeds)} seed{'s' if len(comparison.seeds) > 1 else ''}"
    title = f"{len(comparison.arms)} arms, {seeds}; differences from {comparison.baseline}"
    return Sheet(title, header, rows, notes, left=2)


def sweep_sheet(sweep: Sweep, places: Sequence[str] = ()) -> Sheet:
    """The sweep: a row for each point, a column for each metric."""
    wanted = places or ("program.latency_s.mean", "turn.ttft_s.p99", "tokens.hit_rate")
    all_of = {place: [point.metrics.get(place) for point in sweep.points] for place in wanted}
    known = {place: [e for e in estimates if e is not None] for place, estimates in all_of.items()}
    scales = {place: _scale(place, [e.value for e in known[place]]) for place in wanted if known[place]}
    header = ["point", *(_label(place, unit) for place, (_, unit) in scales.items())]
    rows = [
        [point.name, *(_with_spread(point.metrics.get(place), scale) for place, (scale, _) in scales.items())]
        for point in sweep.points
    ]
    lacking = {point.name: [p for p in scales if p not in point.metrics] for point in sweep.points}
    several = len(sweep.seeds) > 1
    notes = [f"Means over {len(sweep.seeds)} seeds, with 95% t intervals."] if several else []
    notes += _oracles({point.name: point.oracle for point in sweep.points})
    notes += [*_unknown(places, scales), *_blanks(lacking)]
    return Sheet(f"{len(sweep.points)} points", header, rows, notes)


def _rows(comparison: Comparison, line: Line) -> Iterable[Sequence[str]]:
    scale, unit = _scale(line.place, [cell.mean for cell in line.cells.values()])
    for index, arm in enumerate(comparison.arms):
        cell = line.cells.get(arm)
        best = "best" if line.winner == arm else ""
        label = "" if index else _label(line.place, unit)
        if cell is None:
            yield label, arm, "", "", "", "", ""
            continue
        if cell.difference is None:
            yield label, arm, number(cell.mean * scale), "", "", "", best
            continue
        low, high = cell.difference.low, cell.difference.high
        interval = (
            "-" if low is None or high is None else f"{_signed(low * scale)} .. {_signed(high * scale)}"
        )
        difference = _signed(cell.difference.value * scale)
        yield label, arm, number(cell.mean * scale), difference, interval, _percent(cell.relative), best


def _objectives(comparison: Comparison) -> Iterable[str]:
    for arm, runs in comparison.arms.items():
        for text, met in objectives_met(runs).items():
            yield f"{arm}: {text} was met in {met} of {len(runs)} runs."


def _oracles(known: Mapping[str, bool]) -> Iterable[str]:
    return (f"{name} is an oracle: it knows the future." for name, oracle in known.items() if oracle)


def _turned_away(comparison: Comparison) -> Iterable[str]:
    """Whose figures are of fewer programs than the workload has."""
    for arm, runs in comparison.arms.items():
        away, done = (
            sum(run.values.get(f"counts.{key}", 0) for run in runs) for key in ("rejected", "programs")
        )
        if away:
            whole = f"{away:,.0f} of {away + done:,.0f} programs"
            yield f"{arm}: {whole} were turned away; figures are of the others."


def _unknown(asked: Iterable[str], known: Container[str]) -> Iterable[str]:
    """Which metrics that were asked for nobody has."""
    return (f"{_label(place, '')}: no run has a value of it." for place in asked if place not in known)


def _blanks(lacking: Mapping[str, Sequence[str]]) -> Iterable[str]:
    """Who has no value where others have one, and of which metrics."""
    for name, places in lacking.items():
        if places:
            yield f"{name}: blank, as a run has no value: {', '.join(_label(place, '') for place in places)}."


def _method(comparison: Comparison) -> str:
    if comparison.method == "seeds":
        return (
            "Intervals: paired t over seeds, the arms of a pair sharing arrivals and tool times. "
            "best: better than every other arm, at 95% for all of them together."
        )
    return (
        "Intervals: bootstrap over the programs of one run; programs that compete for the same instances are "
        "not independent, so real ones are wider. best: better than every other arm, at 95% together."
    )


def _scale(place: str, values: Iterable[float]) -> tuple[float, str]:
    metric = metric_at(place)
    unit = metric.unit if metric is not None else ""
    return (1e3, "ms") if unit == "s" and max(map(abs, values), default=0) < 1 else (1.0, unit)


def _label(place: str, unit: str) -> str:
    metric = metric_at(place)
    seconds = metric is not None and metric.unit == "s"
    name = place.replace("_s.", ".").removesuffix("_s") if seconds else place
    return f"{name} ({unit})" if unit else name


def _with_spread(estimate: Estimate | None, scale: float) -> str:
    if estimate is None:
        return ""
    half = estimate.half_width
    shown = number(estimate.value * scale)
    return shown if half is None else f"{shown} +- {number(half * scale)}"


def _signed(value: float) -> str:
    return "0" if value == 0 else f"{'-' if value < 0 else '+'}{number(abs(value))}"


def _percent(share: Estimate | None) -> str:
    if share is None:
        return "-"
    half = share.half_width
    return f"{share.value:+.1%}" + ("" if half is None else f" +- {half:.1%}")

"""What the runs of several arms say: paired differences, and a winner where they are clear."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import orjson
import polars as pl

from agentservesim.experiment.intervals import (
    CONFIDENCE,
    Bootstrap,
    Estimate,
    Floats,
    percentile_interval,
    t_interval,
)
from agentservesim.model import InputError
from agentservesim.results import TABLES, Metric, find_metric
from agentservesim.results.run_folder import SUMMARY

Method = Literal["seeds", "programs"]

COMPARISON = "comparison.json"
SCHEMA_VERSION = 1
"""Of the files of comparisons and sweeps."""

SKIPPED = ("wall_s", "cpu_s", "seed", "schema_version", "counts.leaps")
_PERCENTS = (50, 90, 95, 99)


class Pair(NamedTuple):
    """An arm against the baseline."""

    difference: Estimate
    relative: Estimate | None


@dataclass(frozen=True)
class Cell:
    """A metric of an arm: its mean over the seeds, and how it differs from the baseline's (None for that).

    `relative` is the difference as a share of the baseline's value; None where that is 0.
    """

    mean: float
    difference: Estimate | None = None
    relative: Estimate | None = None


@dataclass(frozen=True)
class Line:
    """A metric in the arms that have a value in every run.

    `winner` is the arm that is clearly better than every other one, if any; none where an arm has no value.
    """

    place: str
    metric: Metric
    cells: Mapping[str, Cell]
    winner: str | None


@dataclass(frozen=True)
class Run:
    """A finished run: its summary, and the folder that has its tables."""

    summary: Mapping[str, Any]
    folder: Path

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Read a run folder. Raises InputError where it is damaged."""
        try:
            return cls(orjson.loads((folder / SUMMARY).read_bytes()), folder)
        except (OSError, ValueError) as error:
            raise InputError(f"{folder}: is no whole run ({error}); delete it to run it again") from None

    @property
    def oracle(self) -> bool:
        """Whether one of its policies knows the future."""
        return bool(self.summary["provenance"].get("oracle"))

    @property
    def notes(self) -> list[str]:
        """What a reader should know of its workload, and the hints its policies lack."""
        return [*self.summary["provenance"]["workload"]["notes"], *self.summary.get("policy_wants", ())]

    @cached_property
    def values(self) -> dict[str, float]:
        """Every metric that has a value, by its place in the summary."""
        return {
            place: value
            for place, value in _leaves(self.summary)
            if place not in SKIPPED and metric_at(place) is not None
        }

    def column(self, metric: Metric) -> pl.DataFrame:
        """The values of a turn's or a program's metric, with the program of each."""
        name = metric.name.partition(".")[2]
        file = self.folder / f"{TABLES[metric.subject]}.parquet"
        table = pl.read_parquet(file, columns=["program_id", name])
        return table.rename({name: "value"}).drop_nulls()


@dataclass(frozen=True)
class Comparison:
    """Several arms on one workload; the first is the baseline.

    `method` says over what the intervals are: the seeds, or the programs of a single run.
    """

    arms: Mapping[str, Sequence[Run]]
    seeds: Sequence[int]
    method: Method
    lines: Sequence[Line]
    note: str = ""

    @property
    def baseline(self) -> str:
        """The arm that the others are set against."""
        return next(iter(self.arms))

    @property
    def notes(self) -> list[str]:
        """What a reader should know of the runs."""
        return shared_notes({arm: runs[0].notes for arm, runs in self.arms.items()})

    def as_dict(self) -> dict[str, Any]:
        """What COMPARISON holds."""
        return {
            "schema_version": SCHEMA_VERSION,
            "baseline": self.baseline,
            "seeds": list(self.seeds),
            "confidence": CONFIDENCE,
            "intervals_over": self.method,
            "note": self.note,
            "arms": {name: _told(runs) for name, runs in self.arms.items()},
            "metrics": {line.place: _line_dict(line) for line in self.lines},
        }


def shared_notes(notes: Mapping[str, Sequence[str]]) -> list[str]:
    """Notes by arm as lines, each once: with the arms that have it where not all do."""
    told: dict[str, list[str]] = {}
    for arm, of in notes.items():
        for note in of:
            told.setdefault(note, []).append(arm)
    return [note if len(arms) == len(notes) else f"{', '.join(arms)}: {note}" for note, arms in told.items()]


def compare_runs(arms: Mapping[str, Sequence[Run]], seeds: Sequence[int]) -> Comparison:
    """Compare runs, one per seed and arm; the arms' runs of a seed share their random numbers.

    With one seed, or where the seeds changed nothing, intervals are over programs, and only metrics that
    have a value per turn or program have one.
    """
    fixed = all(run.values == runs[0].values for runs in arms.values() for run in runs)
    note = ""
    if fixed and len(seeds) > 1:
        note = "every seed gave the same: arrivals and tool times are recorded; --program-rate draws arrivals"
    judge = _OverPrograms(arms) if fixed else _OverSeeds(arms)
    lines = [line for place in _places(arms) if (line := _line(place, arms, judge)) is not None]
    return Comparison(arms, seeds, "programs" if fixed else "seeds", lines, note)


class _OverSeeds:
    """Intervals from the spread of the paired differences over seeds."""

    def __init__(self, arms: Mapping[str, Sequence[Run]]) -> None:
        self._arms = arms

    def pair(self, place: str, arm: str, other: str, confidence: float) -> Pair:
        left = [run.values[place] for run in self._arms[arm]]
        right = [run.values[place] for run in self._arms[other]]
        difference = t_interval([a - b for a, b in zip(left, right, strict=True)], confidence)
        if not all(right):
            return Pair(difference, None)
        return Pair(difference, t_interval([a / b - 1 for a, b in zip(left, right, strict=True)], confidence))


class _OverPrograms:
    """Intervals from drawing programs, with all their turns, out of the first run of each arm."""

    def __init__(self, arms: Mapping[str, Sequence[Run]]) -> None:
        self._runs = {name: runs[0] for name, runs in arms.items()}
        first = next(iter(self._runs.values()))
        ids = pl.read_parquet(first.folder / "programs.parquet", columns=["program_id"])
        self._places = ids.with_row_index("place").with_columns(pl.col("place").cast(pl.Int64))
        self._bootstrap = Bootstrap(ids.height)
        self._drawn: dict[tuple[str, str], dict[str, Floats]] = {}

    def pair(self, place: str, arm: str, other: str, confidence: float) -> Pair:
        left, right = (self._runs[name].values[place] for name in (arm, other))
        relative = Estimate(left / right - 1) if right else None
        drawn, against = self._resampled(place, arm), self._resampled(place, other)
        if drawn is None or against is None:
            return Pair(Estimate(left - right), relative)
        difference = percentile_interval(left - right, drawn - against, confidence)
        if relative is not None and np.all(against != 0):
            relative = percentile_interval(left / right - 1, drawn / against - 1, confidence)
        return Pair(difference, relative)

    def _resampled(self, place: str, arm: str) -> Floats | None:
        """A statistic in each resample; None for what has no value per turn or program, and for maxima."""
        stem, _, statistic = place.rpartition(".")
        metric = find_metric(stem)
        if metric is None or metric.subject not in ("turn", "program"):
            return None
        if (stem, arm) not in self._drawn:
            self._drawn[stem, arm] = self._draw(metric, arm)
        return self._drawn[stem, arm].get(statistic)

    def _draw(self, metric: Metric, arm: str) -> dict[str, Floats]:
        rows = self._runs[arm].column(metric)
        rows = rows.join(self._places, on="program_id", how="left", maintain_order="left")
        values, owner = rows["value"].cast(pl.Float64).to_numpy(), rows["place"].to_numpy()
        percentiles = self._bootstrap.percentiles(values, owner, _PERCENTS)
        named = {f"p{percent}": column for percent, column in zip(_PERCENTS, percentiles.T, strict=True)}
        return {"mean": self._bootstrap.means(values, owner), **named}


def _line(place: str, arms: Mapping[str, Sequence[Run]], judge: _OverSeeds | _OverPrograms) -> Line | None:
    """A metric in the arms that have it; None if no arm has it in every run."""
    metric = metric_at(place)
    assert metric is not None
    means = {
        name: float(np.mean([run.values[place] for run in runs]))
        for name, runs in arms.items()
        if all(place in run.values for run in runs)
    }
    baseline = next(iter(arms))
    cells = {
        name: Cell(mean, *judge.pair(place, name, baseline, CONFIDENCE))
        if name != baseline and baseline in means
        else Cell(mean)
        for name, mean in means.items()
    }
    winner = _winner(place, metric, means, judge) if len(means) == len(arms) else None
    return Line(place, metric, cells, winner) if cells else None


def _winner(
    place: str, metric: Metric, means: Mapping[str, float], judge: _OverSeeds | _OverPrograms
) -> str | None:
    """The best arm, if it is clearly better than each other one.

    The error is shared out over these comparisons (Bonferroni), so that all hold at once.
    """
    if not metric.better:
        return None
    best = (min if metric.better == "lower" else max)(means, key=lambda name: means[name])
    confidence = 1 - (1 - CONFIDENCE) / (len(means) - 1)
    others = [name for name in means if name != best]
    clear = all(judge.pair(place, best, name, confidence).difference.clear for name in others)
    return best if clear else None


def _places(arms: Mapping[str, Sequence[Run]]) -> dict[str, None]:
    """Places of metrics that have a value in any run, in the order of the summaries."""
    return dict.fromkeys(place for runs in arms.values() for run in runs for place in run.values)


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in table.items():
        place = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _leaves(value, f"{place}.") if key not in ("scenario", "provenance") else ()
        elif isinstance(value, (int, float)) and key != "n":
            yield place, value


@cache
def metric_at(place: str) -> Metric | None:
    """The metric of a place in the summary, with or without a statistic."""
    return find_metric(place) or find_metric(place.rpartition(".")[0])


def objectives_met(runs: Sequence[Run]) -> dict[str, int]:
    """For each service level objective of an arm, in how many runs it was met."""
    met: dict[str, int] = {}
    for run in runs:
        for entry in run.summary.get("slo", ()):
            met[entry["slo"]] = met.get(entry["slo"], 0) + entry["met"]
    return met


def _told(runs: Sequence[Run]) -> dict[str, Any]:
    """An arm as it was run, the seed apart."""
    first = runs[0].summary
    return {
        "scenario": {key: value for key, value in first["scenario"].items() if key != "seed"},
        "oracle": runs[0].oracle,
        "slo_met": objectives_met(runs),
        "values": {place: [run.values.get(place) for run in runs] for place in _places({"": runs})},
    }


def _line_dict(line: Line) -> dict[str, Any]:
    cells = {name: asdict(cell) for name, cell in line.cells.items()}
    return {"unit": line.metric.unit, "better": line.metric.better, "winner": line.winner, "arms": cells}

"""What the runs of a grid of settings say: each metric at each point, with its spread over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from agentservesim.experiment.comparison import SCHEMA_VERSION, Run, shared_notes
from agentservesim.experiment.intervals import CONFIDENCE, Estimate, t_interval

SWEEP = "sweep.json"


@dataclass(frozen=True)
class Point:
    """A point of the grid: its name, and every metric that has a value at all seeds, by place.

    `oracle`: whether one of its policies knows the future. `notes`: what a reader should know of its runs.
    """

    name: str
    metrics: Mapping[str, Estimate]
    oracle: bool = False
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Sweep:
    """All points, in the order of the grid."""

    points: Sequence[Point]
    seeds: Sequence[int]

    @property
    def notes(self) -> list[str]:
        """What a reader should know of the runs."""
        return shared_notes({point.name: point.notes for point in self.points})

    def as_dict(self) -> dict[str, Any]:
        """What SWEEP holds."""
        points = {
            point.name: {place: asdict(estimate) for place, estimate in point.metrics.items()}
            for point in self.points
        }
        return {
            "schema_version": SCHEMA_VERSION,
            "seeds": list(self.seeds),
            "confidence": CONFIDENCE,
            "oracles": [point.name for point in self.points if point.oracle],
            "points": points,
        }


def gather(arms: Mapping[str, Sequence[Run]], seeds: Sequence[int]) -> Sweep:
    """The points of a sweep, one for each arm."""
    points = [Point(name, _estimates(runs), runs[0].oracle, runs[0].notes) for name, runs in arms.items()]
    return Sweep(points, seeds)


def _estimates(runs: Sequence[Run]) -> dict[str, Estimate]:
    places = [place for place in runs[0].values if all(place in run.values for run in runs)]
    return {place: t_interval([run.values[place] for run in runs]) for place in places}

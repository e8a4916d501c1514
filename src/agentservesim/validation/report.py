"""What a comparison found, on the screen and in files."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any, TextIO

from agentservesim.files import write_whole
from agentservesim.model import InputError
from agentservesim.validation.figures import PERCENTILES, Timeline
from agentservesim.validation.picture import draw

NUDGE = 0.01
"""Sensitivity is the change of a figure when every step takes this much longer or shorter."""

GATED = ("TTFT", "TPOT", "E2E", "makespan")
"""Figures whose means a tolerance is for."""


@dataclass(frozen=True)
class Row:
    """One figure: real and simulated, relative error, another simulator's relative error, and the relative
    change of the simulated figure when the accelerator's part of every step is 1 % longer and shorter."""

    figure: str
    statistic: str
    real: float
    simulated: float
    error: float
    peer_error: float | None
    slower: float
    faster: float


@dataclass(frozen=True)
class ValidationReport:
    """Real against simulated, for one run.

    `unqueued_mape` is the mean absolute relative error of the TTFT of each of `unqueued` requests that
    hardly waited (None if all did, or if nobody knows). `over_time` is, for output, waiting and running
    requests, the mean absolute difference of the two timelines over the mean of the real one. `notes` say
    what the replay leaves out.
    """

    name: str
    requests: int
    figures: tuple[Row, ...]
    unqueued: int
    unqueued_mape: float | None
    over_time: Mapping[str, float]
    provenance: Mapping[str, str]
    real: Timeline
    simulated: Timeline
    notes: tuple[str, ...] = field(default=())

    def error(self, figure: str, statistic: str = "mean") -> float:
        """Relative error of a figure, such as ("TTFT", "p90")."""
        return next(r.error for r in self.figures if (r.figure, r.statistic) == (figure, statistic))

    def beyond(self, tolerance: float) -> list[Row]:
        """The means of TTFT, TPOT and E2E, and the makespan, that are further off than this."""
        means = [row for row in self.figures if row.figure in GATED and row.statistic in ("mean", "total")]
        return [row for row in means if abs(row.error) > tolerance]

    def within(self, tolerance: float) -> bool:
        """Whether none of them is."""
        return not self.beyond(tolerance)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON; without the timelines."""
        data = asdict(self)
        del data["real"], data["simulated"]
        return data


_LINES = (("output", "output tokens/s"), ("waiting", "waiting requests"), ("running", "running requests"))


def print_validation(reports: Sequence[ValidationReport], file: TextIO) -> None:
    """Print the reports as tables of plain text."""
    percentiles = [f"p{percent}" for percent in PERCENTILES]
    head = ("", "real", "sim", "error", *percentiles, f"+{NUDGE:.0%} steps", f"-{NUDGE:.0%} steps", "peer")
    for report in reports:
        print(f"{report.name}: {report.requests} requests", file=file)
        for cells in (head, *map(_cells, by_figure(report))):
            line = f"  {cells[0]:<22}" + "".join(f"{cell:>10}" for cell in cells[1:])
            print(line.rstrip(), file=file)
        if report.unqueued_mape is not None:
            single = f"MAPE {report.unqueued_mape:.1%} of {report.unqueued} requests"
            print(f"  unqueued TTFT, each on its own: {single}", file=file)
        apart = ", ".join(f"{name} {error:.1%}" for name, error in report.over_time.items())
        print(f"  over time, mean absolute difference: {apart}", file=file)
        print(f"  step times: {report.provenance['step_time']}", file=file)
        for note in report.notes:
            print(f"  note: {note}", file=file)
        print(file=file)


def write_validation(reports: Sequence[ValidationReport], folder: Path) -> list[Path]:
    """Write the reports (`validation.json`), and of each run the load over time as a table and a picture.

    Raises InputError if the folder cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made: {error.strerror}") from None
    data = [report.as_dict() for report in reports]
    files = [write_whole(folder / "validation.json", (json.dumps(data, indent=1) + "\n").encode())]
    for report in reports:
        name = report.name.replace("/", "_")
        panels = [
            (title, getattr(report.real, line), getattr(report.simulated, line)) for line, title in _LINES
        ]
        picture = draw(report.name, report.real.edges, panels)
        files.append(write_whole(folder / f"{name}.timeline.csv", _timeline_csv(report).encode()))
        files.append(write_whole(folder / f"{name}.timeline.svg", picture.encode()))
    return files


def _timeline_csv(report: ValidationReport) -> str:
    """The load over time, a row per bin: of the real run and of the simulated one side by side."""
    text = StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["time_s", *(f"{side}_{line}" for line, _ in _LINES for side in ("real", "sim"))])
    for index, time in enumerate(report.real.edges[:-1]):
        values = [
            getattr(side, line)[index] for line, _ in _LINES for side in (report.real, report.simulated)
        ]
        writer.writerow([f"{time:.3f}", *(f"{value:.4g}" for value in values)])
    return text.getvalue()


def by_figure(report: ValidationReport) -> list[dict[str, Row]]:
    """Rows of a figure together, by statistic, the mean first."""
    figures: dict[str, dict[str, Row]] = {}
    for row in report.figures:
        name = row.figure
        if row.statistic == "saturated" or (row.statistic == "total" and row.figure == "throughput"):
            name = f"{row.figure}, {row.statistic}"
        figures.setdefault(name, {})[row.statistic] = row
    return list(figures.values())


def label(row: Row) -> str:
    """Name and unit of a figure."""
    unit = {"throughput": "tok/s", "queue": "requests", "hit rate": "of tokens"}.get(row.figure, "s")
    return f"saturated {unit}" if row.statistic == "saturated" else f"{row.figure} {unit}"


def _cells(rows: Mapping[str, Row]) -> tuple[str, ...]:
    first = next(iter(rows.values()))
    percents = [f"{rows[p].error:+.1%}" if (p := f"p{percent}") in rows else "" for percent in PERCENTILES]
    return (
        label(first),
        f"{first.real:.4g}",
        f"{first.simulated:.4g}",
        f"{first.error:+.1%}",
        *percents,
        f"{first.slower:+.1%}",
        f"{first.faster:+.1%}",
        "" if first.peer_error is None else f"{first.peer_error:+.1%}",
    )

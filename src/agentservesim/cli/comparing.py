"""The commands of many runs: compare and sweep."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentservesim.cli.options import Json, NumInstances, Overrides, Source, Tiers, checked
from agentservesim.cli.output import INTERRUPTED, print_json
from agentservesim.model import InputError

if TYPE_CHECKING:
    from agentservesim.experiment import Arm, Comparison, Sweep
    from agentservesim.report.comparison import Sheet
    from agentservesim.settings import Settings

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE...", help="Scenarios (.toml, .json), a trace, or demo: the shipped trace."
    ),
]
Vary = Annotated[
    list[str] | None,
    typer.Option(
        "--vary",
        metavar="FIELD=A,B",
        help="Try each value of a flag (residency=lru,ttl,ttl_s=5) or of any field of the scenario "
        "(instances.0.count=1,2). Repeatable: every combination.",
    ),
]
Seeds = Annotated[int, typer.Option("--seeds", min=1, help="Runs of each, with seeds from --seed on.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Keep the runs here; those that are there are not made again."),
]
Jobs = Annotated[
    int | None, typer.Option("--jobs", "-j", min=1, help="Runs at a time. [default: one per processor]")
]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print Markdown instead of a table.")]
Metrics = Annotated[
    list[str] | None,
    typer.Option("--metric", metavar="METRIC", help="Show this, as turn.ttft.p99; see metrics. Repeatable."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]


def compare(
    sources: Sources,
    vary: Vary = None,
    seeds: Seeds = 5,
    baseline: Annotated[
        str | None, typer.Option("--baseline", metavar="ARM", help="Compare with this arm, not the first.")
    ] = None,
    metrics: Metrics = None,
    out: Out = None,
    as_json: Json = False,
    markdown: Markdown = False,
    jobs: Jobs = None,
    quiet: Quiet = False,
    num_instances: NumInstances = None,
    tiers: Tiers = None,
    overrides: Overrides = None,
    **flags: Any,
) -> None:
    """Compare policies or scenarios on one workload.

    All run with the same seeds: the same arrivals and tool times. Prints paired differences with
    confidence intervals, and what is best where these leave no doubt. An interrupted comparison goes on
    where it was when it is started again with the same --out.
    """
    from agentservesim.experiment import compare as compare_arms
    from agentservesim.report.comparison import comparison_sheet, places
    from agentservesim.report.progress import counting_runs

    settings = [_settings(source, flags, num_instances, tiers, overrides) for source in sources]
    arms = _led_by([arm for one in settings for arm in _arms(one, vary or (), len(sources) > 1)], baseline)
    shown = places(metrics or ())
    with _resumable(out), counting_runs(quiet) as progress:
        comparison = compare_arms(arms, seeds, out, jobs, progress)
    sheet = comparison_sheet(comparison, shown)
    _keep(sheet, out, "comparison")
    if not quiet:
        _tell(comparison, sheet, as_json, markdown)


def sweep(
    source: Source,
    vary: Vary = None,
    seeds: Seeds = 1,
    metrics: Metrics = None,
    out: Out = None,
    as_json: Json = False,
    markdown: Markdown = False,
    jobs: Jobs = None,
    quiet: Quiet = False,
    num_instances: NumInstances = None,
    tiers: Tiers = None,
    overrides: Overrides = None,
    **flags: Any,
) -> None:
    """Run a grid of settings: loads, fleets, policies.

    Prints a row per point; --out keeps every run, and a table of all metrics of all runs. An interrupted
    sweep goes on where it was when it is started again with the same --out.
    """
    from agentservesim.experiment import sweep as sweep_arms
    from agentservesim.report.comparison import places, sweep_sheet
    from agentservesim.report.progress import counting_runs

    arms = _arms(_settings(source, flags, num_instances, tiers, overrides), vary or (), False)
    shown = places(metrics or ())
    with _resumable(out), counting_runs(quiet) as progress:
        result = sweep_arms(arms, seeds, out, jobs, progress)
    sheet = sweep_sheet(result, shown)
    _keep(sheet, out, "sweep")
    if not quiet:
        _tell(result, sheet, as_json, markdown)


def _settings(
    source: str,
    flags: dict[str, Any],
    num_instances: int | None,
    tiers: list[str] | None,
    overrides: list[str] | None,
) -> Settings:
    from agentservesim.flags import source_settings

    return source_settings(source, flags, num_instances, tiers or (), overrides or ())


def _arms(settings: Settings, vary: Sequence[str], named: bool) -> list[Arm]:
    """A scenario in every combination of what varies; `named` puts the scenario's name before that."""
    from agentservesim.experiment import Arm
    from agentservesim.flags import vary as put

    grid = _grid(vary)
    arms = []
    for values in product(*grid.values()):
        combination = dict(zip(grid, values, strict=True))
        one = deepcopy(settings)
        for field, value in combination.items():
            put(one, field, value)
        scenario = checked(one)
        parts = [f"{field}={value}" for field, value in combination.items()]
        if named or not parts:
            parts.insert(0, scenario.name)
        arms.append(Arm(" ".join(parts), scenario))
    return arms


def _grid(vary: Sequence[str]) -> dict[str, list[str]]:
    """The values of each field that varies. Raises InputError for what is there twice or cannot be read."""
    from agentservesim.experiment import split_values

    grid: dict[str, list[str]] = {}
    for text in vary:
        field, equals, given = text.partition("=")
        values = split_values(given)
        if not equals or not field or not all(values):
            raise InputError(f"--vary {text}: expected FIELD=A,B, for example --vary residency=lru,demote")
        if field in grid:
            raise InputError(f"--vary {field}: it is varied twice; give all values at once")
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            raise InputError(f"--vary {field}: the value {twice} is there twice")
        grid[field] = values
    return grid


def _led_by(arms: list[Arm], baseline: str | None) -> list[Arm]:
    """The arms with the baseline first."""
    if baseline is None:
        return arms
    first = [arm for arm in arms if baseline in (arm.name, arm.name.partition("=")[2])]
    if len(first) != 1:
        names = ", ".join(f"'{arm.name}'" for arm in arms)
        raise InputError(f"--baseline {baseline}: no arm is called so; there are {names}")
    return [*first, *(arm for arm in arms if arm is not first[0])]


@contextmanager
def _resumable(out: Path | None) -> Iterator[None]:
    """An interrupt says what is kept."""
    try:
        yield
    except KeyboardInterrupt:
        if out is None:
            raise
        print(
            f"agentservesim: interrupted; finished runs are in {out}: the same command goes on from there",
            file=sys.stderr,
        )
        sys.exit(INTERRUPTED)


def _keep(sheet: Sheet, out: Path | None, name: str) -> None:
    if out is not None:
        from agentservesim.files import write_whole
        from agentservesim.report.html import write_report

        write_whole(out / f"{name}.md", sheet.markdown().encode())
        write_report(out)


def _tell(found: Comparison | Sweep, sheet: Sheet, as_json: bool, markdown: bool) -> None:
    for note in found.notes:
        print(f"agentservesim: note: {note}", file=sys.stderr)
    if as_json:
        print_json(found.as_dict())
    elif markdown:
        print(sheet.markdown(), end="")
    else:
        sheet.print(sys.stdout)

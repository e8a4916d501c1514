"""Experiments from their arms to what they say."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from agentservesim.experiment.arms import Arm, check_comparable, check_names
from agentservesim.experiment.comparison import COMPARISON, Comparison, Run, compare_runs
from agentservesim.experiment.runs import RUNS, make_jobs, run_all
from agentservesim.experiment.sweep import SWEEP, Sweep, gather
from agentservesim.model import InputError
from agentservesim.results.run_folder import PARTIAL, to_json, write_table
from agentservesim.scenario import prepare

SEEDS = 5

Progress = Callable[[int, int], None]
"""progress(done, all): told before the first run and behind each."""


def compare(
    arms: Sequence[Arm],
    seeds: int = SEEDS,
    folder: Path | None = None,
    processes: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Run every arm with the same seeds, counted from the first arm's, and compare with the first arm.

    `folder` keeps the runs, which are not made again when they are there, and gets comparison.json and
    runs.parquet. Without it the runs are forgotten. `processes` is how many run at a time (one for each
    processor); with more than one, a script must be guarded by `if __name__ == "__main__"`. Raises
    InputError for arms that do not serve the same workload, and for a scenario that cannot be run.
    """
    check_comparable(arms)
    chosen = _seeds(arms, seeds)
    with _place(folder) as place:
        comparison = compare_runs(_runs(arms, chosen, place, processes, progress), chosen)
        _write(place, COMPARISON, comparison.as_dict(), comparison.arms, chosen)
    return comparison


def sweep(
    arms: Sequence[Arm],
    seeds: int = SEEDS,
    folder: Path | None = None,
    processes: int | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Run every arm, whatever it serves, with several seeds. As `compare`, but for sweep.json."""
    check_names(arms)
    chosen = _seeds(arms, seeds)
    with _place(folder) as place:
        runs = _runs(arms, chosen, place, processes, progress)
        result = gather(runs, chosen)
        _write(place, SWEEP, result.as_dict(), runs, chosen)
    return result


def check_folder(folder: Path) -> None:
    """Raise InputError unless an experiment may be kept in `folder`: it is new, empty or has runs in it."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; --out needs the name of a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / RUNS).is_dir():
        raise InputError(f"{folder}: holds files that are not an experiment; choose a new folder")


def _seeds(arms: Sequence[Arm], count: int) -> range:
    first = arms[0].scenario.seed
    return range(first, first + count)


@contextmanager
def _place(folder: Path | None) -> Iterator[Path]:
    if folder is None:
        with TemporaryDirectory(prefix="agentservesim-") as temporary:
            yield Path(temporary)
        return
    check_folder(folder)
    try:
        yield folder
    except InputError as error:
        raise InputError(f"{error}{_kept(folder / RUNS)}") from error


def _kept(runs: Path) -> str:
    """Where the runs are that were made before one failed."""
    folders = list(runs.glob("[!.]*"))
    partial = sum(path.suffix == PARTIAL for path in folders)
    counts = {"finished": len(folders) - partial, f"incomplete ({PARTIAL})": partial}
    said = " and ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f"; kept in {runs}: {said}" if said else ""


def _runs(
    arms: Sequence[Arm], seeds: Sequence[int], place: Path, processes: int | None, progress: Progress | None
) -> dict[str, list[Run]]:
    """The runs of each arm, those made that are not there yet. All arms are checked before the first run."""
    jobs = make_jobs(arms, seeds, place)
    every = [job for arm_jobs in jobs for job in arm_jobs]
    for arm, arm_jobs in zip(arms, jobs, strict=True):
        if not all(job.done for job in arm_jobs):
            _check(arm, seeds[0])
    try:
        (place / RUNS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{place}: cannot be made: {error.strerror}") from None
    count = sum(job.done for job in every)

    def done() -> None:
        nonlocal count
        count += 1
        if progress is not None:
            progress(count, len(every))

    if progress is not None:
        progress(count, len(every))
    run_all(every, processes or os.cpu_count() or 1, done)
    return {arm.name: [Run.read(job.folder) for job in mine] for arm, mine in zip(arms, jobs, strict=True)}


def _check(arm: Arm, seed: int) -> None:
    try:
        prepare(arm.at(seed)).check()
    except InputError as error:
        raise InputError(f"{arm.name}: {error}") from None


def _write(
    folder: Path,
    name: str,
    content: Mapping[str, object],
    arms: Mapping[str, Sequence[Run]],
    seeds: Sequence[int],
) -> None:
    """Write what the experiment says, and a table with a row per run."""
    rows = [
        {"arm": arm, "seed": seed, "folder": run.folder.name} | {k: float(v) for k, v in run.values.items()}
        for arm, runs in arms.items()
        for seed, run in zip(seeds, runs, strict=True)
    ]
    try:
        (folder / name).write_bytes(to_json(content))
        write_table(pl.DataFrame(rows, infer_schema_length=None), folder / "runs.parquet")
    except OSError as error:
        raise InputError(f"{folder}: could not be written: {error.strerror or error}") from None

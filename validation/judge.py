"""Judges the simulator by logged runs: calibrates on some workloads, predicts the others, prints the errors.

    python validation/judge.py records

`records` holds `WORKLOAD.steps.jsonl` or, where a workload was run several times, `WORKLOAD.N.steps.jsonl`,
with the turns files beside them.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agentservesim.calibration import (
    Prediction,
    fit_linear,
    front_end,
    predict_run,
    read_step_log,
    read_turns,
    recorded,
    replay,
    turns_beside,
)
from agentservesim.cost.calibration import FrontEnd
from agentservesim.model import InputError


def logs_of(folder: Path) -> dict[str, list[Path]]:
    """The step logs of each workload's runs. Raises InputError for fewer than two workloads."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.steps.jsonl*")):
        name = re.sub(r"(\.\d+)?\.steps\.jsonl(\.gz)?$", "", path.name)
        found.setdefault(name, []).append(path)
    if len(found) < 2:
        raise InputError(f"{folder}: holds step logs of {len(found)} workloads; one is predicted from others")
    return found


def turns_of(path: Path) -> Path:
    """The turns file beside a step log. Raises InputError if there is none."""
    beside = turns_beside(path)
    if beside is None:
        raise InputError(f"{path}: has no turns file beside it")
    return beside


def judge(logs: dict[str, list[Path]], name: str) -> list[Prediction]:
    """Predict every run of a workload from the runs of the others."""
    others = [path for other, paths in logs.items() if other != name for path in paths]
    runs = [read_step_log(path) for path in others]
    ends = [front_end(run, read_turns(turns_of(path))) for run, path in zip(runs, others, strict=True)]
    middle = FrontEnd(
        in_s=float(np.mean([end.in_s for end in ends])), out_s=float(np.mean([end.out_s for end in ends]))
    )
    found = fit_linear(runs).model_copy(update={"front_end": middle})
    return [predict_run(path, found) for path in logs[name]]


def print_errors(name: str, predictions: Sequence[Prediction]) -> None:
    """Errors of the means over the runs, and how far the runs are apart."""
    print(f"{name}: mean of {len(predictions)} runs; noise is their coefficient of variation")
    print(f"  {'':<10}{'real s':>10}{'noise':>8}{'raw':>9}{'at speed':>10}")
    for figure in predictions[0].real.times:
        real = np.array([p.real.times[figure] for p in predictions])
        raw = np.mean([p.raw.times[figure] for p in predictions]) / real.mean() - 1
        scaled = np.mean([p.at_speed.times[figure] for p in predictions]) / real.mean() - 1
        noise = f"{real.std(ddof=1) / real.mean():.1%}" if len(real) > 1 else ""
        print(f"  {figure:<10}{real.mean():>10.4f}{noise:>8}{raw:>+9.1%}{scaled:>+10.1%}")


def print_replays(paths: Sequence[Path]) -> None:
    """Hits and preemptions where the step times are those of the run."""
    for path in paths:
        log, turns = read_step_log(path), read_turns(turns_of(path))
        real = recorded(log, turns)
        if log.limits.async_scheduling:
            continue
        ours = replay(log)
        print(
            f"  replayed {log.name}: cached tokens {real.cached_tokens:,} real, {ours.cached_tokens:,} ours; "
            f"preemptions {real.preemptions} and {ours.preemptions}; "
            f"blocks evicted {real.evicted_blocks:,} and {ours.evicted_blocks:,}"
        )


def print_judgement(folder: Path, verbose: bool = False) -> None:
    """Predict every workload in a folder of logs from the others, and print how far off that is."""
    logs = logs_of(folder)
    for name, paths in logs.items():
        predictions = judge(logs, name)
        if verbose:
            for prediction in predictions:
                prediction.print(sys.stdout)
        print_errors(name, predictions)
        print_replays(paths)


def main() -> None:
    """Judge a folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("records", type=Path)
    parser.add_argument("--verbose", action="store_true", help="print every run")
    given = parser.parse_args()
    try:
        print_judgement(given.records, given.verbose)
    except InputError as error:
        sys.exit(f"judge: {error}")


if __name__ == "__main__":
    main()

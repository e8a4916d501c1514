"""How far the simulation is off: a recorded run, replayed with its own arrivals and settings.

Every request is a program of one turn. Where the recording names the content of prompts (hash ids) the
prefix cache is replayed too, else every content is its own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from agentservesim.validation.figures import (
    UNQUEUED_S,
    Figures,
    Side,
    Timeline,
    figures,
    recorded_side,
    timeline,
)
from agentservesim.validation.fitting import fit_requests
from agentservesim.validation.recording import Recording, read_run
from agentservesim.validation.report import (
    NUDGE,
    Row,
    ValidationReport,
    by_figure,
    label,
    print_validation,
    write_validation,
)
from agentservesim.validation.rerun import replay, tables_of

__all__ = [
    "NUDGE",
    "Recording",
    "Row",
    "ValidationReport",
    "by_figure",
    "fit_requests",
    "label",
    "print_validation",
    "read_run",
    "validate_run",
    "write_validation",
]

_BINS = 60

_LEFT_OUT = (
    "speculative_config",
    "enable_lora",
    "kv_transfer_config",
    "kv_offloading_size",
    "cpu_offload_gb",
    "enable_eplb",
    "enable_dbo",
)
"""Engine settings that change times and that a replay does not have."""


def validate_run(
    run_dir: Path, tables: Path | None = None, calibration: Path | None = None
) -> ValidationReport:
    """Replay a recorded run and compare.

    `tables` is a folder of operator tables of the run's model and accelerator, or one that holds such
    folders as `<accelerator>/<model>/<type>`; without it the default step times of `CostConfig` apply. All
    engine constants are its defaults, the same for every run, or what `calibration` found in other runs.
    KV blocks are pinned to what the run recorded, if it did.
    Raises InputError for a folder that is no run, an unknown model or accelerator, or unreadable tables.
    """
    run = read_run(run_dir)
    given = {"tables": None if tables is None else tables_of(run, tables), "calibration": calibration}
    simulated, provenance = replay(run, given)
    recorded = recorded_side(run)
    none = np.zeros(len(run.arrival), dtype=bool)
    easy = none if run.queued is None else recorded.scheduled - run.queued < UNQUEUED_S
    hard = none if run.queued is None else ~easy

    def of(side: Side) -> Figures:
        return figures(run, side, easy, hard)

    real, ours = of(recorded), of(simulated)
    slow, fast = (of(replay(run, {**given, "step_time_scale": 1.0 + sign * NUDGE})[0]) for sign in (1, -1))
    rows = tuple(
        Row(
            figure=key[0],
            statistic=key[1],
            real=real[key],
            simulated=ours[key],
            error=_relative(ours[key], real[key]),
            peer_error=run.peer.get("/".join(key)),
            slower=_relative(slow.get(key, ours[key]), ours[key]),
            faster=_relative(fast.get(key, ours[key]), ours[key]),
        )
        for key in real
        if key in ours
    )
    single = (simulated.first_token - run.first_token)[easy] / (run.first_token - run.arrival)[easy]
    end = float(max(recorded.last_token.max(), simulated.last_token.max()))
    edges = np.linspace(0.0, end, _BINS + 1)
    lines = timeline(run, recorded, edges), timeline(run, simulated, edges)
    return ValidationReport(
        name=run.name,
        requests=len(run.arrival),
        figures=rows,
        unqueued=int(easy.sum()),
        unqueued_mape=float(np.abs(single).mean()) if easy.any() else None,
        over_time=_apart(*lines, run.queued is not None),
        provenance=provenance,
        real=lines[0],
        simulated=lines[1],
        notes=_notes(run),
    )


def _relative(value: float, reference: float) -> float:
    if reference == 0.0:
        return 0.0 if value == 0.0 else float("inf")
    return value / reference - 1.0


def _apart(real: Timeline, simulated: Timeline, inside: bool) -> dict[str, float]:
    """Mean absolute difference over the real mean, of each line."""
    names = ("output", "waiting", "running") if inside else ("output",)
    apart = {}
    for name in names:
        mine, theirs = getattr(simulated, name), getattr(real, name)
        if theirs.sum() > 0:
            apart[name] = float(np.abs(mine - theirs).sum() / theirs.sum())
    return apart


def _notes(run: Recording) -> tuple[str, ...]:
    notes = []
    if run.hash_ids is None:
        notes.append("prefix hits: requests.jsonl names no contents, every prompt is computed in full")
    if not {"num_gpu_blocks", "num_gpu_blocks_override"} & run.settings.keys():
        notes.append("KV blocks: not recorded, computed from the accelerator's memory")
    if run.queued is None:
        notes.append("recorded by clients: the front end's default latency is part of the simulation")
    if run.settings.get("enforce_eager"):
        notes.append(
            "enforce_eager: batches are not padded; slower launches without CUDA graphs are left out"
        )
    ignored = [key for key in _LEFT_OUT if run.settings.get(key)]
    if ignored:
        notes.append(f"settings of the run that are left out: {', '.join(ignored)}")
    return tuple(notes)

"""From a configuration to the workload that a run is given."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path

from agentservesim.lookup import did_you_mean
from agentservesim.model import InputError, Workload
from agentservesim.workload.config import WorkloadConfig
from agentservesim.workload.options import ReadOptions
from agentservesim.workload.reader import read_trace
from agentservesim.workload.transforms import arriving_at_once, arriving_at_rate, capped_gaps, first_programs

DEMO = "demo"


def load_workload(config: WorkloadConfig, seed: int) -> Workload:
    """Read the trace and apply, in this order: max_programs, max_gap_s, arrivals.

    Raises InputError where the trace cannot be understood.
    """
    if config.trace == DEMO:
        with as_file(files("agentservesim") / "data" / "demo.jsonl.gz") as path:
            workload = replace(_read(path, config), source=DEMO)
    else:
        _check_name(config.trace)
        workload = _read(config.trace, config)
    if config.max_programs is not None:
        workload = first_programs(workload, config.max_programs)
    if config.max_gap_s is not None:
        workload = capped_gaps(workload, config.max_gap_s)
    if config.program_rate is not None:
        return arriving_at_rate(workload, config.program_rate, config.burstiness, seed)
    return workload if config.max_concurrency is None else arriving_at_once(workload)


def _check_name(trace: str) -> None:
    """Raises InputError for a file that is not there, where the demo is likely to be meant."""
    meant = did_you_mean(trace, [DEMO], cutoff=0.75)
    if meant and not Path(trace).exists():
        raise InputError(f"{trace}: no such file{meant}")


def _read(path: str | Path, config: WorkloadConfig) -> Workload:
    options = ReadOptions(
        format=config.format,
        lengths=config.lengths,
        trace_block_size=config.trace_block_size,
        hash_scope=config.hash_scope,
        reuse_output=config.reuse_output,
    )
    return read_trace(path, options)

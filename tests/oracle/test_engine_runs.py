"""Recorded runs of the real engine, replayed: its decisions with its own step times."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from agentservesim.testing.replay import main

DECISIONS = ("arrived", "sched", "admitted", "preempted", "finished", "free_sched", "free_end")
RUNS = ("http_wA.0", "inproc_wA.0", "inproc_wB.0", "inproc_wC.0")


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("run", RUNS)
def test_a_recorded_run_is_decided_alike(run: str, at_once: bool, shared: Path, tmp_path: Path) -> None:
    packed = shared / "vllm" / "recorded" / f"{run}.steps.jsonl.gz"
    if not packed.exists():
        pytest.skip(f"the recorded run is not here: {packed}")
    recorded, replayed = tmp_path / "recorded.jsonl", tmp_path / "replayed.jsonl"
    recorded.write_bytes(gzip.decompress(packed.read_bytes()))
    arguments = ["--replay-trace", str(recorded), "-o", str(replayed)]
    assert main([*arguments, "--at-once"] if at_once else arguments) == 0
    theirs = [r for r in map(json.loads, recorded.read_text().splitlines()) if r["ev"] == "step"]
    ours = [json.loads(line) for line in replayed.read_text().splitlines()]
    assert len(theirs) == len(ours) > 100
    for step, (record, other) in enumerate(zip(theirs, ours, strict=True)):
        for key in DECISIONS:
            assert record[key] == other[key], f"step {step}: {key}"

"""Fresh random cases through vLLM's own scheduler and through ours; see docs/oracle.md."""

from __future__ import annotations

import gzip
import json
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from agentservesim.testing.replay import main as replay_command
from tests.oracle.comparison import differences, ours
from tests.oracle.generate import FAMILIES, STEP_TIME, case

FIRST = 1000
CASES_A_FAMILY = 80


@pytest.mark.oracle
def test_a_thousand_fresh_cases(vllm_python: Path, shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [str(vllm_python), str(Path(__file__).parent / "live.py"), str(shared / "vllm")]
    count: Counter[str] = Counter()
    with subprocess.Popen(
        [*command, str(FIRST), str(FIRST + CASES_A_FAMILY)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if not line.startswith('{"family"'):
                continue
            theirs = json.loads(line)
            limits, specs = case(theirs["family"], theirs["number"])
            for at_once in (False, True):
                mine = ours(limits, specs, STEP_TIME, at_once=at_once)
                found = differences(theirs["records"], mine, owners=not at_once)
                assert not found, (theirs["family"], theirs["number"], at_once, found[:3])
            count["cases"] += 1
            for record in theirs["records"]:
                count["steps"] += 1
                count["preemptions"] += len(record["preempted"])
                count["evictions"] += len(record["evicted"])
                count["hit tokens"] += record["h"] + record["ph"]
    with capsys.disabled():
        print(f"\nno difference from vLLM: {dict(count)}")
    assert count["cases"] == CASES_A_FAMILY * len(FAMILIES) >= 1000


@pytest.mark.parametrize("run", ["inproc_wA.0", "inproc_wB.0", "inproc_wC.0", "http_wA.0"])
def test_real_runs_of_the_engine(shared: Path, run: str, tmp_path: Path) -> None:
    log = tmp_path / "steps.jsonl"
    log.write_bytes(gzip.decompress((shared / "vllm" / "recorded" / f"{run}.steps.jsonl.gz").read_bytes()))
    out = tmp_path / "ours.jsonl"
    assert replay_command(["--replay-trace", str(log), "--no-times", "-o", str(out)]) == 0
    theirs = [r for r in map(json.loads, log.read_text().splitlines()) if r["ev"] == "step"]
    mine = [json.loads(line) for line in out.read_text().splitlines()]
    keys = ("sched", "admitted", "preempted", "finished", "free_sched", "free_end", "q", "h", "pq", "ph")
    plain = [{key: record[key] for key in keys} for record in theirs]
    assert not differences(plain, mine)

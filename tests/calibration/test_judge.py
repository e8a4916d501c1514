"""The scripts of `validation/` that need no vLLM."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agentservesim.workload import read_trace

REPOSITORY = Path(__file__).parents[2]
RECORDED = REPOSITORY.parent / "shared" / "vllm" / "recorded"


def script(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(REPOSITORY / "validation" / name), *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_drawn_programs_are_a_trace(tmp_path: Path) -> None:
    drawn = script("programs.py", "--programs", 5, "--seed", 3)
    assert drawn.returncode == 0, drawn.stderr
    (tmp_path / "p.jsonl").write_text(drawn.stdout)
    lines = [json.loads(line) for line in drawn.stdout.splitlines()]
    workload = read_trace(tmp_path / "p.jsonl")
    assert [p.id for p in workload.programs] == [f"p{i}" for i in range(5)]
    first = workload.programs[0].turns[0]
    assert first.prompt_tokens == 64 + lines[0]["turns"][0]["new_tokens"]
    assert script("programs.py", "--programs", 5, "--seed", 3).stdout == drawn.stdout


def test_the_gpu_workloads_fit_their_engines(tmp_path: Path) -> None:
    """No turn is longer than the 32,768 tokens that the engine takes by default."""
    assert script("vllm_gpu/experiment.py", "draw", tmp_path).returncode == 0
    for path in tmp_path.glob("*.jsonl"):
        programs = read_trace(path).programs
        assert max(turn.total_tokens for program in programs for turn in program.turns) < 32768, path.name


@pytest.mark.skipif(not RECORDED.is_dir(), reason="recorded runs of vLLM are not here: shared/vllm/recorded")
def test_the_judge_prints_errors_and_replays(tmp_path: Path) -> None:
    for path in RECORDED.glob("inproc_w*"):
        shutil.copy(path, tmp_path)
    judged = script("judge.py", tmp_path)
    assert judged.returncode == 0, judged.stderr
    for run, hits, preemptions, evicted in (
        ("wA", "17,024", 0, 23),
        ("wB", "12,800", 2, 433),
        ("wC", "8,000", 6, 394),
    ):
        both = f"preemptions {preemptions} and {preemptions}; blocks evicted {evicted} and {evicted}"
        assert f"replayed inproc_{run}.0: cached tokens {hits} real, {hits} ours; {both}" in judged.stdout


def test_one_workload_cannot_be_judged(tmp_path: Path) -> None:
    judged = script("judge.py", tmp_path)
    assert judged.returncode == 1
    assert "holds step logs of 0 workloads" in judged.stderr

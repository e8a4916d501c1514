"""Whole runs through the command line whose every number can be worked out: a step takes a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from agentservesim.cli import main

STEADY = {
    "format": "agentservesim.calibration",
    "version": 1,
    "fitted_to": ["nothing"],
    "linear": {"base_s": 1.0},
    "front_end": {"in_s": 0.0, "out_s": 0.0},
    "fitted": {"steps": 1, "mape": 0.0, "p95": 0.0, "total": 0.0},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "steady.json").write_text(json.dumps(STEADY))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(folder: Path, programs: list[dict[str, Any]], *words: str) -> tuple[int, dict[str, Any]]:
    """Exit code and summary of a run of one step a second; its tables are in the folder `out`."""
    (folder / "t.jsonl").write_text("".join(json.dumps(program) + "\n" for program in programs))
    steady = ["--calibration", "steady.json", "--no-async-scheduling"]
    with pytest.raises(SystemExit) as end:
        main(["run", "t.jsonl", *steady, "--out", "out", "--quiet", *words])
    assert isinstance(end.value.code, int)
    return end.value.code, json.loads((folder / "out" / "summary.json").read_text())


A = {
    "program_id": "a",
    "tenant": "x",
    "turns": [
        {"new_tokens": 70, "output_tokens": 4, "tools": [{"name": "Bash", "duration_s": 6}]},
        {"new_tokens": 16, "output_tokens": 2},
    ],
}
B = {"program_id": "b", "tenant": "y", "arrival_s": 1, "turns": [{"new_tokens": 32, "output_tokens": 6}]}
GOALS = ["--slo", "program.slowdown.max<1.6", "--goodput", "ttft:2s", "tpot:1001ms"]


def test_one_seat_for_two_tenants(folder: Path) -> None:
    """a runs in 0-4, its tool in 4-10, a again in 10-12; b, there from 1 on, runs in 4-10.

    So b waits 3 s for 6 s of work. Alone the programs would take 6 s each, and slowdowns are 1 and 1.5.
    """
    code, summary = run(folder, [A, B], "--max-num-seqs", "1", *GOALS, "--slo", "turn.ttft.p99<2s")
    assert code == 99
    programs = pl.read_parquet("out/programs.parquet").select(
        "latency_s", "queue_s", "slowdown", "good_turns"
    )
    assert programs.rows() == [(12, 0, 1, 2), (9, 3, 1.5, 0)]
    # TTFT is 1, 1 and 4 s: the 99th percentile is 98 % of the way from 1 to 4
    told = [(entry["slo"], entry["met"], pytest.approx(entry["value"])) for entry in summary["slo"]]
    assert told == [("program.slowdown.max<1.6", True, 1.5), ("turn.ttft.p99<2s", False, 1 + 0.98 * 3)]
    # the shares of an idle machine that they got are 1 and 2/3: (5/3)^2 / (2 * 13/9) = 25/26
    fairness = summary["fairness"]
    assert (fairness["jain_programs"], fairness["jain_tenants"]) == pytest.approx((25 / 26, 25 / 26))
    assert fairness["max_to_mean_slowdown"] == pytest.approx(1.5 / 1.25)
    # in 12 s: two good turns of three, one good program of two, and one pair of a turn and its tools
    good = {"turns_per_s": 2 / 12, "turn_share": 2 / 3, "programs_per_s": 1 / 12, "program_share": 1 / 2}
    assert summary["goodput"] == pytest.approx(good)
    assert summary["throughput"]["agent_steps_per_min"] == pytest.approx(60 / 12)
    assert run(folder, [A, B], "--max-num-seqs", "1", *GOALS)[0] == 0


ROUTER = """
from agentservesim.policies.protocols import Move, Pause, Replicate, Restore

class Planned:
    tick_s = 1.0

    def route(self, turn, instances, now_s):
        return turn.home or 0

    def rebalance(self, fleet):
        if fleet.now_s == 6:
            yield {}
        if fleet.now_s == 20:
            yield Restore("a", 1)
"""
MOVED = 4 * 16 * 131_072
"""Bytes of the four full blocks of 70 + 4 tokens, at 128 KiB a token (Llama 3.1 8B)."""


@pytest.mark.parametrize(
    ("migration", "instance", "ready_to_run_s", "cached", "sent"),
    [
        ("Move('a', 'a', 1)", 1, 0, 64, [("move", 0, 1, MOVED)]),
        ("Move('a', 'a', 1, transfer=False)", 1, 0, 0, []),
        ("Replicate('a', 'a', 1)", 0, 0, 64, [("replicate", 0, 1, MOVED)]),
        ("Pause('a')", 1, 20 - 10, 0, []),
    ],
)
def test_migrations_in_a_gap(
    folder: Path,
    migration: str,
    instance: int,
    ready_to_run_s: int,
    cached: int,
    sent: list[tuple[str, int, int, int]],
) -> None:
    """Asked for at 6 s, in a's gap from 4 to 10; a network of 46 GB/s has moved 8 MiB by then."""
    module = f"planned_{len(migration)}"
    (folder / f"{module}.py").write_text(ROUTER.format(migration))
    words = ["--num-instances", "2", "--router", f"{module}:Planned", "--set", "network.kind=rdma-400g"]
    assert run(folder, [A], *words)[0] == 0
    turn = pl.read_parquet("out/turns.parquet").row(1, named=True)
    assert (turn["instance"], turn["cached_tokens"]) == (instance, cached)
    assert turn["scheduled_s"] - turn["ready_s"] == turn["hold_s"] == ready_to_run_s
    transfers = pl.read_parquet("out/transfers.parquet")
    assert transfers.select("verb", "source", "instance", "bytes").rows() == sent
    assert all(took == pytest.approx(6e-6 + MOVED / 46e9 + 3e-6) for took in transfers["end_s"] - 6)
    links = pl.read_parquet("out/links.parquet")
    assert links["bytes"].to_list() == [MOVED if sent else 0] * 2, "out of one, and into the other"

"""Where programs' time goes and what the slowest did: every second is drawn once."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from agentservesim.report.html.latencies import distributions
from agentservesim.report.html.programs import (
    MAX_SEGMENTS,
    PARTS,
    program_classes,
    slowest,
    time_parts,
)
from agentservesim.report.html.series import QUANTILES
from agentservesim.report.saved_run import read_run
from tests.report.runs import multiplied, summary_of


def programs_of(latencies: list[float], **more: object) -> pl.DataFrame:
    table = pl.DataFrame({"program_id": [f"p{i}" for i in range(len(latencies))], "latency_s": latencies})
    parts = [(pl.col("latency_s") / len(PARTS)).alias(f"{part}_s") for part in PARTS]
    return table.with_columns(*parts, turns=pl.lit(3), kind=pl.lit("")).with_columns(
        *(pl.Series(name, values) for name, values in more.items())  # type: ignore[arg-type]
    )


def test_percentiles_are_real_programs_by_nearest_rank() -> None:
    data = time_parts(programs_of([float(i) for i in range(1, 101)]))
    assert [(row["label"], row["latency_s"]) for row in data["rows"]] == [
        ("p99", 99.0),
        ("p90", 90.0),
        ("p50", 50.0),
        ("mean", 50.5),
    ]
    assert data["rows"][0]["values"] == pytest.approx([99 / 5] * 5)


def test_no_program_no_bar() -> None:
    assert time_parts(programs_of([]))["rows"] == []


def test_classes_are_kinds_tenants_and_lengths_if_there_are_several() -> None:
    table = programs_of([1.0] * 5, kind=list("aabbb"), tenant=["t"] * 5, turns=[1, 5, 6, 20, 500])
    classes = program_classes(table)
    assert [(one.label, one.programs(table).height) for one in classes] == [
        ("all programs", 5),
        ("kind: b", 3),
        ("kind: a", 2),
        ("1 to 5 turns", 2),
        ("6 to 20 turns", 2),
        ("101 turns and more", 1),
    ]


def test_a_class_without_a_name() -> None:
    table = programs_of([1.0] * 3, kind=["", "a", "a"])
    assert [one.label for one in program_classes(table)] == ["all programs", "kind: a", "kind: none"]


def test_segments_of_a_program_are_its_turns(tiered: Path) -> None:
    run = read_run(tiered)
    programs, turns = run.table("programs"), run.table("turns")
    for row in slowest(programs, turns)["rows"]:
        own = turns.filter(pl.col("program_id") == row["program"])
        drawn = np.zeros(len(PARTS))
        for _, part, start, end in row["segments"]:
            drawn[int(part)] += end - start
        whole = [own["gap_s" if part == "tool" else f"{part}_s"].sum() for part in PARTS]
        slack = row["latency_s"] / 100 if len(row["segments"]) >= MAX_SEGMENTS / 4 else 0.1
        assert sum(drawn) == pytest.approx(sum(whole), rel=0.02, abs=slack)
        assert max(end for *_, end in row["segments"]) <= row["latency_s"] * 1.0001
        for lane in range(row["lanes"]):
            spans = sorted((start, end) for at, _, start, end in row["segments"] if at == lane)
            assert all(a[1] <= b[0] * 1.0001 for a, b in pairwise(spans)), "overlap"


def test_long_histories_are_bounded_and_lose_no_part_that_prevails() -> None:
    turns = pl.DataFrame(
        {
            "program_id": ["p"] * 5000,
            "session_id": ["s"] * 5000,
            "ready_s": [10.0 * i + 6 for i in range(5000)],
            "gap_s": [6.0] * 5000,
            "queue_s": [0.0] * 5000,
            "transfer_s": [0.0] * 5000,
            "prefill_s": [0.0] * 5000,
            "decode_s": [4.0 if i < 2500 else 0.0 for i in range(5000)],
            "finish_s": [10.0 * i + (10 if i < 2500 else 6) for i in range(5000)],
        }
    )
    programs = pl.DataFrame(
        {"program_id": ["p"], "kind": [""], "arrival_s": [0.0], "finish_s": [49996.0], "latency_s": [49996.0]}
    ).with_columns(turns=pl.lit(5000))
    (row,) = slowest(programs, turns)["rows"]
    assert 1 <= len(row["segments"]) <= MAX_SEGMENTS
    assert {part for _, part, *_ in row["segments"]} <= {0, 4}


def test_distributions_have_the_percentiles_of_the_summary(tiered: Path) -> None:
    run, summary = read_run(tiered), summary_of(tiered)
    for curve in distributions(run.table("programs"), run.table("turns")):
        subject, metric = curve["metric"].split(".")
        known = summary[subject][metric]
        assert curve["n"] == known["n"]
        for name, quantile in (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("max", 1.0)):
            at = int(np.argmin(np.abs(QUANTILES - quantile)))
            assert curve["values_s"][at] == pytest.approx(known[name], rel=1e-4)


def test_the_turns_of_a_class_are_those_of_its_programs(tiered: Path, tmp_path: Path) -> None:
    run = read_run(multiplied(tiered, tmp_path / "run", 3))
    programs, turns = run.table("programs"), run.table("turns")
    kinds = [one for one in program_classes(programs) if one.label.startswith("kind")]
    assert len(kinds) == 3
    assert sum(one.turns(turns, programs).height for one in kinds) == turns.height

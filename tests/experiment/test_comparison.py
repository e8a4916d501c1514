"""What runs say, on runs made up by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest

from agentservesim.experiment import Comparison, Run, compare_runs
from agentservesim.experiment.comparison import COMPARISON
from agentservesim.experiment.sweep import SWEEP, gather
from agentservesim.model import InputError
from agentservesim.report.comparison import comparison_sheet, sweep_sheet
from agentservesim.report.html.comparisons import comparison_data

TOLD = {"workload": {"notes": []}}


def run(folder: Path, latencies: Sequence[float], ttft: float | None = 1.0, **more: Any) -> Run:
    """A run whose programs have these latencies; what is not needed is left out."""
    folder.mkdir(parents=True)
    names = [f"p{n}" for n in range(len(latencies))]
    values = [float(value) for value in latencies]
    pl.DataFrame({"program_id": names, "latency_s": values}).write_parquet(folder / "programs.parquet")
    pl.DataFrame({"program_id": names, "ttft_s": [ttft] * len(names)}).write_parquet(folder / "turns.parquet")
    mean = sum(latencies) / len(latencies)
    summary = {
        "wall_s": 1.0,
        "scenario": {"name": "x", "seed": 5},
        "provenance": TOLD,
        "program": {"latency_s": {"mean": mean, "max": max(latencies), "n": len(latencies)}},
        "turn": {"ttft_s": {"mean": ttft, "n": len(latencies)}},
        "tokens": {"hit_rate": 0.5},
        "counts": {"preemptions": 0},
        **more,
    }
    return Run(summary, folder)


def lacks(name: str, seed: int, who: str, ttft: float) -> float | None:
    """A TTFT, which the second run of one arm has not."""
    return None if name == who and seed == 1 else ttft


def comparison_file_of(comparison: Comparison, folder: Path) -> Path:
    """The comparison as it is written."""
    file = folder / COMPARISON
    file.write_bytes(orjson.dumps(comparison.as_dict()))
    return file


def compared(tmp_path: Path, arms: Mapping[str, Sequence[float]], **more: Any) -> Comparison:
    """Arms with a mean program latency per seed."""
    runs = {
        name: [run(tmp_path / f"{name}{s}", [mean - 1, mean + 1], **more) for s, mean in enumerate(means)]
        for name, means in arms.items()
    }
    return compare_runs(runs, range(len(next(iter(arms.values())))))


def test_paired_differences_by_hand(tmp_path: Path) -> None:
    """10, 20, 60 against 9, 18, 57: differences -1, -2, -3; relative -10%, -10%, -5%."""
    comparison = compared(tmp_path, {"old": [10, 20, 60], "new": [9, 18, 57]})
    assert comparison.method == "seeds"
    assert comparison.baseline == "old"
    line = next(line for line in comparison.lines if line.place == "program.latency_s.mean")
    assert line.cells["old"].mean == 30
    assert line.cells["old"].difference is None
    cell = line.cells["new"]
    assert cell.mean == 28
    assert cell.difference is not None
    assert cell.difference.value == -2
    assert cell.difference.half_width == pytest.approx(4.302653 * 1 / 3**0.5)
    assert cell.relative is not None
    assert cell.relative.value == pytest.approx(-0.25 / 3)
    assert line.winner is None  # -2 +- 2.5


def test_a_winner_is_clear(tmp_path: Path) -> None:
    comparison = compared(tmp_path, {"old": [10, 20, 60], "new": [9, 18.9, 58.8]})
    winners = {line.place: line.winner for line in comparison.lines}
    assert winners["program.latency_s.mean"] == "new"
    assert winners["turn.ttft_s.mean"] is None  # equal
    assert winners["tokens.hit_rate"] is None


def test_the_baseline_may_win(tmp_path: Path) -> None:
    line = compared(tmp_path, {"new": [9, 18.9, 58.8], "old": [10, 20, 60]}).lines[0]
    assert (line.place, line.winner) == ("program.latency_s.mean", "new")


def test_with_more_arms_a_winner_has_to_be_clearer(tmp_path: Path) -> None:
    """-1, -1.1, -1.5 is clear at 95% (4.30 * 0.153 = 0.66), and for three other arms at 98.3% (7.65 * 0.153),
    but not for ten of them (14.1 * 0.153 = 2.2)."""
    old, new = [10, 20, 60], [9, 18.9, 58.5]
    for others, winner in ((1, "new"), (3, "new"), (10, None)):
        arms = {f"old{n}": old for n in range(others)} | {"new": new}
        assert compared(tmp_path / str(others), arms).lines[0].winner == winner


def test_what_is_neither_good_nor_bad_has_no_winner(tmp_path: Path) -> None:
    runs = {
        name: [run(tmp_path / f"{name}{s}", [1, 2], simulated_s=float(s + end)) for s in range(3)]
        for name, end in (("a", 0), ("b", 1))
    }
    line = next(line for line in compare_runs(runs, range(3)).lines if line.place == "simulated_s")
    assert line.cells["b"].difference is not None
    assert line.cells["b"].difference.clear
    assert line.winner is None


def test_values_that_are_missing_or_zero(tmp_path: Path) -> None:
    comparison = compared(tmp_path, {"a": [1, 2], "b": [3, 5]}, ttft=None)
    places = [line.place for line in comparison.lines]
    assert "turn.ttft_s.mean" not in places
    assert "program.latency_s.n" not in places
    assert "wall_s" not in places
    preemptions = next(line for line in comparison.lines if line.place == "counts.preemptions")
    assert preemptions.cells["b"].relative is None


def test_one_seed_is_judged_over_programs(tmp_path: Path) -> None:
    """Every program is 2 s quicker: so is every resample. The longest one, and what has no row, stay open."""
    base = [float(n) for n in range(30)]
    runs = {
        "old": [run(tmp_path / "old", [n + 2 for n in base])],
        "new": [run(tmp_path / "new", base, tokens={"hit_rate": 0.6})],
    }
    comparison = compare_runs(runs, [0])
    assert comparison.method == "programs"
    lines = {line.place: line for line in comparison.lines}
    mean = lines["program.latency_s.mean"].cells["new"].difference
    assert mean is not None
    assert (mean.value, mean.low, mean.high) == pytest.approx((-2, -2, -2))
    assert lines["program.latency_s.mean"].winner == "new"
    for place in ("program.latency_s.max", "tokens.hit_rate"):
        difference = lines[place].cells["new"].difference
        assert difference is not None
        assert difference.low is None
        assert lines[place].winner is None


def test_programs_are_paired_by_name(tmp_path: Path) -> None:
    """The same programs in another order are no difference at all."""
    runs = {"a": [run(tmp_path / "a", [1.0, 5.0, 90.0])], "b": [run(tmp_path / "b", [1.0, 5.0, 90.0])]}
    table = pl.read_parquet(tmp_path / "b" / "programs.parquet")
    table.reverse().write_parquet(tmp_path / "b" / "programs.parquet")
    runs["b"][0].summary["program"]["latency_s"]["max"] = 91.0
    (line,) = (x for x in compare_runs(runs, [0]).lines if x.place == "program.latency_s.mean")
    difference = line.cells["b"].difference
    assert difference is not None
    assert (difference.low, difference.high) == pytest.approx((0, 0), abs=1e-9)


def test_seeds_that_change_nothing_are_told(tmp_path: Path) -> None:
    comparison = compared(tmp_path, {"a": [3, 3, 3], "b": [4, 4, 4]})
    assert comparison.method == "programs"
    assert comparison.note.startswith("every seed gave the same")
    assert "Note: every seed gave the same" in comparison_sheet(comparison).markdown()


def test_the_sheet_and_the_json(tmp_path: Path) -> None:
    slo = [{"slo": "turn.ttft.p99<2s", "met": True}]
    runs = {
        "old": [run(tmp_path / f"o{s}", [s, s + 20.0], slo=slo) for s in range(3)],
        "new": [
            run(tmp_path / f"n{s}", [s, s + 10.0 + s], slo=slo, provenance=TOLD | {"oracle": True})
            for s in range(3)
        ],
    }
    comparison = compare_runs(runs, range(3))
    text = comparison_sheet(comparison, ["program.latency_s.mean"]).markdown()
    # means 11 and 5 + (0 + 1.5 + 3) / 3 = 6.5; differences -5, -4.5, -4
    assert "| program.latency.mean (s) | old | 11.0 |  |  |  |  |" in text
    assert "|  | new | 6.50 | -4.50 | -5.74 .. -3.26 |" in text
    assert "| best |" in text
    assert "old: turn.ttft.p99<2s was met in 3 of 3 runs." in text
    assert "new is an oracle: it knows the future." in text
    told = comparison.as_dict()
    assert told["arms"]["new"]["oracle"] is True
    assert told["arms"]["old"]["slo_met"] == {"turn.ttft.p99<2s": 3}
    assert told["arms"]["old"]["scenario"] == {"name": "x"}
    assert told["metrics"]["program.latency_s.mean"]["winner"] == "new"
    assert told["arms"]["new"]["values"]["program.latency_s.mean"] == [5, 6.5, 8]


def test_the_sheet_says_who_was_turned_away_and_what_has_no_value(tmp_path: Path) -> None:
    none = {"n": 0, "mean": None}
    runs = {
        "all": [run(tmp_path / "a", [1, 2, 3], counts={"programs": 3, "rejected": 0})],
        "few": [run(tmp_path / "f", [1], counts={"programs": 1, "rejected": 2}, turn={"ttft_s": none})],
    }
    notes = comparison_sheet(compare_runs(runs, [0])).notes
    assert "few: 2 of 3 programs were turned away; figures are of the others." in notes
    assert "few: blank, as a run has no value: turn.ttft.mean." in notes
    assert not [note for note in notes if note.startswith("all")]


def test_what_an_arm_lacks_is_blank(tmp_path: Path) -> None:
    """Of three arms `few` lacks a value in one of two runs; nobody wins, and the others are compared."""
    runs = {
        name: [run(tmp_path / f"{name}{s}", [1, 2 + s], lacks(name, s, "few", ttft)) for s in range(2)]
        for name, ttft in (("old", 4.0), ("few", 5.0), ("new", 1.0))
    }
    comparison = compare_runs(runs, range(2))
    line = next(line for line in comparison.lines if line.place == "turn.ttft_s.mean")
    assert list(line.cells) == ["old", "new"]
    assert line.winner is None
    difference = line.cells["new"].difference
    assert difference is not None
    assert difference.value == -3
    sheet = comparison_sheet(comparison, ["turn.ttft_s.mean"])
    assert [row[1:4] for row in sheet.rows] == [
        ("old", "4.00", ""),
        ("few", "", ""),
        ("new", "1.00", "-3.00"),
    ]
    assert list(comparison.as_dict()["metrics"]["turn.ttft_s.mean"]["arms"]) == ["old", "new"]
    assert comparison.as_dict()["arms"]["few"]["values"]["turn.ttft_s.mean"] == [5.0, None]


def test_a_baseline_that_lacks_a_value_is_blank_and_nobody_is_compared_with_it(tmp_path: Path) -> None:
    runs = {
        name: [run(tmp_path / f"{name}{s}", [1, 2 + s], lacks(name, s, "old", 4.0)) for s in range(2)]
        for name in ("old", "new")
    }
    sheet = comparison_sheet(compare_runs(runs, range(2)), ["turn.ttft_s.mean"])
    assert [row[1:] for row in sheet.rows] == [("old", *[""] * 5), ("new", "4.00", *[""] * 4)]
    assert "old: blank, as a run has no value: turn.ttft.mean." in sheet.notes
    page = comparison_file_of(compare_runs(runs, range(2)), tmp_path)
    assert comparison_data(page)["verdict"]["numbers"]


def test_a_point_of_a_sweep_that_lacks_a_value_is_blank(tmp_path: Path) -> None:
    points = {
        name: [run(tmp_path / f"{name}{s}", [1, 2 + s], lacks(name, s, "few", 4.0)) for s in range(2)]
        for name in ("few", "all")
    }
    sheet = sweep_sheet(gather(points, range(2)), ["turn.ttft_s.mean", "program.latency_s.mean"])
    assert sheet.header == ["point", "turn.ttft.mean (s)", "program.latency.mean (s)"]
    assert [row[:2] for row in sheet.rows] == [["few", ""], ["all", "4.00 +- 0.00"]]
    assert "few: blank, as a run has no value: turn.ttft.mean." in sheet.notes


def test_a_sweep_says_who_is_an_oracle(tmp_path: Path) -> None:
    points = {
        name: [run(tmp_path / name, [1, 2], provenance=TOLD | {"oracle": oracle})]
        for name, oracle in (("lru", False), ("belady", True))
    }
    found = gather(points, range(1))
    assert found.as_dict()["oracles"] == ["belady"]
    assert "belady is an oracle: it knows the future." in sweep_sheet(found).notes
    (tmp_path / SWEEP).write_bytes(orjson.dumps(found.as_dict()))
    warnings = comparison_data(tmp_path / SWEEP)["verdict"]["warnings"]
    assert warnings == ["belady: an oracle; it knows the future, as no server can."]


def test_rates_keep_their_names(tmp_path: Path) -> None:
    points = {"a": [run(tmp_path / "a", [1], throughput={"turns_per_s": 2.0})]}
    shown = ["throughput.turns_per_s", "turn.ttft_s.mean"]
    header = ["throughput.turns_per_s (1/s)", "turn.ttft.mean (s)"]
    assert sweep_sheet(gather(points, range(1)), shown).header[1:] == header


def test_a_damaged_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    with pytest.raises(InputError, match=r"r: is no whole run .*; delete it to run it again"):
        Run.read(tmp_path / "r")

"""The page of errors is what its script writes, and our own recorded runs are predicted as it says."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "accuracy.md"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_accuracy", REPOSITORY / "scripts/make_accuracy.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["make_accuracy"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_errors_beyond_the_aim_are_bold(script: ModuleType) -> None:
    assert script.signed(0.031, 0.03) == "**+3.1%**"
    assert script.signed(-0.03, 0.03) == "-3.0%"
    assert script.signed(9.0) == "+900.0%"
    assert script.table(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | --: |\n| 1 | 2 |"


def test_our_recorded_runs_evict_and_preempt(script: ModuleType) -> None:
    """One run of each workload, replayed: tokens hit and preemptions are those of vLLM."""
    logs = [script.RECORDS / f"{name}.2.steps.jsonl.gz" for name in ("moderate", "overload", "preempting")]
    rows = script.replay_rows(logs)
    assert [row[1] for row in rows] == ["23,584 and 23,584", "4,864 and 4,864", "5,888 and 5,888"]
    assert [row[2] for row in rows] == ["0 and 0", "1 and 1", "7 and 7"]
    assert all(row[0] in PAGE.read_text(encoding="utf-8") for row in rows)


def test_computed_kv_blocks_are_within_two_percent(script: ModuleType, shared: Path) -> None:
    for name, real, computed in script.block_rows():
        assert abs(computed / real - 1) <= script.BLOCKS, name


@pytest.mark.slow
def test_the_page_is_what_the_script_writes(script: ModuleType, shared: Path) -> None:
    assert PAGE.read_text(encoding="utf-8") == script.page(), "make accuracy writes it anew"

"""The run folder is written whole or not at all, and explains itself."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from agentservesim.model import InputError
from agentservesim.results import Result, check_target, run_folder

SUMMARY = {
    "schema_version": 1,
    "scenario": {"name": "t"},
    "seed": 0,
    "simulated_s": 1.0,
    "counts": {"programs": 1, "turns": 1},
}


def make(rows: int = 1) -> Result:
    turns = pl.DataFrame({"turn_id": ["x"] * rows, "ttft_s": [0.5] * rows})
    return Result(SUMMARY, turns, pl.DataFrame({"program_id": ["p"]}))


def test_a_saved_run_can_be_read_back(tmp_path: Path) -> None:
    folder = make().save(tmp_path / "deep" / "run")
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md",
        "programs.parquet",
        "summary.json",
        "turns.parquet",
    ]
    assert json.loads((folder / "summary.json").read_text()) == SUMMARY
    assert pl.read_parquet(folder / "turns.parquet").equals(make().turns)
    guide = (folder / "README.md").read_text()
    assert "| turn_id | the turn |" in guide
    assert "| ttft_s | = first_token_s - ready_s |" in guide
    assert [p.name for p in folder.parent.iterdir()] == ["run"]


def test_steps_are_kept_when_recorded(tmp_path: Path) -> None:
    steps = pl.DataFrame({"instance": [0], "running": [3]})
    folder = Result(SUMMARY, make().turns, make().programs, steps).save(tmp_path / "run")
    assert pl.read_parquet(folder / "steps.parquet").equals(steps)


def test_an_earlier_run_is_replaced(tmp_path: Path) -> None:
    make(rows=3).save(tmp_path / "run")
    make(rows=1).save(tmp_path / "run")
    assert pl.read_parquet(tmp_path / "run" / "turns.parquet").height == 1
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_other_peoples_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="not a run of agentservesim"):
        make().save(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(InputError, match="is a file"):
        check_target(tmp_path / "thesis.tex")
    with pytest.raises(InputError, match="is not a folder"):
        check_target(tmp_path / "thesis.tex" / "run")


def test_a_full_disk_gets_one_line_from_polars_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise pl.exceptions.ComputeError("parquet: Invalid thrift: transport error")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    with pytest.raises(InputError, match=r"run: could not be written: parquet: .* \(is the disk full\?\)"):
        make().save(tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("earlier", [True, False])
def test_a_broken_write_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException, earlier: bool
) -> None:
    if earlier:
        make(rows=3).save(tmp_path / "run")

    def broken(*_: object) -> str:
        raise fault

    monkeypatch.setattr(run_folder, "_guide", broken)
    with pytest.raises((KeyboardInterrupt, InputError)):
        make().save(tmp_path / "run")
    assert [p.name for p in tmp_path.iterdir()] == (["run"] if earlier else [])
    if earlier:
        assert pl.read_parquet(tmp_path / "run" / "turns.parquet").height == 3

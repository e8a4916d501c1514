"""The report as a file: whole, self-contained, bounded, and safe against the names that are in it."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from agentservesim.model import InputError
from agentservesim.report.html import page, write_report
from agentservesim.report.html.memory import heat, kv_over_time, transfers
from agentservesim.report.html.pictures import report_data
from agentservesim.report.perfetto import write_trace
from agentservesim.report.saved_run import read_run
from tests.report.runs import HOSTILE, TIERS, choosy_run, failed_run, summary_of, write_run

VENDOR = Path(page.__file__).parent / "vendor"
PICTURES = ["time", "kv", "gaps", "latency", "load", "links", "slowest"]
MEGABYTE = 1_000_000


def data_of(html: str) -> dict[str, object]:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    data: dict[str, object] = json.loads(text)
    return data


@pytest.mark.parametrize("kind", ["tiered", "plain", "failed", "hostile"])
def test_each_picture_has_a_question_an_answer_and_its_columns(
    kind: str, request: pytest.FixtureRequest
) -> None:
    run = read_run(request.getfixturevalue(kind))
    pictures = report_data(run)["pictures"]
    assert [picture["id"] for picture in pictures] == PICTURES
    for picture in pictures:
        assert picture["question"].endswith("?")
        assert picture["answer"].endswith(".")
        for file, columns in picture["sources"].items():
            assert set(columns) <= set(run.table(file).columns), (picture["id"], file)


def test_the_page_holds_its_data_and_fetches_nothing(tiered: Path) -> None:
    html = (tiered / "report.html").read_text()
    assert data_of(html) == json.loads(json.dumps(report_data(read_run(tiered))))
    own = html.replace((VENDOR / "echarts.min.js").read_text(), "")
    assert not re.search(r"""(src|href)=["']?(https?:)?//|@import|\burl\(|fetch\(|XMLHttpRequest""", own)


def test_the_plotting_library_is_the_one_that_was_released() -> None:
    digest = hashlib.sha256((VENDOR / "echarts.min.js").read_bytes()).hexdigest()
    assert digest in (VENDOR / "README.md").read_text()


def test_hostile_names_stay_data(hostile: Path) -> None:
    html = (hostile / "report.html").read_text()
    assert html.count("<script") == 1 + len(page._SCRIPTS), "no script but the page's own"
    assert "<img src=x" not in html
    data = data_of(html)
    assert data["name"] == HOSTILE
    assert HOSTILE in json.dumps(data, ensure_ascii=False).encode().decode("unicode_escape")


def test_numbers_are_those_of_the_summary(tiered: Path) -> None:
    summary = summary_of(tiered)
    verdict = report_data(read_run(tiered))["verdict"]
    assert len(verdict["numbers"]) == 5
    for number in verdict["numbers"]:
        known = summary
        for key in number["metric"].split("."):
            known = known[key]
        assert number["value"] == known
    assert [slo["met"] for slo in verdict["slos"]] == [True, False]
    assert {(line["metric"], line["bound_s"]) for line in verdict["lines"]} == {
        ("turn.ttft_s", 60.0),
        ("turn.tpot_s", 0.001),
        ("turn.ttft_s", 2.0),
    }


def test_a_failed_run_says_so_first(failed: Path) -> None:
    (warning,) = report_data(read_run(failed))["verdict"]["warnings"]
    assert warning.startswith("This run is incomplete: residency ")


def test_a_run_that_failed_before_any_program_ended(tmp_path: Path) -> None:
    run = read_run(failed_run(tmp_path / "run", gaps=2))
    assert run.summary["counts"]["programs"] == 0
    data = report_data(run)
    assert data["verdict"]["title"] == "no program came to its end"
    empty = [p["id"] for p in data["pictures"] if p["answer"] == "No program came to its end."]
    assert empty == ["time", "slowest"]


def test_programs_that_were_turned_away_are_told_of_and_drawn_nowhere(tmp_path: Path) -> None:
    run = read_run(choosy_run(tmp_path / "run", ttft_s=2))
    programs, data = run.table("programs"), report_data(run)
    done = set(programs.filter(status="done")["program_id"])
    assert 0 < len(done) < programs.height == 12
    (warning,) = data["verdict"]["warnings"]
    assert f"turned {12 - len(done)} programs away" in warning
    assert data["classes"][0]["programs"] == len(done)
    pictures = {picture["id"]: picture["data"] for picture in data["pictures"]}
    assert {row["program"] for row in pictures["slowest"][0]["rows"]} == done
    assert {row["program"] for row in pictures["time"][0]["rows"]} <= done | {""}
    assert write_trace(run.folder).stat().st_size > 0


def test_a_run_in_which_all_were_turned_away(tmp_path: Path) -> None:
    run = read_run(choosy_run(tmp_path / "run", ttft_s=0.001))
    assert run.summary["counts"]["rejected"] == 12
    assert run.summary["program"]["time_share"]["tool"] is None
    assert report_data(run)["verdict"]["title"] == "no program came to its end"
    assert write_trace(run.folder).stat().st_size > 0


def test_memory_is_never_fuller_than_it_is(tiered: Path) -> None:
    run = read_run(tiered)
    for view in kv_over_time(run)["views"]:
        assert [tier["name"] for tier in view["tiers"]] == ["hbm", "dram"]
        for tier in view["tiers"]:
            used = np.sum(list(tier["bytes"].values()), axis=0)
            assert used.max() <= tier["size_bytes"] * 1.001
            assert used.max() > 0


def test_mean_of_pinned_is_what_the_instances_table_says(tiered: Path) -> None:
    """The same integral, computed by the recorder on integer picoseconds."""
    run = read_run(tiered)
    hbm = kv_over_time(run)["views"][0]["tiers"][0]["bytes"]
    instances = run.table("instances")
    for state in ("pinned", "in_flight"):
        mean = instances[f"{state}_byte_s"].sum() / run.end_s
        assert np.mean(hbm[state]) == pytest.approx(mean, rel=1e-3)


def test_bytes_over_links_sum_to_those_moved(tiered: Path) -> None:
    run = read_run(tiered)
    data = transfers(run)
    width = run.end_s / (len(data["edges_s"]) - 1)
    for link in data["links"]:
        assert sum(link["rate"]) * width == pytest.approx(link["bytes"], rel=1e-3)


def test_queues_are_where_turns_waited(plain: Path) -> None:
    run = read_run(plain)
    data = heat(run)
    turns = run.table("turns")
    width = run.end_s / (len(data["edges_s"]) - 1)
    waited = (turns["scheduled_s"] - turns["ready_s"]).sum()
    assert np.sum(data["waiting"]) * width == pytest.approx(waited, rel=1e-3)
    assert len(data["instances"]) == 2


@pytest.mark.parametrize("tiers", [{}, TIERS])
def test_engines_of_an_instance_are_looked_at_one_by_one(tmp_path: Path, tiers: dict[str, Any]) -> None:
    groups = [{"count": 2}, {"gpu": "l40s", "data_parallel_size": 2, "num_gpu_blocks": 10400}]
    workload = {"trace": "demo", "max_programs": 5}
    folder = write_run(
        tmp_path / "engines", workload=workload, instances=groups, router="round-robin", **tiers
    )
    write_trace(folder)
    names = ["h100-sxm-0", "h100-sxm-1", "l40s-0.0", "l40s-0.1"]
    run = read_run(folder)
    assert run.instance_names() == heat(run)["instances"] == names
    sizes = [view["tiers"][0]["size_bytes"] for view in kv_over_time(run)["views"][1:]]
    assert sizes == [blocks * 16 * 131072 for blocks in (27581, 27581, 10399, 10399)]


def test_a_shared_tier_is_one_and_every_instance_sees_it(tmp_path: Path) -> None:
    tiers = [{"name": "dram", "capacity_bytes": 30e9, "scope": "fleet"}]
    memory = {**TIERS["memory"], "tiers": tiers}
    workload = {"trace": "demo", "max_programs": 4, "program_rate": 0.2}
    instances = [{"num_gpu_blocks": 11000, "count": 2}]
    fields = {**TIERS, "memory": memory, "workload": workload, "instances": instances}
    run = read_run(write_run(tmp_path / "run", **fields))
    assert run.table("residency").filter(pl.col("tier") == "dram")["instance"].unique().to_list() == [0]
    whole, *each = [view["tiers"][1] for view in kv_over_time(run)["views"]]
    assert len(each) == 2
    assert max(whole["bytes"]["cached"]) > 0
    assert all(dram == whole for dram in each)


def test_when_a_run_is_over_nothing_is_active(tiered: Path) -> None:
    table = read_run(tiered).table("residency")
    last = table.group_by("tier", maintain_order=True).last()
    assert last["active_bytes"].to_list() == [0] * last.height


def test_a_report_of_a_hundred_thousand_turns_is_small(large: Path) -> None:
    assert read_run(large).table("turns").height >= 100_000
    assert write_report(large).stat().st_size < 5 * MEGABYTE


def test_it_is_written_whole_or_not_at_all(tiered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (tiered / "report.html").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(InputError, match=r"report\.html: could not be written: No space left on device"):
        write_report(tiered)
    assert (tiered / "report.html").read_bytes() == before
    assert not [path for path in tiered.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is not a run folder: it has no summary.json"),
        ("{", "is not JSON"),
        ("[]", "has schema_version None"),
        ('{"schema_version": 99}', "has schema_version 99, this agentservesim reads 1"),
    ],
)
def test_what_is_no_run_gets_one_line(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "summary.json").write_text(content)
    with pytest.raises(InputError, match=re.escape(said)) as error:
        write_report(tmp_path)
    assert "\n" not in str(error.value)


def test_a_damaged_table_gets_one_line(tiered: Path, tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_bytes((tiered / "summary.json").read_bytes())
    (tmp_path / "programs.parquet").write_text("nonsense")
    with pytest.raises(InputError, match=r"programs\.parquet: cannot be read"):
        write_report(tmp_path)

"""The report of comparisons and sweeps: what is said is what comparison.json says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentservesim.model import InputError
from agentservesim.report.html import write_report
from agentservesim.report.html.comparisons import LATENCY, THROUGHPUT, comparison_data, comparison_file
from tests.report.runs import HOSTILE


def estimate(value: float, reach: float) -> dict[str, float]:
    return {"value": value, "low": value - reach, "high": value + reach}


def content(**changes: Any) -> dict[str, Any]:
    """lru against two others: one is quicker and serves more, one is dominated."""
    scenario = {"residency": "x", "router": "r"}
    values = {
        "lru": ([10.0, 12.0], [0.10, 0.12]),
        "good": ([8.0, 9.0], [0.11, 0.13]),
        "bad": ([20.0, 22.0], [0.05, 0.07]),
    }
    arms = {
        f"residency={arm}": {
            "scenario": scenario,
            "oracle": arm == "bad",
            "slo_met": {"turn.ttft.p99<2s": 2 if arm == "good" else 1},
            "values": {LATENCY: y, THROUGHPUT: x},
        }
        for arm, (y, x) in values.items()
    }

    def metric(winner: str | None, better: str, means: list[float], unit: str) -> dict[str, Any]:
        cells = [
            {
                "mean": value,
                "difference": None if i == 0 else estimate(value - means[0], 0.1),
                "relative": None if i == 0 else estimate(value / means[0] - 1, 0.05),
            }
            for i, value in enumerate(means)
        ]
        return {"unit": unit, "better": better, "winner": winner, "arms": dict(zip(arms, cells, strict=True))}

    return {
        "schema_version": 1,
        "baseline": "residency=lru",
        "seeds": [0, 1],
        "confidence": 0.95,
        "intervals_over": "seeds",
        "note": "",
        "arms": arms,
        "metrics": {
            LATENCY: metric("residency=good", "lower", [11.0, 8.5, 21.0], "s"),
            THROUGHPUT: metric(None, "higher", [0.11, 0.12, 0.06], "1/s"),
        },
    } | changes


def page_of(folder: Path, **changes: Any) -> dict[str, Any]:
    (folder / "comparison.json").write_text(json.dumps(content(**changes)))
    return comparison_data(folder / "comparison.json")


def test_differences_are_those_of_the_comparison(tmp_path: Path) -> None:
    data = page_of(tmp_path)
    differences, _ = data["pictures"]
    assert differences["question"] == "How do the others differ from lru?"
    assert differences["data"]["arms"] == ["good", "bad"]
    (row,) = [row for row in differences["data"]["rows"] if row["place"] == LATENCY]
    assert [cell["value"] for cell in row["cells"]] == pytest.approx([8.5 / 11 - 1, 21 / 11 - 1])
    assert row["winner"] == "good"
    assert differences["answer"] == "Clearly the best among 1 metrics: good in 1."
    hint = data["verdict"]["hint"]
    assert hint == "good is clearly the best in mean program latency: -22.7% (-27.7 to -17.7)."


def test_the_front_is_what_no_other_arm_beats(tmp_path: Path) -> None:
    pareto = page_of(tmp_path)["pictures"][1]
    assert [pareto["data"]["points"][i]["arm"] for i in pareto["data"]["front"]] == ["good"]
    assert pareto["answer"] == "Not beaten in both latency and throughput: good."


def test_the_head_names_winners_slos_and_oracles(tmp_path: Path) -> None:
    verdict = page_of(tmp_path)["verdict"]
    assert [tile["text"] for tile in verdict["numbers"]] == ["good", "no clear best"]
    assert [(slo["met"], slo["measured"]) for slo in verdict["slos"]] == [
        (False, "1 of 2 runs"),
        (True, "2 of 2 runs"),
        (False, "1 of 2 runs"),
    ]
    assert verdict["warnings"] == ["bad: an oracle; it knows the future, as no server can."]


def test_arms_that_differ_in_more_than_one_field_keep_their_names(tmp_path: Path) -> None:
    text = json.dumps(content()).replace("residency=bad", "router=bad")
    (tmp_path / "comparison.json").write_text(text)
    data = comparison_data(tmp_path / "comparison.json")
    assert data["pictures"][0]["data"]["arms"] == ["residency=good", "router=bad"]


def test_a_sweep_has_its_points(tmp_path: Path) -> None:
    points = {
        "rate=1": {LATENCY: estimate(5.0, 1), THROUGHPUT: estimate(1.0, 0.1)},
        "rate=2": {LATENCY: estimate(9.0, 1), THROUGHPUT: estimate(2.0, 0.1)},
        "rate=3": {LATENCY: estimate(30.0, 1), THROUGHPUT: estimate(1.9, 0.1)},
    }
    told = {"schema_version": 1, "seeds": [0], "confidence": 0.95, "points": points}
    (tmp_path / "sweep.json").write_text(json.dumps(told))
    (picture,) = comparison_data(tmp_path / "sweep.json")["pictures"]
    assert picture["data"]["front"] == [0, 1]
    assert write_report(tmp_path).stat().st_size < 5_000_000


def test_names_of_arms_are_text(tmp_path: Path) -> None:
    text = json.dumps(content()).replace("residency=bad", json.dumps(HOSTILE)[1:-1])
    (tmp_path / "comparison.json").write_text(text)
    html = write_report(tmp_path).read_text()
    assert "<img src=x" not in html
    assert "<script>window.hacked" not in html


@pytest.mark.parametrize(
    ("text", "said"), [("{", "cannot be read"), ('{"schema_version": 7}', "has schema_version 7")]
)
def test_what_is_no_comparison_gets_one_line(tmp_path: Path, text: str, said: str) -> None:
    assert comparison_file(tmp_path) is None
    (tmp_path / "comparison.json").write_text(text)
    with pytest.raises(InputError, match=said):
        write_report(tmp_path)

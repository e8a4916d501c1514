"""Hints that policies want: counted in the trace, told by check and run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentservesim.cli import main
from agentservesim.model import InputError
from agentservesim.policies import FAMILIES, list_policies, load_policy
from agentservesim.policies.hints import Want, find_wants
from agentservesim.workload.hints import HINTS
from tests.policies.admission.test_by_hand import Whole

WORKFLOW: dict[str, dict[str, list[str]]] = {"p": {"after": []}}


@pytest.fixture
def trace(tmp_path: Path) -> str:
    """Two turns, one with a workflow, none with a tenant."""
    turns = [{"new_tokens": 20, "output_tokens": 2, "hints": {"workflow": WORKFLOW}}]
    turns.append({"new_tokens": 20, "output_tokens": 2})
    (tmp_path / "t.jsonl").write_text(json.dumps({"turns": turns}) + "\n")
    return str(tmp_path / "t.jsonl")


def output(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, str]:
    with pytest.raises(SystemExit) as end:
        main(words)
    assert not end.value.code
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_wants_are_counted() -> None:
    class Wishful:
        wants = {"osl": "it guesses", "tenant": "all are one"}  # noqa: RUF012

    wants = find_wants(
        {"router": "w,a=1", "admission": "always"}, {"router": Wishful(), "admission": Whole()}, {"osl": 3}, 7
    )
    assert wants == [
        Want("router", "w", "osl", 3, 7, "it guesses"),
        Want("router", "w", "tenant", 0, 7, "all are one"),
    ]
    assert [str(want) for want in wants] == [
        "router w wants the hint 'osl'; 3 of 7 turns have it, and without it it guesses",
        "router w wants the hint 'tenant'; no turn has it, and without it all are one",
    ]


def test_wants_that_are_no_mapping_are_told() -> None:
    class Listed:
        wants = ["osl"]  # noqa: RUF012

    with pytest.raises(InputError, match=r"^scheduler Listed: wants is \['osl'\]; it must be a mapping"):
        find_wants({"scheduler": "m:Listed"}, {"scheduler": Listed()}, {}, 0)


def test_policies_want_what_there_is() -> None:
    known = {*HINTS, "tools", "tenant"}
    wanted = {
        hint
        for family in FAMILIES
        for name in list_policies(family)
        for hint in getattr(load_policy(family, name), "wants", {})
    }
    assert wanted == known, "and every hint has a reader"


@pytest.mark.parametrize(
    ("family", "name", "hints"),
    [
        ("scheduler", "fair-share", {"tenant"}),
        ("scheduler", "saga", {"tenant", "deadline_s"}),
        ("scheduler", "sjf", {"osl"}),
        ("scheduler", "priority", {"priority", "strict_priority"}),
        ("router", "dynamo-kv", {"speculative_prefill"}),
        ("residency", "infercept", set()),
        ("residency", "infercept,gap=mean", {"tools"}),
        ("admission", "token-bucket", {"tenant"}),
        ("residency", "kvflow", {"workflow"}),
        ("residency", "tokencake", {"tools", "gap_s"}),
        ("residency", "continuum", {"tools"}),
        ("residency", "continuum-preview", {"tools"}),
        ("residency", "cost-aware", {"tools"}),
        ("residency", "saga", {"tools"}),
    ],
)
def test_who_reads_what_a_trace_may_lack_says_so(family: str, name: str, hints: set[str]) -> None:
    assert set(load_policy(family, name).wants) == hints


def test_check_tells_what_there_is_and_what_is_not(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = output(capsys, "check", trace, "--residency", "kvflow", "--admission", "token-bucket")
    assert "residency kvflow wants the hint 'workflow'; 1 of 2 turns have it" in out
    assert "admission token-bucket wants the hint 'tenant'; no turn has it" in out
    assert not err
    told = json.loads(output(capsys, "check", trace, "--json", "--residency", "kvflow")[0])["wants"]
    assert told == [
        {
            "family": "residency",
            "policy": "kvflow",
            "hint": "workflow",
            "turns": 1,
            "all_turns": 2,
            "without": "this is LRU with write-back",
        }
    ]


def test_run_tells_what_is_not_there_in_one_line(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, err = output(capsys, "run", trace, "--admission", "token-bucket", "--residency", "kvflow")
    assert (
        "token-bucket wants the hint 'tenant'; no turn has it, and without it all programs share one bucket"
        in err
    )
    assert "kvflow" not in err
    assert "wants" not in output(capsys, "run", trace, "--admission", "token-bucket", "--quiet")[1]

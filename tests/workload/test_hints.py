"""Hints in traces: the known ones are checked, all are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentservesim.model import InputError
from agentservesim.workload import ReadOptions, read_trace, write_trace
from agentservesim.workload.hints import HINTS
from tests.workload.conftest import Read

ALL = {
    "priority": -3,
    "strict_priority": 1,
    "osl": 250,
    "speculative_prefill": True,
    "gap_s": 1.5,
    "deadline_s": 600,
    "workflow": {"p": {"after": ["p/a0"], "join": "any"}, "p/a0": {"after": ["p"]}},
    "my_own": [1, 2],
}


def compact(hints: object) -> list[dict[str, Any]]:
    return [{"turns": [{"new_tokens": 9, "output_tokens": 2, "hints": hints}]}]


def canonical(hints: object) -> list[dict[str, Any]]:
    return [{"request_id": "a", "session_id": "s", "input_length": 9, "output_length": 2, "hints": hints}]


@pytest.mark.parametrize("rows", [compact, canonical])
def test_hints_are_kept_and_written(read: Read, tmp_path: Path, rows: Any) -> None:
    workload = read(rows(ALL))
    assert workload.programs[0].turns[0].hints == ALL
    write_trace(workload, tmp_path / "out.jsonl")
    assert read_trace(tmp_path / "out.jsonl", ReadOptions()).programs[0].turns[0].hints == ALL


def test_every_known_hint_is_tried_here() -> None:
    assert HINTS.keys() == ALL.keys() - {"my_own"}


@pytest.mark.parametrize(
    ("hints", "fault"),
    [
        ([], "hints has \\[\\]; it must be an object"),
        ({"priority": "high"}, "hints: priority has 'high'; it must be a whole number"),
        ({"osl": 0}, "hints: osl is 0; it must be from 1"),
        ({"gap_s": -1}, "hints: gap_s is -1; it must not be negative"),
        (
            {"speculative_prefil": True},
            "unknown field 'speculative_prefil'; did you mean 'speculative_prefill'",
        ),
        ({"speculative_prefill": 1}, "speculative_prefill has 1; it must be true or false"),
        ({"workflow": ["a"]}, "workflow has \\['a'\\]; it must be an object"),
        ({"workflow": {"a": {"after": "b"}}}, "workflow: a: after has 'b'; it must be a list"),
        ({"workflow": {"a": {"join": "some"}}}, "workflow: a: join is 'some'; it must be all or any"),
        ({"workflow": {"a": {"follows": []}}}, "workflow: a: unknown field 'follows'"),
    ],
)
@pytest.mark.parametrize("rows", [compact, canonical])
def test_a_wrong_hint_is_one_clear_line(read: Read, rows: Any, hints: object, fault: str) -> None:
    with pytest.raises(InputError, match=r"rows\.jsonl:1: .*" + fault):
        read(rows(hints))

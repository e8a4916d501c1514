"""Rows of the canonical trace, v1 and v2: order, timing, programs, tools."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from agentservesim.model import Dependency, ToolCall, Turn, Workload, to_ps
from agentservesim.workload import shared_tokens

MS = to_ps(0.001)


def row(name: str, **extra: Any) -> dict[str, Any]:
    return {"request_id": name, "session_id": "s", "input_length": 10, "output_length": 2} | extra


def header(**extra: Any) -> dict[str, Any]:
    return {"schema": "dynamo.agentic_mooncake", "version": 2, "block_size": 4, **extra}


def only(workload: Workload) -> tuple[Turn, ...]:
    (program,) = workload.programs
    return program.turns


def test_v1_waits_delay_and_tool_time_after_the_last_of_wait_for(read: Any) -> None:
    rows = [
        row("a", timestamp=500),
        row("b", session_id="s/a0", parent_session_id="s", wait_for=["a"], delay=1, tool_wait_ms=2),
        row("c", wait_for=["a", "b"], delay=3.25, tool_wait_ms=40),
    ]
    _, b, c = only(read(rows))
    assert b.dependencies == (Dependency(0, "completion", MS, 2 * MS, "spawn"),)
    assert [d.relation for d in c.dependencies] == ["sequence", "join"]
    assert {(d.delay_ps, d.tools_ps) for d in c.dependencies} == {(to_ps(0.00325), 40 * MS)}


def test_v1_unknown_tool_time_leaves_the_calls_to_be_run(read: Any) -> None:
    _, b = only(
        read([row("a", tool_calls=[{"tool_class": "Bash"}]), row("b", wait_for=["a"], trigger="tool")])
    )
    assert b.dependencies == (Dependency(0),)
    assert b.dependencies[0].tools_ps is None


def test_v1_gap_from_start_to_start_holds_unless_the_server_is_slower(read: Any) -> None:
    _, b = only(read([row("a", timestamp=0), row("b", wait_for=["a"], gap_ms=7000, timestamp=7000)]))
    assert b.dependencies == (
        Dependency(0, "dispatch", to_ps(7), 0, "sequence"),
        Dependency(0, "completion", 0, 0, "sequence"),
    )
    assert b.not_before_ps == 0


def test_arrival_is_the_first_root_and_later_roots_keep_their_distance(read: Any) -> None:
    rows = [
        row("late", program_id="p", timestamp=2500, session_id="x"),
        row("first", program_id="p", timestamp=1000),
        row("other", program_id="q", timestamp=300),
    ]
    workload = read(rows)
    assert [(p.id, p.arrival_ps) for p in workload.programs] == [("q", 300 * MS), ("p", 1000 * MS)]
    assert [(t.id, t.not_before_ps) for t in workload.programs[1].turns] == [
        ("late", 1500 * MS),
        ("first", 0),
    ]


def test_times_of_day_are_shifted_and_said_to_be(read: Any) -> None:
    workload = read([row("a", timestamp=1.7e12), row("b", session_id="t", timestamp=1.7e12 + 250)])
    assert [p.arrival_ps for p in workload.programs] == [0, 250 * MS]
    assert "1700000000 s" in workload.notes[0]
    assert read([row("a", timestamp=3_600_000)]).programs[0].arrival_ps == to_ps(3600)


def test_turns_are_ordered_so_that_dependencies_point_backwards(read: Any) -> None:
    rows = [
        row("a"),
        row("join", wait_for=["a", "k2"]),
        row("k1", session_id="k", wait_for=["a"]),
        row("k2", session_id="k", wait_for=["k1"]),
    ]
    for order in itertools.permutations(rows):
        turns = only(read([dict(r, program_id="p") for r in order]))
        assert [turn.index for turn in turns] == [0, 1, 2, 3]
        assert all(d.turn < turn.index for turn in turns for d in turn.dependencies)


def test_without_program_ids_linked_sessions_are_one_program(read: Any) -> None:
    rows = [
        row("a", branches=["k"]),
        row("k", session_id="kid"),
        row("x", session_id="other"),
        row("y", session_id="grandkid", parent_session_id="kid"),
    ]
    workload = read(rows)
    assert sorted(tuple(t.id for t in p.turns) for p in workload.programs) == [("a", "k", "y"), ("x",)]
    spawned = next(t for p in workload.programs for t in p.turns if t.id == "k")
    assert spawned.dependencies == (Dependency(0, relation="spawn"),)


def test_a_call_that_began_during_the_reply_counts_from_its_end(read: Any) -> None:
    calls = [
        {"tool_class": "Read", "duration_ms": 479, "offset_ms": -439},
        {"tool_class": "Grep", "duration_ms": 5, "offset_ms": -9},
        {"tool_class": "Bash", "duration_ms": 10, "offset_ms": 3},
        {"name": "think"},
    ]
    (turn,) = only(read([row("a", tool_calls=calls)]))
    assert turn.tools == (
        ToolCall("Read", 40 * MS),
        ToolCall("Grep", 0),
        ToolCall("Bash", 10 * MS, 3 * MS),
        ToolCall("think"),
    )
    (turn,) = only(read([row("a", tool_events=[{"tool_class": "Bash", "duration_ms": 8}])]))
    assert turn.tools == (ToolCall("Bash", 8 * MS),)


def test_v2_dependencies(read: Any) -> None:
    rows = [
        header(),
        row("a", play_id="p", not_before_ms=50),
        row(
            "b",
            play_id="p",
            session_id="t",
            not_before_ms=90,
            dependencies=[{"request_id": "a", "trigger": "dispatch", "delay_ms": 4, "relation": "spawn"}],
        ),
        row(
            "c",
            play_id="p",
            dependencies=[
                {"request_id": "a", "delay_ms": 9, "tools_ms": 6, "relation": "sequence"},
                {"request_id": "b", "trigger": "completion"},
            ],
        ),
    ]
    _, b, c = only(read(rows))
    assert b.dependencies == (Dependency(0, "dispatch", 4 * MS, None, "spawn"),)
    assert b.not_before_ps == 40 * MS
    assert c.dependencies == (
        Dependency(0, "completion", 3 * MS, 6 * MS, "sequence"),
        Dependency(1, relation="join"),
    )


@pytest.mark.parametrize(
    ("scope", "option", "expected"),
    [("global", "auto", 8), ("local", "auto", 0), ("local", "file", 8), ("global", "program", 0)],
)
def test_scope_of_hash_ids(read: Any, scope: str, option: str, expected: int) -> None:
    rows = [
        header(hash_id_scope=scope),
        row("a", play_id="p", hash_ids=[1, 2, 3]),
        row("b", play_id="q", session_id="t", hash_ids=[1, 2, 4]),
    ]
    one, other = read(rows, hash_scope=option).programs
    assert shared_tokens(one.turns[0].path, other.turns[0].path) == expected


def test_a_mid_session_reset_shares_only_the_system_prompt(read: Any) -> None:
    rows = [
        row("a", shared_prefix_tokens=4, model="m"),
        row("b", wait_for=["a"], input_length=20, prefix_reset=True, shared_prefix_tokens=4, model="m"),
        row("c", wait_for=["b"], input_length=30, prefix_reset=True),
    ]
    a, b, c = only(read(rows))
    assert shared_tokens(a.path, b.path) == 4
    assert shared_tokens(b.path, c.path) == 0


def test_a_sub_agent_may_fork_its_parents_context(read: Any) -> None:
    rows = [
        row("a", prefix_tokens=0),
        row("k", session_id="k", parent_session_id="s", wait_for=["a"], input_length=15, prefix_tokens=12),
        row("l", session_id="l", parent_session_id="s", wait_for=["a"], input_length=15, prefix_tokens=7),
    ]
    a, fork, sibling = only(read(rows))
    assert shared_tokens(a.path, fork.path) == 12
    assert shared_tokens(a.path, sibling.path) == 7


def test_of_several_turns_of_a_session_the_last_one_waited_for_is_continued(read: Any) -> None:
    hashed = {"block_size": 4}
    rows = [
        row("a", input_length=4, hash_ids=[1], **hashed),
        row("b", input_length=10, hash_ids=[1, 2], wait_for=["a"], **hashed),
        row("c", input_length=14, hash_ids=[1, 2, 4], wait_for=["a", "b"], **hashed),
    ]
    _, b, c = only(read(rows))
    assert shared_tokens(b.path, c.path) == 12


def test_unknown_fields_pass_unless_they_look_like_slips(read: Any) -> None:
    assert only(read([row("a", prefix_reset=True, custom_note="x", extra={"y": 1})]))


def test_gzip_and_blank_lines(folder: Any) -> None:
    import gzip
    import json

    from agentservesim.workload import read_trace

    text = "\n" + json.dumps(row("a", prefix_tokens=0)) + "\n\n"
    path = folder / "packed.trace"
    path.write_bytes(gzip.compress(text.encode()))
    assert read_trace(path).num_turns == 1

"""The compact form, written by hand."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from agentservesim.model import Dependency, ToolCall, Workload, to_ps
from agentservesim.workload import shared_tokens


def turn(new: int, out: int, **extra: Any) -> dict[str, Any]:
    return {"new_tokens": new, "output_tokens": out, **extra}


def read_one(read: Any, *turns: dict[str, Any], **extra: Any) -> Any:
    workload: Workload = read([{"program_id": "p", "turns": list(turns), **extra}])
    return workload.programs[0].turns


def test_prompts_grow_by_the_reply_and_the_new_tokens(read: Any) -> None:
    first, second, third = read_one(
        read,
        turn(20, 5, tools=[{"name": "bash", "duration_s": 1.5}]),
        turn(30, 6, tools=[{"name": "search"}]),
        turn(10, 7, delay_s=60),
        shared_prefix=100,
    )
    assert [t.prompt_tokens for t in (first, second, third)] == [120, 155, 171]
    assert [t.trigger for t in (first, second, third)] == ["user", "tool", "tool"]
    assert first.tools == (ToolCall("bash", to_ps(1.5)),)
    assert second.tools == (ToolCall("search", None),)
    assert third.dependencies == (Dependency(1, "completion", to_ps(60), None, "sequence"),)
    assert shared_tokens(first.path, third.path) == 125
    assert len(third.path) == 1


def test_programs_share_the_system_prompt(read: Any) -> None:
    rows = [
        {"shared_prefix": 50, "turns": [turn(10, 1)]},
        {"shared_prefix": 40, "turns": [turn(10, 1)], "kind": "x", "arrival_s": 3},
        {"shared_prefix": {"group": "other", "tokens": 50}, "turns": [turn(10, 1)]},
    ]
    workload = read(rows)
    paths = {p.id: p.turns[0].path for p in workload.programs}
    assert [p.id for p in workload.programs] == ["p0", "p2", "p1"]
    assert workload.programs[2].arrival_ps == to_ps(3)
    assert shared_tokens(paths["p0"], paths["p1"]) == 40
    assert shared_tokens(paths["p0"], paths["p2"]) == 0


def test_sub_agents_fork_and_join(read: Any) -> None:
    plan, scout, deep, fork, join = read_one(
        read,
        turn(100, 10, id="plan"),
        turn(40, 5, id="scout", session="a", after=[{"turn": "plan", "trigger": "dispatch", "delay_s": 0.5}]),
        turn(7, 5, id="deep", session="a"),
        turn(3, 2, session="b", after=["plan"], fork=True, id="fork"),
        turn(20, 4, after=["deep", "fork"]),
    )
    assert scout.dependencies == (Dependency(0, "dispatch", to_ps(0.5), 0, "spawn"),)
    assert (scout.session_id, scout.prompt_tokens, scout.trigger) == ("p/a", 40, "spawn")
    assert deep.dependencies == (Dependency(1, relation="sequence"),)
    assert deep.prompt_tokens == 52
    assert (fork.prompt_tokens, shared_tokens(fork.path, plan.path)) == (113, 110)
    assert [(d.turn, d.relation) for d in join.dependencies] == [(0, "sequence"), (2, "join"), (3, "join")]
    assert join.prompt_tokens == 130
    assert shared_tokens(join.path, plan.path) == 110
    assert shared_tokens(join.path, fork.path) == 110


def test_contexts_are_cut_to_what_is_kept(read: Any) -> None:
    turns = read_one(
        read, turn(100, 10), turn(50, 5), turn(5, 1, keep_tokens=30), turn(5, 1, keep_tokens=0), turn(9, 1)
    )
    assert [t.prompt_tokens for t in turns] == [100, 160, 35, 5, 15]
    shared = [shared_tokens(a.path, b.path) for a, b in pairwise(turns)]
    assert shared == [110, 30, 0, 6]


def test_a_prompt_kept_without_its_reply(read: Any) -> None:
    first, second = read_one(read, turn(100, 10), turn(50, 5, keep_tokens=100))
    assert shared_tokens(first.path, second.path) == 100


def test_delay_of_the_first_turn_counts_from_arrival(read: Any) -> None:
    workload = read([{"program_id": "p", "arrival_s": 2, "turns": [turn(10, 1, delay_s=1.5)]}])
    assert workload.programs[0].arrival_ps == to_ps(2)
    assert workload.programs[0].turns[0].not_before_ps == to_ps(1.5)


def test_hints_are_handed_on(read: Any) -> None:
    first, second = read_one(read, turn(20, 5, hints={"gap_s": 3.5}), turn(30, 6, hints={}))
    assert first.hints == {"gap_s": 3.5}
    assert second.hints is None

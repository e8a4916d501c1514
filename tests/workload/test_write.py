"""A written trace reads back as the same workload."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path as FilePath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentservesim.model import (
    PS_PER_S,
    Dependency,
    InputError,
    Path,
    Program,
    Segment,
    ToolCall,
    Turn,
    Workload,
)
from agentservesim.workload import ReadOptions, read_trace, shared_tokens, synthesise, write_trace

US = PS_PER_S // 10**6
times = st.integers(0, 10**12).map(lambda us: us * US)


def numbered(workload: Workload) -> list[Any]:
    """Everything in a workload, with segments numbered in order of appearance."""
    numbers: dict[Segment, int] = {}
    return [
        replace(
            program, turns=tuple(replace(turn, path=renamed(turn.path, numbers)) for turn in program.turns)
        )
        for program in workload.programs
    ]


def renamed(path: Path, numbers: dict[Segment, int]) -> Any:
    return tuple((numbers.setdefault(segment, len(numbers)), end) for segment, end in path)


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    programs = []
    paths: list[Path] = []
    for p in range(draw(st.integers(1, 3))):
        turns: list[Turn] = []
        for t in range(draw(st.integers(1, 4))):
            before: Path = draw(st.sampled_from([(), *paths]))
            kept = before[: draw(st.integers(0, len(before)))]
            start, parent = (kept[-1][1], kept[-1][0]) if kept else (0, None)
            total = start + draw(st.integers(2, 50))
            path = (*kept, (Segment(start, parent), total))
            paths.append(path)
            output = draw(st.integers(1, total - 1))
            waits = draw(st.sets(st.integers(0, t - 1), max_size=2)) if t else set()
            turns.append(
                Turn(
                    id=f"{p}.{t}",
                    index=t,
                    session_id=draw(st.sampled_from([f"{p}", f"{p}/a"])),
                    prompt_tokens=total - output,
                    output_tokens=output,
                    path=path,
                    dependencies=tuple(draw(dependencies(before)) for before in sorted(waits)),
                    not_before_ps=draw(times),
                    tools=tuple(draw(st.lists(calls(), max_size=2))),
                    trigger=draw(st.sampled_from(["user", "tool", "other"])),
                    priority=draw(st.integers(-3, 3)),
                    prefix_tokens=draw(st.none() | st.integers(0, total - output)),
                    hints=draw(st.sampled_from([None, {"gap_s": 1.5, "workflow": {"a": {"after": ["b"]}}}])),
                )
            )
        arrival = (p * 10**12 + draw(st.integers(0, 10**10))) * US if p else 0
        kind, tenant = draw(st.sampled_from(["", "kind"])), draw(st.sampled_from(["", "acme"]))
        programs.append(Program(f"p{p}", arrival, tuple(turns), kind, tenant))
    return Workload(tuple(programs), notes=("a note",), synthetic=draw(st.booleans()))


def dependencies(before: int) -> st.SearchStrategy[Dependency]:
    return st.builds(
        Dependency,
        st.just(before),
        st.sampled_from(["dispatch", "completion"]),
        times,
        st.none() | times,
        st.sampled_from(["sequence", "spawn", "join"]),
    )


def calls() -> st.SearchStrategy[ToolCall]:
    return st.builds(ToolCall, st.sampled_from(["Bash", "Read"]), st.none() | times, times)


@given(workload=workloads(), name=st.sampled_from(["w.jsonl", "w.jsonl.gz"]))
def test_a_round_trip_loses_nothing(folder: FilePath, workload: Workload, name: str) -> None:
    write_trace(workload, folder / name)
    again = read_trace(folder / name)
    assert numbered(again) == numbered(workload)
    assert (again.notes, again.synthetic) == (workload.notes, workload.synthetic)
    write_trace(replace(again, source=workload.source), folder / f"again-{name}")
    assert (folder / f"again-{name}").read_bytes() == (folder / name).read_bytes()


@given(workload=workloads(), block=st.integers(1, 7))
def test_expanded_hash_ids_share_the_same_blocks(folder: FilePath, workload: Workload, block: int) -> None:
    path = folder / "hashed.jsonl"
    write_trace(workload, path, hash_block_size=block)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows[0]["block_size"] == block
    ids = {row["request_id"]: row["hash_ids"] for row in rows[1:]}
    turns = [turn for program in workload.programs for turn in program.turns]
    for a in turns:
        assert len(ids[a.id]) == -(-a.prompt_tokens // block)
        for b in turns:
            same = sum(x == y for x, y in zip(ids[a.id], ids[b.id], strict=False))
            shared = min(shared_tokens(a.path, b.path), a.prompt_tokens, b.prompt_tokens)
            whole = shared == a.prompt_tokens == b.prompt_tokens
            assert same == (-(-shared // block) if whole else shared // block)


def test_equal_prompts_have_equal_ids_to_the_last_partial_block(tmp_path: FilePath, read: Any) -> None:
    row = {"input_length": 10, "output_length": 4, "token_ids": [*range(10)]}
    workload = read([row | {"request_id": name, "session_id": name} for name in "ab"])
    write_trace(workload, tmp_path / "w.jsonl", hash_block_size=4)
    _, a, b = (json.loads(line) for line in (tmp_path / "w.jsonl").read_text().splitlines())
    assert a["hash_ids"] == b["hash_ids"] == [0, 1, 2]
    assert a["content"] != b["content"]


def test_without_reuse_written_replies_are_detached(tmp_path: FilePath) -> None:
    write_trace(synthesise("claude-code", 2, 3), tmp_path / "w.jsonl")
    reused = read_trace(tmp_path / "w.jsonl").programs[0].turns
    apart = read_trace(tmp_path / "w.jsonl", ReadOptions(reuse_output=False)).programs[0].turns
    follows = [(a, b) for a, b in pairwise(reused) if b.prompt_tokens > a.total_tokens]
    assert follows
    for a, b in follows:
        assert shared_tokens(a.path, b.path) in (a.total_tokens, 0)
        expected = min(shared_tokens(a.path, b.path), a.prompt_tokens)
        assert shared_tokens(apart[a.index].path, apart[b.index].path) == expected


def test_nothing_is_left_behind_where_writing_fails(tmp_path: FilePath) -> None:
    workload = synthesise("claude-code", 1, 0)
    with pytest.raises(InputError, match="could not be written"):
        write_trace(workload, tmp_path / "missing" / "w.jsonl")
    (tmp_path / "w.jsonl").mkdir()
    with pytest.raises(InputError, match="could not be written"):
        write_trace(workload, tmp_path / "w.jsonl")
    assert [entry.name for entry in tmp_path.iterdir()] == ["w.jsonl"]


def test_turn_ids_must_be_unique(tmp_path: FilePath) -> None:
    program = synthesise("claude-code", 1, 0).programs[0]
    with pytest.raises(InputError, match="occurs twice"):
        write_trace(Workload((program, program)), tmp_path / "w.jsonl")

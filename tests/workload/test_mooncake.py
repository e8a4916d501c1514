"""Mooncake JSONL: programs of one turn, sessions, delta lengths, the size of a block."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentservesim.model import Dependency, InputError, to_ps
from agentservesim.workload import shared_tokens

MS = to_ps(0.001)


def row(
    timestamp: float | None, length: int, ids: list[int], output: int = 3, **extra: Any
) -> dict[str, Any]:
    row = {"input_length": length, "output_length": output, "hash_ids": ids, **extra}
    return row if timestamp is None else row | {"timestamp": timestamp}


def test_rows_without_sessions_are_programs_that_share_by_hash(read: Any) -> None:
    workload = read([row(5, 1100, [1, 2, 3]), row(0, 1500, [1, 2, 4]), row(9, 1100, [1, 2, 3])])
    assert workload.notes == ("hash blocks of 512 tokens",)
    late, early, last = (workload.programs[i].turns[0] for i in (1, 0, 2))
    assert [p.arrival_ps for p in workload.programs] == [0, 5 * MS, 9 * MS]
    assert shared_tokens(early.path, late.path) == 1024
    assert shared_tokens(late.path, last.path) == 1100


def test_sessions_chain_with_their_delay(read: Any) -> None:
    rows = [
        row(100, 20, [1, 2], session_id="s"),
        row(130, 30, [3, 4], session_id="t", request_id="t0"),
        row(None, 40, [1, 5, 6], session_id="s", delay=250.5),
        row(900, 60, [1, 5, 7, 8], session_id="s", delay=0),
    ]
    s, t = read(rows, trace_block_size=16).programs
    assert (s.arrival_ps, t.arrival_ps) == (100 * MS, 130 * MS)
    assert t.turns[0].id == "t0"
    assert s.turns[1].dependencies == (Dependency(0, "completion", to_ps(0.2505), 0, "sequence"),)
    assert s.turns[2].not_before_ps == 800 * MS
    assert shared_tokens(s.turns[0].path, s.turns[1].path) == 23
    assert shared_tokens(s.turns[1].path, s.turns[2].path) == 43


@given(
    size=st.sampled_from([16, 64, 100, 512]),
    lengths=st.lists(st.integers(1, 200_000), min_size=30, max_size=60),
    ceil=st.booleans(),
)
def test_the_block_size_explains_the_numbers_of_ids(
    read: Any, size: int, lengths: list[int], ceil: bool
) -> None:
    lengths.append(150_000)
    fresh = iter(range(10**7))
    rows = [
        row(i, n, [next(fresh) for _ in range(-(-n // size) if ceil else n // size)])
        for i, n in enumerate(lengths)
    ]
    if size == 16:
        rows = rows[-1:]
    assert read(rows, format="mooncake").notes == (f"hash blocks of {size} tokens",)


def session(delta: bool) -> list[dict[str, Any]]:
    """One session of 4-token blocks: 10 + 3, then 6 more, then 5 more tokens."""
    if delta:
        return [
            row(0, 10, [1, 2, 3], session_id="s"),
            row(None, 6, [5, 6], session_id="s", delay=1),
            row(None, 5, [8, 9], session_id="s", delay=1),
        ]
    return [
        row(0, 10, [1, 2, 3], session_id="s"),
        row(None, 19, [1, 2, 4, 5, 6], session_id="s", delay=1),
        row(None, 27, [1, 2, 4, 5, 7, 8, 9], session_id="s", delay=1),
    ]


@pytest.mark.parametrize("reuse", [True, False])
def test_delta_and_cumulative_lengths_mean_the_same_programs(read: Any, reuse: bool) -> None:
    whole = read(session(False), trace_block_size=4, reuse_output=reuse).programs[0].turns
    parts = read(session(True), trace_block_size=4, lengths="delta", reuse_output=reuse).programs[0].turns
    assert [t.prompt_tokens for t in whole] == [t.prompt_tokens for t in parts] == [10, 19, 27]
    for turns in (whole, parts):
        shared = [shared_tokens(turns[i].path, turns[j].path) for i, j in ((0, 1), (1, 2), (0, 2))]
        assert shared == ([13, 22, 13] if reuse else [10, 19, 10])


def test_lengths_that_look_like_deltas_must_be_said_to_be(read: Any) -> None:
    rows = [
        row(0, 40, [1, 2, 3], session_id="s"),
        *(row(None, 20 - i, [10 + i, 20 + i], session_id="s", delay=1) for i in range(4)),
    ]
    with pytest.raises(InputError, match=r"rows.jsonl:5: .*delta"):
        read(rows, trace_block_size=16)
    assert read(rows, trace_block_size=16, lengths="cumulative").num_turns == 5
    assert read(rows, trace_block_size=16, lengths="delta").programs[0].turns[1].prompt_tokens == 63


def test_sessions_without_hash_ids_are_taken_to_continue(read: Any) -> None:
    rows = [
        {"timestamp": 0, "session_id": "s", "input_length": 10, "output_length": 2},
        {"session_id": "s", "input_length": 30, "output_length": 2, "delay": 5},
    ]
    one, other = read(rows).programs[0].turns
    assert shared_tokens(one.path, other.path) == 12


def test_64_bit_hashes(read: Any) -> None:
    big = 2**64 - 1
    workload = read([row(0, 8, [big, 5]), row(1, 8, [big, 6]), row(2, 8, [-1, 7])], trace_block_size=4)
    paths = [program.turns[0].path for program in workload.programs]
    assert shared_tokens(paths[0], paths[1]) == 4

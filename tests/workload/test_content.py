"""Two turns share n leading tokens by their paths exactly when the trace says so."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agentservesim.model import Path, Segment, Turn, Workload, shared_tokens
from agentservesim.workload.content import Placed, Recent, detached


def turns_of(workload: Workload) -> dict[str, Turn]:
    return {turn.id: turn for program in workload.programs for turn in program.turns}


def common(a: list[int], b: list[int]) -> int:
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def check_path(path: Path, total: int) -> None:
    """The invariants that the type of `Path` states."""
    assert path[0][0].parent is None
    assert path[0][0].start == 0
    assert path[-1][1] == total
    for (before, end), (after, after_end) in pairwise(path):
        assert after.parent is before
        assert after.start == end < after_end


def hashed(tokens: list[int], block: int, names: dict[tuple[int, ...], int]) -> list[int]:
    """Ids of a prompt's blocks, the partial one included: equal ids are equal leading tokens."""
    ends = [*range(block, len(tokens) + 1, block)] + ([len(tokens)] if len(tokens) % block else [])
    return [names.setdefault(tuple(tokens[:end]), len(names)) for end in ends]


few_tokens = st.lists(st.integers(0, 1), min_size=1, max_size=12)


@given(prompts=st.lists(few_tokens, min_size=1, max_size=12))
def test_token_ids_share_what_is_equal(read: Any, prompts: list[list[int]]) -> None:
    rows = [
        {"request_id": f"r{i}", "input_length": len(p), "output_length": 3, "token_ids": p}
        for i, p in enumerate(prompts)
    ]
    turns = turns_of(read(rows))
    for i, a in enumerate(prompts):
        check_path(turns[f"r{i}"].path, len(a) + 3)
        for j, b in enumerate(prompts[:i]):
            assert shared_tokens(turns[f"r{i}"].path, turns[f"r{j}"].path) == common(a, b)


@given(
    prompts=st.lists(few_tokens, min_size=1, max_size=12),
    block=st.integers(1, 4),
    partial=st.booleans(),
    runs=st.booleans(),
)
def test_hash_ids_share_full_blocks_and_equal_tails(
    read: Any, prompts: list[list[int]], block: int, partial: bool, runs: bool
) -> None:
    names: dict[tuple[int, ...], int] = {}
    rows = []
    for i, prompt in enumerate(prompts):
        ids = hashed(prompt, block, names)
        if not partial:
            ids = ids[: len(prompt) // block]
        row = {"request_id": f"r{i}", "input_length": len(prompt), "output_length": 2, "block_size": block}
        rows.append(row | ({"hash_runs": [[x, 1] for x in ids]} if runs else {"hash_ids": ids}))
    turns = turns_of(read(rows, format="canonical"))
    for i, a in enumerate(prompts):
        check_path(turns[f"r{i}"].path, len(a) + 2)
        for j, b in enumerate(prompts[:i]):
            same = partial and a == b
            stated = len(a) if same else common(a, b) // block * block
            assert shared_tokens(turns[f"r{i}"].path, turns[f"r{j}"].path) == stated


@st.composite
def families(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Sessions that branch: every turn continues an earlier one, and may leave its reply out.

    Tokens are unique but for a leading part that sessions have in common.
    """
    turns: list[dict[str, Any]] = []
    fresh = iter(range(1000, 10**6))
    for session in range(draw(st.integers(1, 3))):
        system = [*range(draw(st.integers(0, 9)))]
        own: list[dict[str, Any]] = []
        for _ in range(draw(st.integers(1, 6))):
            parent = draw(st.sampled_from(own)) if own else None
            keep_reply = parent is None or draw(st.integers(0, 3)) > 0
            start = system if parent is None else parent["prompt"] + (parent["reply"] if keep_reply else [])
            new = draw(st.integers(1, 9))
            if parent is not None and not keep_reply:
                new = draw(st.integers(0, len(parent["reply"]) - 1))
            turn = {
                "id": f"s{session}t{len(own)}",
                "session": f"s{session}",
                "parent": parent and parent["id"],
                "prompt": start + [next(fresh) for _ in range(new)],
                "reply": [next(fresh) for _ in range(draw(st.integers(1, 7)))],
            }
            own.append(turn)
        turns += own
    return turns


def as_rows(family: list[dict[str, Any]], block: int) -> list[dict[str, Any]]:
    names: dict[tuple[int, ...], int] = {}
    return [
        {
            "request_id": turn["id"],
            "program_id": turn["session"],
            "session_id": turn["session"],
            "wait_for": [turn["parent"]] if turn["parent"] else [],
            "input_length": len(turn["prompt"]),
            "output_length": len(turn["reply"]),
            "hash_ids": hashed(turn["prompt"], block, names),
            "block_size": block,
        }
        for turn in family
    ]


@given(family=families(), block=st.integers(1, 6), reverse=st.booleans())
def test_a_session_continues_within_its_last_block(
    read: Any, family: list[dict[str, Any]], block: int, reverse: bool
) -> None:
    """Between sessions full blocks count, inside one tokens do, and replies that are sent back are reused."""
    rows = as_rows(family, block)
    turns = turns_of(read(rows[::-1] if reverse else rows))
    for i, a in enumerate(family):
        path = turns[a["id"]].path
        check_path(path, len(a["prompt"] + a["reply"]))
        for b in family[:i]:
            truth = common(a["prompt"] + a["reply"], b["prompt"] + b["reply"])
            if a["session"] != b["session"]:
                assert shared_tokens(path, turns[b["id"]].path) == truth // block * block
            else:
                assert shared_tokens(path, turns[b["id"]].path) == truth


@given(family=families(), block=st.integers(1, 6))
def test_without_reuse_no_reply_is_shared_with_its_own_session(
    read: Any, family: list[dict[str, Any]], block: int
) -> None:
    turns = turns_of(read(as_rows(family, block), reuse_output=False))
    for turn in family:
        if turn["parent"]:
            parent = turns[turn["parent"]]
            assert shared_tokens(turns[turn["id"]].path, parent.path) == parent.prompt_tokens


@st.composite
def edited(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Turns of one session whose prompts may contradict what comes before: cut, edited, or repeated."""
    turns: list[dict[str, Any]] = []
    for i in range(draw(st.integers(3, 6))):
        parent = draw(st.sampled_from(turns)) if turns else None
        known = parent["prompt"] + parent["reply"] if parent else []
        start = known[: draw(st.integers(max(0, len(known) - 7), len(known)))]
        turns.append(
            {
                "id": f"t{i}",
                "session": "s" if draw(st.integers(0, 3)) else f"s{i}",
                "parent": parent and parent["id"],
                "prompt": start + draw(st.lists(st.integers(0, 1), min_size=1, max_size=6)),
                "reply": draw(st.lists(st.integers(0, 1), min_size=1, max_size=5)),
            }
        )
    return turns


@settings(max_examples=400)
@given(family=edited(), block=st.integers(1, 4), reuse=st.sampled_from([True, True, False]))
def test_full_blocks_are_shared_exactly_if_their_ids_are_equal(
    read: Any, family: list[dict[str, Any]], block: int, reuse: bool
) -> None:
    """Whatever is assumed of tails and replies, ids have the last word."""
    rows = [row | {"program_id": "p"} for row in as_rows(family, block)]
    turns = turns_of(read(rows, reuse_output=reuse))
    ids = {row["request_id"]: row["hash_ids"] for row in rows}
    for a in turns.values():
        check_path(a.path, a.total_tokens)
        for b in turns.values():
            full = min(a.prompt_tokens, b.prompt_tokens) // block
            equal = common(ids[a.id][:full], ids[b.id][:full])
            shared = min(shared_tokens(a.path, b.path), a.prompt_tokens, b.prompt_tokens)
            assert equal * block <= shared
            assert equal == full or shared < (equal + 1) * block


@st.composite
def stated(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A program of one session whose rows state how much of each prompt was seen before."""
    rows: list[dict[str, Any]] = []
    for i in range(draw(st.integers(1, 8))):
        row: dict[str, Any] = {"request_id": f"t{i}", "program_id": "p", "session_id": "p"}
        row |= {"output_length": draw(st.integers(1, 9)), "prefix_tokens": 0, "input_length": 1}
        if rows:
            before = rows[-1]
            most = before["input_length"] + before["output_length"]
            row["wait_for"] = [before["request_id"]]
            likely = st.sampled_from([before["input_length"], most])
            row["prefix_tokens"] = draw(likely | st.integers(0, most))
        row["input_length"] = max(1, row["prefix_tokens"] + draw(st.integers(0, 9)))
        rows.append(row)
    return rows


@given(rows=stated())
def test_stated_prefixes_are_shared_exactly(read: Any, rows: list[dict[str, Any]]) -> None:
    turns = turns_of(read(rows, reuse_output=False))
    for i, row in enumerate(rows):
        path = turns[row["request_id"]].path
        check_path(path, row["input_length"] + row["output_length"])
        before = [shared_tokens(path, turns[other["request_id"]].path) for other in rows[:i]]
        assert max(before, default=0) == row["prefix_tokens"]


@given(rows=stated())
def test_a_reply_that_fits_is_reused(read: Any, rows: list[dict[str, Any]]) -> None:
    turns = turns_of(read(rows))
    for before, row in pairwise(rows):
        total = before["input_length"] + before["output_length"]
        whole = row["prefix_tokens"] >= before["input_length"] and row["input_length"] >= total
        expected = total if whole else row["prefix_tokens"]
        assert shared_tokens(turns[row["request_id"]].path, turns[before["request_id"]].path) == expected


def test_a_linear_program_stays_in_one_segment(read: Any) -> None:
    """Long programs must not make long paths."""
    rows = []
    length = 100
    for i in range(200):
        rows.append({"request_id": f"t{i}", "session_id": "p", "input_length": length, "output_length": 7})
        rows[-1] |= {"wait_for": [f"t{i - 1}"], "prefix_tokens": 100} if i else {"prefix_tokens": 0}
        length += 20
        if i:
            rows[-1]["prefix_tokens"] = rows[-2]["input_length"]
    for reuse, most in ((True, 1), (False, 2)):
        turns = turns_of(read(rows, reuse_output=reuse))
        assert max(len(turn.path) for turn in turns.values()) <= max(most, 2)
        assert len({turn.path[0][0] for turn in turns.values()}) == 1


def test_programs_share_what_they_state_to_share(read: Any) -> None:
    def row(name: str, **extra: Any) -> dict[str, Any]:
        return {"request_id": name, "session_id": name, "input_length": 100, "output_length": 5, **extra}

    rows = [
        row("a", shared_prefix_tokens=60, model="m"),
        row("b", shared_prefix_tokens=60, model="m"),
        row("c", shared_prefix_tokens=60, model="other"),
        row("d", shared_prefix_tokens=50, model="m"),
        row("e", shared_prefix_tokens=40, group_id="g", model="m"),
        row("f", shared_prefix_tokens=70, group_id="g", model="other"),
        row("g", shared_prefix_tokens=30, group_id="g"),
        row("h"),
    ]
    turns = turns_of(read(rows))

    def shared(one: str, other: str) -> int:
        return shared_tokens(turns[one].path, turns[other].path)

    assert shared("a", "b") == 60
    assert [shared("a", other) for other in "cdeh"] == [0, 0, 0, 0]
    assert (shared("e", "f"), shared("e", "g"), shared("f", "g")) == (40, 30, 30)


def test_a_prefix_seen_in_another_program_comes_from_the_latest_that_has_it(read: Any) -> None:
    def row(name: str, at: int, length: int, prefix: int, **extra: Any) -> dict[str, Any]:
        base = {"request_id": name, "program_id": name, "session_id": name, "timestamp": at}
        return base | {"input_length": length, "output_length": 5, "prefix_tokens": prefix} | extra

    rows = [row("a", 0, 100, 0), row("b", 1, 50, 0), row("c", 2, 120, 80), row("d", 3, 60, 40)]
    turns = turns_of(read(rows))
    assert shared_tokens(turns["c"].path, turns["a"].path) == 80
    assert shared_tokens(turns["d"].path, turns["c"].path) == 40
    unheld = read([*rows, row("e", 4, 500, 400)])
    assert "400 tokens" in unheld.notes[0]


def test_detached_replies_are_content_of_their_own() -> None:
    root = Segment()
    child = Segment(8, root)
    path: Path = ((root, 8), (child, 20))
    apart = detached(path, 15)
    check_path(apart, 20)
    assert shared_tokens(path, apart) == 15
    assert shared_tokens(apart, detached(path, 15)) == 15
    assert shared_tokens(detached(path, 8), path) == 8


@given(
    prompts=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 20)), max_size=30),
    wanted=st.integers(1, 20),
)
def test_recent_finds_the_first_long_enough_prompt_of_the_latest_session(
    prompts: list[tuple[int, int]], wanted: int
) -> None:
    recent = Recent()
    sessions: dict[int, list[Placed]] = {}
    for name, length in prompts:
        session = sessions.setdefault(name, [])
        session.append(Placed((Segment(), length), length + 1))
        recent.add(session)
    fitting = [name for name, length in prompts if length >= wanted]
    found = recent.find(wanted)
    if fitting:
        assert found is next(placed for placed in sessions[fitting[-1]] if placed.prompt >= wanted)
    else:
        assert found is None

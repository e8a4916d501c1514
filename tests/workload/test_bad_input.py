"""Every fault in a trace is one clear line that names the file and the line, and nothing else."""

from __future__ import annotations

import copy
import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentservesim.model import InputError
from agentservesim.workload import ReadOptions, read_trace

Rows = list[dict[str, Any]]

V1: Rows = [
    {
        "program_id": "p",
        "session_id": "p",
        "request_id": "a",
        "input_length": 100,
        "output_length": 10,
        "timestamp": 5,
        "prefix_tokens": 0,
        "shared_prefix_tokens": 60,
        "tool_calls": [{"tool_class": "Bash", "duration_ms": 5, "offset_ms": -1}],
        "branches": ["k"],
    },
    {
        "program_id": "p",
        "session_id": "p/a0",
        "parent_session_id": "p",
        "request_id": "k",
        "wait_for": ["a"],
        "input_length": 50,
        "output_length": 10,
        "prefix_tokens": 0,
    },
    {
        "program_id": "p",
        "session_id": "p",
        "request_id": "b",
        "wait_for": ["a", "k"],
        "delay": 1,
        "tool_wait_ms": 2,
        "input_length": 130,
        "output_length": 10,
        "prefix_tokens": 100,
    },
]
HASHED: Rows = [
    {"request_id": "a", "session_id": "s", "input_length": 10, "output_length": 1, "block_size": 4}
    | {"hash_runs": [[0, 2], [9, 1]], "prefix_tokens": 0},
    {"request_id": "b", "session_id": "s", "input_length": 12, "output_length": 1, "block_size": 4}
    | {"hash_ids": [0, 1, 5], "wait_for": ["a"], "gap_ms": 10},
]
V2: Rows = [
    {"schema": "dynamo.agentic_mooncake", "version": 2, "block_size": 4, "hash_id_scope": "local"},
    {"request_id": "a", "play_id": "p", "session_id": "p", "input_length": 8, "output_length": 2}
    | {"not_before_ms": 3, "dependencies": [], "content": [[0, 10]]},
    {"request_id": "b", "play_id": "p", "session_id": "p", "input_length": 12, "output_length": 2}
    | {"dependencies": [{"request_id": "a", "trigger": "completion", "delay_ms": 5, "tools_ms": 4}]}
    | {"content": [[0, 10], [1, 14]]},
]
MOONCAKE: Rows = [
    {"timestamp": 0, "session_id": "s", "input_length": 700, "output_length": 5, "hash_ids": [1, 2]},
    {"session_id": "s", "delay": 9, "input_length": 1100, "output_length": 5, "hash_ids": [1, 3, 4]},
    {"timestamp": 3, "input_length": 512, "output_length": 5, "hash_ids": [7]},
]
COMPACT: Rows = [
    {
        "program_id": "p",
        "arrival_s": 1,
        "shared_prefix": 30,
        "turns": [
            {"id": "plan", "new_tokens": 10, "output_tokens": 2, "tools": [{"name": "x", "duration_s": 1}]},
            {"session": "a", "new_tokens": 5, "output_tokens": 2, "id": "kid", "fork": True},
            {"new_tokens": 3, "output_tokens": 2, "after": ["kid", {"turn": "plan", "delay_s": 1}]},
            {"new_tokens": 3, "output_tokens": 2, "keep_tokens": 30, "delay_s": 2},
        ],
    },
    {"shared_prefix": {"group": "g", "tokens": 3}, "turns": [{"new_tokens": 1, "output_tokens": 1}]},
]
GOOD = {"v1": V1, "hashed": HASHED, "v2": V2, "mooncake": MOONCAKE, "compact": COMPACT}

REMOVED = object()


def changed(base: str, *steps: int | str, to: Any) -> Rows:
    """The rows of a good file with one value changed or REMOVED."""
    rows: Any = copy.deepcopy(GOOD[base])
    at = rows
    for step in steps[:-1]:
        at = at[step]
    if to is REMOVED:
        del at[steps[-1]]
    else:
        at[steps[-1]] = to
    result: Rows = rows
    return result


def refused(path: Path, line: int, **options: Any) -> str:
    """The message with which a file is refused: one line that begins with file and line."""
    with pytest.raises(InputError) as caught:
        read_trace(path, ReadOptions(**options))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}:{line}: "), message
    assert len(message) < 300
    return message.removeprefix(f"{path}:{line}: ")


def read_or_refuse(path: Path) -> None:
    """Read a file; where it is refused, hold the message to one line that begins with file and line."""
    message = f"{path}:1: read"
    try:
        read_trace(path)
    except InputError as refusal:
        message = str(refusal)
    assert re.fullmatch(re.escape(str(path)) + r":\d+: [^\n]+", message), message


@pytest.mark.parametrize("base", GOOD)
def test_the_files_that_are_mutated_are_good(base: str, read: Any) -> None:
    assert read(GOOD[base]).num_turns >= 2


NAN = "@nan"
"""Stands for a bare NaN, which Python writes and JSON does not know."""

MUTATIONS: list[tuple[str, tuple[int | str, ...], Any, int, str]] = [
    # base, path to the value, new value, line that is named, words that are said
    *(
        (base, (row, "input_length"), value, row + 1, words)
        for base, row in (("v1", 0), ("hashed", 1), ("v2", 1), ("mooncake", 2))
        for value, words in (
            (REMOVED, "input_length is missing"),
            (None, "input_length is missing"),
            (0, "input_length is 0; it must be from 1"),
            (-5, "input_length is -5"),
            (2.5, "input_length has 2.5; it must be a whole number"),
            ("ten", "input_length has 'ten'; it must be a whole number"),
            ([1], "input_length has [1]"),
            (True, "input_length has True"),
            (10**12, "input_length is 1000000000000; it must be from 1 to"),
        )
    ),
    *(
        (base, (row, "output_length"), value, row + 1, words)
        for base, row in (("v1", 2), ("hashed", 0), ("v2", 2), ("mooncake", 0))
        for value, words in (
            (REMOVED, "output_length is missing"),
            (0, "output_length is 0"),
            (-1, "output_length is -1"),
            ({}, "output_length has {}"),
            (NAN, "not JSON"),
        )
    ),
    ("v1", (0, "request_id"), REMOVED, 1, "request_id is missing"),
    ("v1", (0, "request_id"), "", 1, "request_id is empty"),
    ("v1", (0, "request_id"), 1.5, 1, "request_id has 1.5; it must be text"),
    ("v1", (0, "request_id"), "b", 3, "id 'b' is already used in line 1"),
    ("v1", (0, "timestamp"), -1, 1, "timestamp is -1; it must not be negative"),
    ("v1", (0, "timestamp"), NAN, 1, "not JSON"),
    ("v1", (0, "timestamp"), "now", 1, "timestamp has 'now'; it must be a number"),
    ("v1", (0, "timestamp"), 1e300, 1, "the limit is"),
    ("v1", (0, "wait_for"), ["b"], 1, "wait for each other in a circle"),
    ("v1", (0, "tool_calls"), "Bash", 1, "tool_calls has 'Bash'; it must be a list"),
    ("v1", (0, "tool_calls"), ["Bash"], 1, "it must be a list of objects"),
    ("v1", (0, "tool_calls", 0, "duration_ms"), -3, 1, "duration_ms is -3"),
    ("v1", (0, "tool_calls", 0, "tool_class"), [], 1, "tool_class has []"),
    ("v1", (0, "tool_calls", 0, "offset_ms"), "late", 1, "offset_ms has 'late'"),
    ("v1", (0, "branches"), ["nobody"], 1, "'nobody', which is not in the trace"),
    ("v1", (0, "hints"), "soon", 1, "hints has 'soon'; it must be an object"),
    ("v1", (0, "branches"), "k", 1, "branches has 'k'; it must be a list"),
    ("v1", (0, "shared_prefix_tokens"), 101, 1, "shared_prefix_tokens is 101, more than input_length (100)"),
    ("v1", (0, "shared_prefix_tokens"), -1, 1, "shared_prefix_tokens is -1"),
    ("v1", (2, "prefix_tokens"), 131, 3, "prefix_tokens is 131, more than input_length (130)"),
    ("v1", (2, "prefix_tokens"), 1.5, 3, "prefix_tokens has 1.5"),
    ("v1", (2, "prefix_reset"), "yes", 3, "prefix_reset has 'yes'; it must be true or false"),
    ("v1", (2, "wait_for"), ["aa"], 3, "'aa', which is not in the trace"),
    ("v1", (2, "wait_for"), ["a", "a"], 3, "wait_for names a turn twice"),
    ("v1", (2, "wait_for"), ["b"], 3, "in a circle: b <- b"),
    ("v1", (2, "wait_for"), "a", 3, "wait_for has 'a'; it must be a list"),
    ("v1", (2, "wait_for"), [None], 3, "it must be a list of ids"),
    ("v1", (2, "delay"), -0.5, 3, "delay is -0.5"),
    ("v1", (2, "tool_wait_ms"), -1, 3, "tool_wait_ms is -1"),
    ("v1", (2, "tool_wait_ms"), [], 3, "tool_wait_ms has []"),
    ("v1", (1, "program_id"), "q", 3, "waits for 'k', which belongs to another program, 'q'"),
    ("v1", (2, "dependencies"), [], 3, "either dependencies (v2) or wait_for (v1)"),
    ("v1", (1, "dealy"), 3, 2, "unknown field 'dealy'; did you mean 'delay'?"),
    ("v1", (1, "tool_cals"), [], 2, "unknown field 'tool_cals'; did you mean 'tool_calls'?"),
    ("hashed", (1, "gap_ms"), -4, 2, "gap_ms is -4"),
    ("hashed", (0, "block_size"), 0, 1, "block_size is 0"),
    ("hashed", (0, "block_size"), REMOVED, 1, "hash ids need a block_size"),
    ("hashed", (1, "block_size"), 5, 2, "a trace has one block size"),
    ("hashed", (0, "hash_runs"), [[0, 5]], 1, "5 hash ids do not fit input_length 10"),
    ("hashed", (0, "hash_runs"), [[0, 10**15]], 1, "hash ids do not fit"),
    ("hashed", (0, "hash_runs"), [[0, -1], [5, 4]], 1, "do not fit"),
    ("hashed", (0, "hash_runs"), [[0, 2, 3]], 1, "it must be a list of pairs"),
    ("hashed", (0, "hash_runs"), [0, 1, 2], 1, "it must be a list of pairs"),
    ("hashed", (1, "hash_ids"), [0, 1], 2, "2 hash ids do not fit input_length 12"),
    ("hashed", (1, "hash_ids"), [0, 1, "x"], 2, "hash_ids has 'x'; it must be a list of whole numbers"),
    ("hashed", (1, "hash_ids"), [0, 1, 2.5], 2, "hash_ids has 2.5"),
    ("hashed", (1, "hash_ids"), [0, 1, 10**30], 2, "hash_ids has 1e+30"),
    ("hashed", (1, "hash_ids"), {"0": 1}, 2, "it must be a list"),
    ("hashed", (1, "token_ids"), [1, 2], 2, "token_ids has 2 tokens, but input_length is 12"),
    ("v2", (0, "schema"), "dynamo.other", 1, "schema is 'dynamo.other'"),
    ("v2", (0, "version"), 3, 1, "version of dynamo.agentic_mooncake is 3"),
    ("v2", (0, "version"), REMOVED, 1, "version is missing"),
    ("v2", (0, "hash_id_scope"), "globl", 1, "did you mean 'global'?"),
    ("v2", (0, "block_size"), "4", 1, "block_size has '4'"),
    ("v2", (1, "not_before_ms"), -3, 2, "not_before_ms is -3"),
    ("v2", (1, "content"), [[0, 9]], 2, "content ends at 9, not at"),
    ("v2", (1, "content"), REMOVED, 2, "content is missing, which other rows have"),
    ("v2", (2, "content"), [[0, 10], [1, 10]], 3, "content ends in segment 1 at 10, not after 10"),
    ("v2", (2, "content"), [[1, 10], [0, 14]], 3, "enters segment 0 at another place"),
    ("v2", (2, "content"), "path", 3, "content has 'path'"),
    ("v2", (2, "dependencies", 0, "request_id"), REMOVED, 3, "request_id is missing"),
    ("v2", (2, "dependencies", 0, "request_id"), "c", 3, "waits for 'c'"),
    ("v2", (2, "dependencies", 0, "trigger"), "dispach", 3, "did you mean 'dispatch'?"),
    ("v2", (2, "dependencies", 0, "relation"), "child", 3, "it must be sequence or spawn or join"),
    ("v2", (2, "dependencies", 0, "delay_ms"), -1, 3, "delay_ms is -1"),
    ("v2", (2, "dependencies", 0, "tools_ms"), 6, 3, "tools_ms is the part of delay_ms"),
    ("v2", (2, "dependencies"), {}, 3, "dependencies has {}; it must be a list"),
    ("mooncake", (0, "timestamp"), REMOVED, 1, "the first row of a program must have one"),
    ("mooncake", (2, "timestamp"), -1, 3, "timestamp is -1"),
    ("mooncake", (1, "delay"), "soon", 2, "delay has 'soon'"),
    ("mooncake", (1, "delay"), -1, 2, "delay is -1"),
    ("mooncake", (1, "hash_ids"), [1], 1, "no block size explains"),
    ("mooncake", (1, "hash_ids"), 5, 2, "hash_ids has 5; it must be a list"),
    ("mooncake", (1, "hash_ids"), [1, None, 4], 2, "hash_ids has None"),
    ("mooncake", (2, "sesion_id"), "s", 3, "unknown field 'sesion_id'"),
    ("mooncake", (2, "priority"), "high", 3, "priority has 'high'"),
    ("compact", (0, "turns"), [], 1, "turns is empty"),
    ("compact", (0, "turns"), {"a": 1}, 1, "turns has"),
    ("compact", (1, "turns"), REMOVED, 2, "turns is empty"),
    ("compact", (0, "arrival_s"), -1, 1, "arrival_s is -1"),
    ("compact", (0, "arival_s"), 1, 1, "unknown field 'arival_s'"),
    ("compact", (0, "shared_prefix"), -1, 1, "shared_prefix is -1"),
    ("compact", (1, "shared_prefix", "tokens"), REMOVED, 2, "shared_prefix: tokens is missing"),
    ("compact", (0, "turns", 0, "new_tokens"), 0, 1, "turn 1: new_tokens is 0"),
    ("compact", (0, "turns", 0, "output_tokens"), REMOVED, 1, "turn 1: output_tokens is missing"),
    ("compact", (0, "turns", 0, "tools", 0, "duration_s"), -1, 1, "turn 1: duration_s is -1"),
    ("compact", (0, "turns", 0, "tools", 0, "time"), 1, 1, "turn 1: unknown field 'time'"),
    ("compact", (0, "turns", 0, "fork"), True, 1, "turn 1: fork is for the first turn of a sub-agent"),
    ("compact", (0, "turns", 0, "id"), "kid", 1, "turn 2: id 'kid' is used twice"),
    ("compact", (0, "turns", 2, "after"), ["kit"], 1, "turn 3: after names 'kit'"),
    ("compact", (0, "turns", 2, "after"), [{"turn": "plam"}], 1, "did you mean 'plan'?"),
    ("compact", (0, "turns", 2, "after"), [{"turn": "plan", "when": 1}], 1, "unknown field 'when'"),
    ("compact", (0, "turns", 2, "after"), [3.5], 1, "after has 3.5"),
    ("compact", (0, "turns", 3, "keep_tokens"), 10**6, 1, "turn 4: keep_tokens is 1000000, more than"),
    ("compact", (0, "turns", 3, "delay_s"), NAN, 1, "not JSON"),
    ("compact", (0, "turns", 3, "new_tokens"), 10**9, 1, "the context grows beyond"),
]


@pytest.mark.parametrize(("base", "at", "value", "line", "words"), MUTATIONS)
def test_mutations(
    tmp_path: Path, base: str, at: tuple[int | str, ...], value: Any, line: int, words: str
) -> None:
    path = tmp_path / "trace.jsonl"
    rows = changed(base, *at, to=value)
    text = "".join(json.dumps(row) + "\n" for row in rows).replace(f'"{NAN}"', "NaN")
    path.write_text(text, encoding="utf-8")
    assert words in refused(path, line)


def test_there_are_enough_of_them() -> None:
    assert len(MUTATIONS) >= 130


def lines(base: str) -> list[bytes]:
    return [json.dumps(row).encode() for row in GOOD[base]]


BYTES: dict[str, tuple[Callable[[bytes], bytes], int, str]] = {
    "empty": (lambda text: b"", 1, "the file is empty"),
    "blank": (lambda text: b"\n \n", 1, "the file is empty"),
    "prose": (lambda text: b"hello\n", 1, "not JSON"),
    "a number": (lambda text: b"42\n", 1, "must be one JSON object, not int"),
    "a list": (lambda text: b"[" + text.replace(b"\n", b",")[:-1] + b"]", 1, "one JSON object, not list"),
    "cut off": (lambda text: text[:-20], 3, "not JSON"),
    "bad UTF-8": (lambda text: text.replace(b'"b"', b'"\xff"'), 3, "not UTF-8 text"),
    "UTF-16": (lambda text: text.decode().encode("utf-16"), 1, "not UTF-8 text"),
    "zeros": (lambda text: b"\0" * 64, 1, "not JSON"),
    "csv": (lambda text: b"timestamp,input_length\n1,2\n", 1, "not JSON"),
    "foreign": (lambda text: b'{"foo": 1}\n', 1, "the format is not recognised"),
    "header only": (lambda text: json.dumps(V2[0]).encode(), 1, "a header but no turns"),
    "gzip cut short": (lambda text: gzip.compress(text)[:-12], 3, "the gzip data is damaged or cut short"),
    "gzip damaged": (lambda text: gzip.compress(text)[:10] + b"\xff" * 40, 1, "the gzip data is damaged"),
    "gzip of nothing": (lambda text: gzip.compress(b""), 1, "the file is empty"),
}


@pytest.mark.parametrize("name", BYTES)
def test_files_that_are_no_traces(tmp_path: Path, name: str) -> None:
    change, line, words = BYTES[name]
    path = tmp_path / "trace.jsonl"
    path.write_bytes(change(b"\n".join(lines("v1")) + b"\n"))
    assert words in refused(path, line)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "trace.jsonl").write_bytes(b"{}")
    for path, words in (
        (tmp_path / "trase.jsonl", "no such file; did you mean 'trace.jsonl'?"),
        (tmp_path / "nowhere" / "x.jsonl", "no such file"),
        (tmp_path, "this is a folder; give a trace file"),
    ):
        with pytest.raises(InputError) as caught:
            read_trace(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("base", "other"), [(b, o) for b in GOOD for o in ("canonical", "mooncake", "compact")]
)
def test_a_wrong_format_is_refused(tmp_path: Path, base: str, other: str) -> None:
    right = {"v1": "canonical", "hashed": "canonical", "v2": "canonical"}.get(base, base)
    path = tmp_path / "trace.jsonl"
    path.write_bytes(b"\n".join(lines(base)))
    if other == right:
        assert read_trace(path, ReadOptions(format=other)).num_turns
        return
    with pytest.raises(InputError, match=re.escape(str(path)) + r":\d+: [^\n]+$"):
        read_trace(path, ReadOptions(format=other))


def test_a_long_circle_is_named_in_short(tmp_path: Path) -> None:
    rows = [
        {"request_id": f"t{i}", "program_id": "p", "session_id": "p", "input_length": 1, "output_length": 1}
        | {"wait_for": [f"t{(i + 1) % 50}"]}
        for i in range(50)
    ]
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert "t0 <- t1 <- t2 <- t3 <- t4 <- t0" in refused(path, 1)


@given(
    base=st.sampled_from(sorted(GOOD)),
    cut=st.floats(0, 1),
    junk=st.binary(max_size=4),
    packed=st.booleans(),
)
def test_damaged_files_never_end_in_anything_but_an_input_error(
    folder: Path, base: str, cut: float, junk: bytes, packed: bool
) -> None:
    """Bytes replaced anywhere: the file is read or refused, in one line that begins with its name."""
    text = b"\n".join(lines(base))
    if packed:
        text = gzip.compress(text, mtime=0)
    at = int(cut * len(text))
    path = folder / "damaged"
    path.write_bytes(text[:at] + junk + text[at + len(junk) :])
    read_or_refuse(path)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(base=st.sampled_from(sorted(GOOD)), data=st.data())
def test_any_value_in_any_field(folder: Path, base: str, data: st.DataObject) -> None:
    """Values replaced anywhere: the file is read or refused, in one line that begins with its name."""
    rows: Any = copy.deepcopy(GOOD[base])
    row = data.draw(st.sampled_from(rows))
    row[data.draw(st.sampled_from(sorted(row)))] = data.draw(values)
    path = folder / "odd.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    read_or_refuse(path)

"""Several hundred mutated inputs: each runs, or is refused with one line; nothing is half-written.

What a mutation should lead to is not said one by one (the readers' own tests do that), but for the
faults that must be found it is: those in `FATAL`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentservesim.cli import main

COMPACT = [
    {
        "program_id": "p",
        "arrival_s": 0.5,
        "shared_prefix": 100,
        "turns": [
            {
                "id": "a",
                "new_tokens": 500,
                "output_tokens": 20,
                "tools": [{"name": "Bash", "duration_s": 1.0}],
            },
            {"id": "b", "new_tokens": 50, "output_tokens": 20, "session": "sub", "after": ["a"]},
            {"id": "c", "new_tokens": 50, "output_tokens": 20, "delay_s": 1.0, "after": ["b"]},
        ],
    },
    {"program_id": "q", "turns": [{"new_tokens": 10, "output_tokens": 5}]},
]
MOONCAKE = [
    {"timestamp": 0, "input_length": 1100, "output_length": 30, "hash_ids": [1, 2, 3], "session_id": "s"},
    {"delay": 500, "input_length": 1300, "output_length": 30, "hash_ids": [1, 2, 4], "session_id": "s"},
    {"timestamp": 9, "input_length": 600, "output_length": 30, "hash_ids": [1, 9], "session_id": "t"},
]
VERSION_1 = [
    {
        "request_id": "a",
        "program_id": "p",
        "session_id": "p",
        "timestamp": 0,
        "input_length": 900,
        "output_length": 20,
        "prefix_tokens": 0,
        "tool_calls": [{"tool_call_id": "x", "tool_class": "Bash", "duration_ms": 5, "offset_ms": 0}],
    },
    {
        "request_id": "b",
        "program_id": "p",
        "session_id": "p",
        "wait_for": ["a"],
        "delay": 3,
        "tool_wait_ms": 5,
        "input_length": 1000,
        "output_length": 20,
        "prefix_tokens": 900,
    },
]
VERSION_2 = [
    {"schema": "dynamo.agentic_mooncake", "version": 2, "block_size": 512, "hash_id_scope": "local"},
    {
        "request_id": "a",
        "session_id": "s",
        "play_id": "p",
        "input_length": 1024,
        "output_length": 9,
        "hash_ids": [1, 2],
        "not_before_ms": 0,
        "dependencies": [],
    },
    {
        "request_id": "b",
        "session_id": "s",
        "play_id": "p",
        "input_length": 1500,
        "output_length": 9,
        "hash_ids": [1, 2, 3],
        "not_before_ms": 0,
        "dependencies": [
            {"request_id": "a", "trigger": "completion", "delay_ms": 10, "relation": "sequence"}
        ],
    },
]
SCENARIO = {
    "name": "s",
    "seed": 1,
    "router": "round-robin",
    "workload": {"trace": "good.jsonl", "program_rate": 1.0, "burstiness": 1.0},
    "instances": [
        {"count": 1, "model": "llama-3.1-8b", "gpu": "h100-sxm", "max_num_seqs": 4, "block_size": 16}
    ],
    "tools": {"max_workers": 2},
}
BAD_VALUES = (-1, 1e300, "x", None, [], {}, True, 10**30)
BASES: dict[str, list[Any]] = {
    "compact": COMPACT,
    "mooncake": MOONCAKE,
    "version1": VERSION_1,
    "version2": VERSION_2,
}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where there is something to mutate."""
    if path:
        yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for index in range(min(len(value), 2)):
            yield from places(value[index], (*path, index))


def mutated(base: Any, path: tuple[Any, ...], value: Any = ...) -> Any:
    """A copy in which one value is replaced, or left out."""
    whole = copy.deepcopy(base)
    inside = whole
    for key in path[:-1]:
        inside = inside[key]
    if value is ...:
        del inside[path[-1]]
    else:
        inside[path[-1]] = value
    return whole


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def mutations(base: Any) -> Iterator[Any]:
    for path in places(base):
        yield mutated(base, path)
        for value in BAD_VALUES:
            yield mutated(base, path, value)
        if isinstance(path[-1], str):
            key = path[-1]
            misspelt = mutated(base, path)
            inside = misspelt
            for step in path[:-1]:
                inside = inside[step]
            inside[key[:-2] + key[-1]] = 1
            yield misspelt


def attempt(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run a file: its exit code and its diagnostics, having checked what holds for every input."""
    out = folder / "out"
    with pytest.raises(SystemExit) as end:
        main(["run", str(folder / name), "--out", str(out), "--quiet"])
    printed = capsys.readouterr()
    assert printed.out == ""
    if end.value.code == 0:
        assert (out / "summary.json").exists()
        for file in out.iterdir():
            file.unlink()
        out.rmdir()
    else:
        assert end.value.code == 2, printed.err
        assert printed.err.count("\n") == 1, printed.err
        assert len(printed.err) < 600
        assert not out.exists()
    assert not [p for p in folder.iterdir() if p.name.startswith(".")]
    return int(end.value.code or 0), printed.err


@pytest.mark.parametrize("kind", BASES)
def test_mutated_traces(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = BASES[kind]
    trace = tmp_path / "t.jsonl"
    trace.write_text(lines(base))
    assert attempt(tmp_path, "t.jsonl", capsys) == (0, "")
    refused = total = 0
    for rows in mutations(base):
        trace.write_text(lines(rows))
        code, said = attempt(tmp_path, "t.jsonl", capsys)
        refused += code == 2
        total += 1
        if code == 2:
            assert said.startswith(f"agentservesim: {trace}:"), said
    assert total > 100
    assert refused > total / 3


@pytest.mark.parametrize("kind", BASES)
def test_truncated_traces(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = lines(BASES[kind])
    for end in range(0, len(text) - 2, 23):
        (tmp_path / "t.jsonl").write_text(text[:end])
        code, said = attempt(tmp_path, "t.jsonl", capsys)
        cut_in_a_line = end > 0 and text[end - 1] != "\n" != text[end]
        if cut_in_a_line:
            assert code == 2
            assert f"t.jsonl:{text[:end].count(chr(10)) + 1}:" in said


def test_mutated_scenarios(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "good.jsonl").write_text(lines(COMPACT))
    file = tmp_path / "s.json"
    file.write_text(json.dumps(SCENARIO))
    assert attempt(tmp_path, "s.json", capsys) == (0, "")
    total = refused = 0
    for scenario in mutations(SCENARIO):
        file.write_text(json.dumps(scenario))
        refused += attempt(tmp_path, "s.json", capsys)[0] == 2
        total += 1
    assert total > 100
    assert refused > total / 3


FATAL = {
    "cycle": (VERSION_1, (0, "wait_for"), ["b"], "in a circle: a <- b <- a"),
    "itself": (VERSION_1, (1, "wait_for"), ["b"], "in a circle: b <- b"),
    "dangling": (VERSION_1, (1, "wait_for"), ["nobody"], "nobody"),
    "twice": (VERSION_1, (1, "request_id"), "a", "'a'"),
    "negative": (VERSION_1, (1, "delay"), -5, "delay"),
    "no output": (VERSION_1, (1, "output_length"), 0, "output_length"),
    "fraction": (VERSION_1, (1, "input_length"), 10.5, "input_length"),
    "cycle in version 2": (
        VERSION_2,
        (1, "dependencies"),
        [{"request_id": "b", "trigger": "completion"}],
        "in a circle",
    ),
    "trigger": (VERSION_2, (2, "dependencies", 0, "trigger"), "complet", "did you mean 'completion'"),
    "version": (VERSION_2, (0, "version"), 3, "version"),
    "misspelt": (COMPACT, (0, "turns", 0, "new_token"), 5, "new_token"),
    "no turns": (COMPACT, (0, "turns"), [], "turn"),
    "unknown turn": (COMPACT, (0, "turns", 1, "after"), ["z"], "'z'"),
    "too long": (COMPACT, (0, "turns", 0, "new_tokens"), 3_000_000, "num_gpu_blocks"),
    "negative time": (COMPACT, (0, "arrival_s"), -1.0, "arrival_s"),
    "hashes": (MOONCAKE, (1, "hash_ids"), [1, 2, "x"], "hash_ids"),
}


@pytest.mark.parametrize("fault", FATAL)
def test_faults_that_must_be_found(fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, path, value, said = FATAL[fault]
    (tmp_path / "t.jsonl").write_text(lines(mutated(base, path, value)))
    code, message = attempt(tmp_path, "t.jsonl", capsys)
    assert code == 2
    assert said in message


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.jsonl").write_text(lines(VERSION_1).replace('"delay": 3', f'"delay": {text}'))
    code, message = attempt(tmp_path, "t.jsonl", capsys)
    assert code == 2
    assert "t.jsonl:2" in message

"""Writes a workload as a canonical v2 trace, from which the same workload can be read again.

Content goes into our own field `content`: `[[segment number, end], ...]`, a turn's path in the prefix tree.
`delay_ms` is the whole recorded wait and `tools_ms` the part of it that is tool time, so that a reader who
knows only Dynamo's fields waits as long. Times are written to the microsecond.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import orjson

from agentservesim.files import write_whole
from agentservesim.model import InputError, Program, Segment, ToolCall, Turn, Workload
from agentservesim.workload.canonical import SCHEMA
from agentservesim.workload.rows import QUANTUM_PS


def write_trace(
    workload: Workload,
    path: str | Path,
    *,
    hash_block_size: int | None = None,
) -> None:
    """Write a v2 trace; gzip where the name ends in .gz. The file appears whole or not at all.

    `hash_block_size` also writes every prompt's `hash_ids` in blocks of that many tokens, which Dynamo needs.
    The header says where the workload came from: for a synthetic one, the command that draws it again.
    Raises InputError for turns of one id, and for a file that cannot be written.
    """
    path = Path(path)
    rows = b"".join(orjson.dumps(row) + b"\n" for row in _rows(workload, hash_block_size))
    text = orjson.dumps(_header(workload, hash_block_size, rows)) + b"\n" + rows
    data = gzip.compress(text, mtime=0) if path.suffix == ".gz" else text
    write_whole(path, data)


def _header(workload: Workload, block: int | None, rows: bytes) -> dict[str, Any]:
    digest = sha256(rows).hexdigest()
    return {
        "schema": SCHEMA,
        "version": 2,
        "block_size": block or 1,
        "hash_id_scope": "global",
        "source": {"format": "agentservesim", "origin": workload.source, "digest": digest},
        "synthetic": workload.synthetic,
        "notes": list(workload.notes),
    }


def _rows(workload: Workload, block: int | None) -> Iterator[dict[str, Any]]:
    numbers: dict[Segment, int] = {}
    hashes = None if block is None else _Hashes(block)
    seen: set[str] = set()
    for program in workload.programs:
        for turn in program.turns:
            if turn.id in seen:
                raise InputError(
                    f"turn id '{turn.id}' occurs twice in the workload; a trace needs unique ids"
                )
            seen.add(turn.id)
            row = _row(program, turn)
            if hashes is not None:
                row["hash_ids"] = hashes.of(turn)
            row["content"] = [[numbers.setdefault(segment, len(numbers)), end] for segment, end in turn.path]
            yield row


def _row(program: Program, turn: Turn) -> dict[str, Any]:
    starts = program.arrival_ps + turn.not_before_ps if turn.not_before_ps or not turn.dependencies else 0
    row: dict[str, Any] = {
        "request_id": turn.id,
        "session_id": turn.session_id,
        "play_id": program.id,
        "model": "default",
        "input_length": turn.prompt_tokens,
        "output_length": turn.output_tokens,
        "not_before_ms": _ms(starts),
        "dependencies": [
            {
                "request_id": program.turns[d.turn].id,
                "trigger": d.trigger,
                "delay_ms": _ms(d.delay_ps + (d.tools_ps or 0)),
                "relation": d.relation,
            }
            | ({} if d.tools_ps is None else {"tools_ms": _ms(d.tools_ps)})
            for d in turn.dependencies
        ],
        "trigger": turn.trigger,
    }
    if turn.index == 0:
        row["arrival_ms"] = _ms(program.arrival_ps)
        if program.kind:
            row["kind"] = program.kind
        if program.tenant:
            row["tenant"] = program.tenant
    if turn.tools:
        row["tool_calls"] = [_tool(call) for call in turn.tools]
    if turn.priority:
        row["priority"] = turn.priority
    if turn.prefix_tokens is not None:
        row["prefix_tokens"] = turn.prefix_tokens
    if turn.hints:
        row["hints"] = dict(turn.hints)
    return row


def _tool(call: ToolCall) -> dict[str, Any]:
    row: dict[str, Any] = {"tool_class": call.name}
    if call.duration_ps is not None:
        row["duration_ms"] = _ms(call.duration_ps)
    if call.offset_ps:
        row["offset_ms"] = _ms(call.offset_ps)
    return row


def _ms(picoseconds: int) -> int | float:
    us = round(picoseconds / QUANTUM_PS)
    return us // 1000 if us % 1000 == 0 else us / 1000


class _Hashes:
    """Block ids: two prompts have the same id for a block exactly if they share all tokens up to its end."""

    def __init__(self, block: int) -> None:
        self._block = block
        self._ids: dict[tuple[Segment, int, int], int] = {}
        self._fresh = count()

    def of(self, turn: Turn) -> list[int]:
        ids: list[int] = []
        prompt = turn.prompt_tokens
        for segment, end in turn.path:
            while (len(ids) + 1) * self._block <= min(end, prompt):
                ids.append(self._id(segment, len(ids), self._block))
            if end >= prompt:
                if prompt % self._block:
                    ids.append(self._id(segment, len(ids), prompt % self._block))
                break
        return ids

    def _id(self, segment: Segment, block: int, filled: int) -> int:
        key = (segment, block, filled)
        if key not in self._ids:
            self._ids[key] = next(self._fresh)
        return self._ids[key]

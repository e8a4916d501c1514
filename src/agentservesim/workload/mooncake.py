"""Mooncake JSONL: `timestamp` ms, `input_length`, `output_length`, `hash_ids`, `session_id`, `delay` ms.

Without session ids every row is a program of one turn. With them the rows of a session follow each
other: a row starts `delay` after the row before it completed, and not before its own `timestamp`.

`input_length` is the whole prompt (cumulative), or only what is new in it (delta: the prompt before it,
its reply and this many tokens). The two cannot be told apart for certain, so delta must be asked for.
The size of a block is not in the file: it is the one that explains the number of ids of every row.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice

from agentservesim.model import Workload
from agentservesim.workload.assemble import assemble
from agentservesim.workload.canonical import read_hash_ids
from agentservesim.workload.content import ContentTree
from agentservesim.workload.drafts import Draft, Link
from agentservesim.workload.hashes import HashIndex
from agentservesim.workload.options import ReadOptions
from agentservesim.workload.rows import MOST_TOKENS, Row, fault

FIELDS = frozenset(
    {"request_id", "session_id", "timestamp", "delay", "input_length", "output_length", "hash_ids"}
    | {"hash_runs", "block_size", "priority", "model"}
)
HEAD_ROWS = 256
USUAL_SIZES = (512, 16, 32, 64, 128, 256, 1024, 8, 4, 2, 1)


def read_mooncake(rows: Iterator[Row], file: str, options: ReadOptions) -> Workload:
    """Read Mooncake rows. Raises InputError at the first row that is wrong."""
    head = list(islice(rows, HEAD_ROWS))
    size = options.trace_block_size or _block_size(head)
    reader = _Reader(options, size)
    for row in chain(head, rows):
        reader.add(row)
    if options.lengths is None and reader.strange >= 3 and 2 * reader.strange > reader.later:
        raise fault(
            file,
            reader.strange_at,
            "most rows do not begin like the first of their session, as if they held new tokens only; "
            "say lengths = 'delta' if they do, or 'cumulative' if not",
        )
    notes = () if size is None else (f"hash blocks of {size} tokens",)
    return assemble(reader.drafts, file, reader.tree, reuse_output=options.reuse_output, notes=notes)


@dataclass(slots=True)
class _Last:
    """The latest row of a session, and the first hash id of its first row."""

    draft: Draft
    first_id: int | None


class _Reader:
    """Turns rows into drafts and places their content as it goes."""

    def __init__(self, options: ReadOptions, size: int | None) -> None:
        self.tree = ContentTree()
        self.drafts: list[Draft] = []
        self.later = 0
        self.strange = 0
        self.strange_at = 0
        self._delta = options.lengths == "delta"
        self._size = size
        self._index = HashIndex(self.tree, size or 1, options.reuse_output)
        self._last: dict[str, _Last] = {}

    def add(self, row: Row) -> None:
        row.check_names(FIELDS)
        stray = next((name for name in ("wait_for", "dependencies") if name in row), None)
        if stray is not None:
            raise row.error(f"'{stray}' does not belong in a Mooncake row; read this file as canonical")
        session = row.text_or_none("session_id")
        last = self._last.get(session) if session is not None else None
        draft = self._draft(row, session, last)
        ids = self._ids(row)
        if last is not None:
            self.later += 1
            if ids and ids[0] != last.first_id:
                self.strange += 1
                self.strange_at = row.line
        if ids is not None and not (last is not None and self._delta):
            previous = last.draft.placed if last is not None else None
            draft.placed = self._index.place(ids, draft.prompt, draft.output, previous)
        self.drafts.append(draft)
        if session is not None:
            first_id = last.first_id if last is not None else ids[0] if ids else None
            self._last[session] = _Last(draft, first_id)

    def _draft(self, row: Row, session: str | None, last: _Last | None) -> Draft:
        number = len(self.drafts)
        identity = row.text_or_none("request_id") or (f"{session}:{number}" if session else f"r{number}")
        prompt = row.integer("input_length", low=1)
        draft = Draft(
            id=identity,
            line=row.line,
            program=session or identity,
            session=session or identity,
            prompt=prompt,
            output=row.integer("output_length", low=1),
            priority=row.integer_or("priority", 0, low=-(10**9)),
            start_ps=row.ms_or_none("timestamp"),
        )
        delay = row.ms_or_none("delay")
        if last is not None:
            draft.links.append(Link(last.draft.id, delay_ps=delay or 0, tools_ps=0, relation="sequence"))
            if self._delta:
                draft.prompt += last.draft.prompt + last.draft.output
        elif draft.start_ps is None:
            raise row.error("timestamp is missing; the first row of a program must have one")
        return draft

    def _ids(self, row: Row) -> array[int] | None:
        if "hash_ids" not in row and "hash_runs" not in row:
            return None
        if self._size is None:
            raise row.error("the size of a hash block is unknown; give trace_block_size")
        return read_hash_ids(row, row.integer("input_length", low=1), self._size)


def _block_size(head: list[Row]) -> int | None:
    """The block size that explains the ids of all rows: either partial blocks have ids, or they do not."""
    counts: list[tuple[int, int]] = []
    for row in head:
        stated = row.integer_or_none("block_size", low=1)
        if stated is not None:
            return stated
        ids = len(row.raw("hash_ids") or ()) if isinstance(row.raw("hash_ids"), list) else 0
        ids = ids or sum(count for _, count in row.pairs("hash_runs"))
        if ids:
            counts.append((row.integer("input_length", low=1), ids))
    if not counts:
        return None
    partial = range(
        max(-(-tokens // ids) for tokens, ids in counts),
        1 + min((tokens - 1) // (ids - 1) if ids > 1 else MOST_TOKENS for tokens, ids in counts),
    )
    full_only = range(
        max(tokens // (ids + 1) + 1 for tokens, ids in counts),
        1 + min(tokens // ids for tokens, ids in counts),
    )
    for sizes in (partial, full_only):
        usual = next((size for size in USUAL_SIZES if size in sizes), None)
        if usual is not None:
            return usual
    if not partial and not full_only:
        raise head[0].error(
            "no block size explains the numbers of hash ids of the first rows; say trace_block_size"
        )
    return (partial or full_only)[0]

"""The canonical trace: Dynamo's agentic Mooncake (v1 rows, and v2 with a header) and our additions.

One row is one turn.

Timing of a turn that waits for others:

* v2 gives every dependency its trigger and delay; `tools_ms` (ours) is the recorded tool time in it.
* v1 gives `delay` and `tool_wait_ms` after the last of `wait_for`.
* Where v1 gives only `gap_ms` (start to start, because the service time was not recorded), the turn
  starts that long after the *dispatch* of the turn before it, and not before that turn's completion:
  the recorded rhythm holds as long as the simulated server keeps up with it.
* Where it gives nothing, the tool calls of the turn before it are run and there is no think time.

`hints` is what the agent framework tells the server with the turn (see `workload.hints`).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from agentservesim.model import Path, Segment, ToolCall, Trigger, Workload
from agentservesim.workload.assemble import assemble
from agentservesim.workload.content import ContentTree, Placed, detached
from agentservesim.workload.drafts import Draft, Link
from agentservesim.workload.hashes import HashIndex
from agentservesim.workload.hints import read_hints
from agentservesim.workload.options import ReadOptions
from agentservesim.workload.rows import Row, fault

SCHEMA = "dynamo.agentic_mooncake"

V1_FIELDS = frozenset(
    {"wait_for", "branches", "prefix_reset", "delay", "tool_wait_ms", "gap_ms", "timestamp"}
)
V2_FIELDS = frozenset({"dependencies", "play_id", "not_before_ms", "arrival_ms", "content"})
OWN_FIELDS = frozenset(
    {"program_id", "parent_session_id", "prefix_tokens", "shared_prefix_tokens", "group_id", "hash_runs"}
    | {"trigger", "tool_calls", "tool_events", "token_ids", "kind", "tenant", "hints"}
)
COMMON_FIELDS = frozenset(
    {
        "request_id",
        "session_id",
        "model",
        "input_length",
        "output_length",
        "hash_ids",
        "block_size",
        "priority",
    }
)
NOTED_FIELDS = frozenset(
    {"output_estimated", "cached_tokens", "llm_ms", "ttft_ms", "finish_reason", "compaction"}
)
FIELDS = V1_FIELDS | V2_FIELDS | OWN_FIELDS | COMMON_FIELDS | NOTED_FIELDS


@dataclass(frozen=True, slots=True)
class Header:
    """First row of a v2 trace: tokens in a hash block, and whether ids are those of one program."""

    block_size: int | None = None
    local_ids: bool = False
    synthetic: bool = False
    notes: tuple[str, ...] = ()


def read_canonical(rows: Iterator[Row], file: str, options: ReadOptions) -> Workload:
    """Read v1 or v2 rows. Raises InputError at the first row that is wrong."""
    first = next(rows)
    header = Header()
    if "schema" in first:
        header = _header(first)
    else:
        rows = chain([first], rows)
    reader = _Reader(file, options, header)
    for row in rows:
        reader.add(row)
    return reader.finish()


def _header(row: Row) -> Header:
    schema = row.text("schema")
    if schema != SCHEMA:
        raise row.error(f"schema is '{schema}'; only '{SCHEMA}' is known")
    version = row.integer("version", low=0)
    if version != 2:
        raise row.error(f"version of {SCHEMA} is {version}; with a header row it must be 2")
    scope = row.choice("hash_id_scope", "global", ("local", "global"))
    size = row.integer_or_none("block_size", low=1)
    return Header(size, scope == "local", row.flag("synthetic"), tuple(row.texts("notes")))


class _Reader:
    """Turns rows into drafts, placing hashed content as it goes."""

    def __init__(self, file: str, options: ReadOptions, header: Header) -> None:
        self._file = file
        self._options = options
        self._header = header
        self._local = header.local_ids if options.hash_scope == "auto" else options.hash_scope == "program"
        self._size = options.trace_block_size or header.block_size
        self._tree = ContentTree()
        self._indexes: dict[tuple[str, int], HashIndex] = {}
        self._drafts: list[Draft] = []
        self._by_id: dict[str, Draft] = {}
        self._held: dict[str, list[tuple[Draft, array[int], HashIndex]]] = {}
        self._parents: dict[str, str] = {}
        self._branches: dict[str, tuple[Row, str]] = {}
        self._segments: dict[int, Segment] = {}

    def add(self, row: Row) -> None:
        row.check_names(FIELDS)
        draft = self._draft(row)
        self._drafts.append(draft)
        self._by_id.setdefault(draft.id, draft)
        if "content" in row:
            draft.path = self._stated_path(row, draft)
        elif "token_ids" in row:
            ids = row.ids("token_ids")
            if len(ids) != draft.prompt:
                raise row.error(f"token_ids has {len(ids)} tokens, but input_length is {draft.prompt}")
            self._place(draft, ids, self._index(draft, 1))
        elif "hash_ids" in row or "hash_runs" in row:
            size = self._block_size(row)
            self._place(draft, read_hash_ids(row, draft.prompt, size), self._index(draft, size))

    def finish(self) -> Workload:
        if not self._drafts:
            raise fault(self._file, 1, "the trace has a header but no turns")
        for held in self._held.values():
            for draft, ids, index in held:
                draft.placed = index.place(ids, draft.prompt, draft.output, self._previous(draft))
        if len({draft.path is None for draft in self._drafts}) > 1:
            bare = next(draft for draft in self._drafts if draft.path is None)
            raise fault(self._file, bare.line, "content is missing, which other rows have")
        for child, (row, parent) in self._branches.items():
            if child not in self._by_id:
                raise row.error(f"branches of turn '{parent}' names '{child}', which is not in the trace")
            if not self._by_id[child].links:
                self._by_id[child].links.append(Link(parent, relation="spawn"))
        _name_programs(self._drafts, self._by_id, self._parents)
        return assemble(
            self._drafts,
            self._file,
            self._tree,
            reuse_output=self._options.reuse_output,
            synthetic=self._header.synthetic,
            notes=self._header.notes,
        )

    def _draft(self, row: Row) -> Draft:
        identity = row.text("request_id")
        session = row.text_or_none("session_id") or identity
        prompt = row.integer("input_length", low=1)
        links = _links(row)
        parent = row.text_or_none("parent_session_id")
        if parent is not None:
            self._parents[session] = parent
        for child in row.texts("branches"):
            self._branches[child] = (row, identity)
        start = row.ms_or_none("not_before_ms")
        if start is None and ("gap_ms" not in row or not links):
            start = row.ms_or_none("timestamp")
        shared = row.integer_or("shared_prefix_tokens", 0)
        prefix = row.integer_or_none("prefix_tokens")
        for name, part in (("shared_prefix_tokens", shared), ("prefix_tokens", prefix or 0)):
            if part > prompt:
                raise row.error(f"{name} is {part}, more than input_length ({prompt})")
        return Draft(
            id=identity,
            line=row.line,
            session=session,
            prompt=prompt,
            program=row.text_or_none("program_id") or row.text_or_none("play_id") or "",
            output=row.integer("output_length", low=1),
            links=links,
            start_ps=start,
            arrival_ps=row.ms_or_none("arrival_ms"),
            tools=tuple(_tools(row)),
            trigger=row.text_or_none("trigger") or "other",
            priority=row.integer_or("priority", 0, low=-(10**9)),
            prefix=prefix,
            reset=row.flag("prefix_reset"),
            shared=shared,
            group=row.text_or_none("group_id"),
            model=row.text_or_none("model"),
            kind=row.text_or_none("kind") or "",
            tenant=row.text_or_none("tenant") or "",
            child=parent is not None,
            hints=read_hints(row),
        )

    def _block_size(self, row: Row) -> int:
        stated = row.integer_or_none("block_size", low=1)
        size = self._options.trace_block_size or stated or self._size
        if size is None:
            raise row.error("hash ids need a block_size (in the row or in the header)")
        if self._size is not None and size != self._size:
            raise row.error(f"block_size is {size}, but {self._size} before; a trace has one block size")
        self._size = size
        return size

    def _index(self, draft: Draft, size: int) -> HashIndex:
        key = (draft.program or draft.session if self._local else "", size)
        if key not in self._indexes:
            self._indexes[key] = HashIndex(self._tree, size, self._options.reuse_output)
        return self._indexes[key]

    def _place(self, draft: Draft, ids: array[int], index: HashIndex) -> None:
        """Place a turn, or hold it until the turn that it continues has been read."""
        ready = [(draft, ids, index)]
        while ready:
            draft, ids, index = ready.pop()
            unread = next((link.target for link in draft.links if not self._is_placed(link, draft)), None)
            if unread is not None:
                self._held.setdefault(unread, []).append((draft, ids, index))
                continue
            draft.placed = index.place(ids, draft.prompt, draft.output, self._previous(draft))
            ready += self._held.pop(draft.id, [])

    def _is_placed(self, link: Link, draft: Draft) -> bool:
        before = self._by_id.get(link.target)
        return before is not None and (before.placed is not None or before.session != draft.session)

    def _previous(self, draft: Draft) -> Placed | None:
        """The latest turn of the same session that this one waits for."""
        known = (self._by_id.get(link.target) for link in reversed(draft.links))
        return next((before.placed for before in known if before and before.session == draft.session), None)

    def _stated_path(self, row: Row, draft: Draft) -> Path:
        path: list[tuple[Segment, int]] = []
        position, parent = 0, None
        for number, end in row.pairs("content"):
            segment = self._segments.setdefault(number, Segment(position, parent))
            if segment.start != position or segment.parent is not parent:
                raise row.error(f"content enters segment {number} at another place than an earlier turn did")
            if end <= position:
                raise row.error(f"content ends in segment {number} at {end}, not after {position}")
            path.append((segment, end))
            position, parent = end, segment
        if position != draft.prompt + draft.output:
            raise row.error(f"content ends at {position}, not at input_length + output_length")
        return tuple(path) if self._options.reuse_output else detached(tuple(path), draft.prompt)


def read_hash_ids(row: Row, prompt: int, size: int) -> array[int]:
    """The ids of a prompt's blocks: all full ones, and possibly the partial one."""
    full, blocks = prompt // size, -(-prompt // size)
    runs, ids = row.pairs("hash_runs"), row.ids("hash_ids")
    count = sum(length for _, length in runs) if runs else len(ids)
    if count not in (full, blocks) or any(length < 1 for _, length in runs):
        raise row.error(
            f"{count} hash ids do not fit input_length {prompt}, which is {blocks} blocks of {size} tokens"
        )
    if runs:
        ids = array("q")
    for first, length in runs:
        ids.extend(range(first, first + length))
    return ids


def _links(row: Row) -> list[Link]:
    if "dependencies" in row:
        if "wait_for" in row:
            raise row.error("a row has either dependencies (v2) or wait_for (v1), not both")
        return [_link(entry) for entry in row.rows("dependencies")]
    targets = row.texts("wait_for")
    if len(set(targets)) < len(targets):
        raise row.error("wait_for names a turn twice")
    delay, tools, gap = row.ms_or_none("delay"), row.ms_or_none("tool_wait_ms"), row.ms_or_none("gap_ms")
    if delay is None and tools is None and gap is not None and targets:
        return [Link(targets[0], "dispatch", gap, 0), *(Link(target, tools_ps=0) for target in targets)]
    return [Link(target, "completion", delay or 0, tools) for target in targets]


def _link(entry: Row) -> Link:
    trigger: Trigger = "dispatch" if _is_dispatch(entry) else "completion"
    wait, tools = entry.ms_or_none("delay_ms") or 0, entry.ms_or_none("tools_ms")
    if tools is not None and tools > wait:
        raise entry.error("tools_ms is the part of delay_ms that is tool time, but it is longer")
    link = Link(entry.text("request_id"), trigger, wait - (tools or 0), tools)
    match entry.choice("relation", "", ("sequence", "spawn", "join", "")):
        case "sequence":
            link.relation = "sequence"
        case "spawn":
            link.relation = "spawn"
        case "join":
            link.relation = "join"
    return link


def _is_dispatch(entry: Row) -> bool:
    return entry.choice("trigger", "completion", ("dispatch", "completion")) == "dispatch"


def _tools(row: Row) -> Iterable[ToolCall]:
    """Tool calls; of one that began before the reply ended, only the rest after that end counts."""
    for call in row.rows("tool_calls"):
        name = call.text_or_none("tool_class") or call.text_or_none("name") or "tool"
        duration, offset = call.ms_or_none("duration_ms"), call.offset_ps("offset_ms")
        if duration is not None:
            duration = max(0, duration + min(0, offset))
        yield ToolCall(name, duration, max(0, offset))
    if "tool_calls" not in row:
        for event in row.rows("tool_events"):
            yield ToolCall(event.text_or_none("tool_class") or "tool", event.ms_or_none("duration_ms"))


def _name_programs(drafts: list[Draft], by_id: dict[str, Draft], parents: dict[str, str]) -> None:
    """Where rows name no program: sessions that are linked or wait for each other are one."""
    if all(draft.program for draft in drafts):
        return
    root = {draft.session: draft.session for draft in drafts}

    def find(session: str) -> str:
        while root[session] != session:
            root[session] = session = root[root[session]]
        return session

    def join(one: str, other: str) -> None:
        first, second = find(one), find(other)
        root[second] = first

    for child, parent in parents.items():
        if parent in root:
            join(parent, child)
    for draft in drafts:
        for link in draft.links:
            if link.target in by_id:
                join(by_id[link.target].session, draft.session)
    for draft in drafts:
        if not draft.program:
            draft.program = find(draft.session)

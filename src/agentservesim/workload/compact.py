"""The compact form, to write by hand: one program a line, times in seconds.

A program has `turns`, and optionally `program_id`, `arrival_s`, `kind`, `tenant` and `shared_prefix`: the
tokens of a system prompt that all programs of the file begin with, or `{"group": name, "tokens": n}` where
there are several. A turn has `new_tokens`, `output_tokens`, and optionally

* `id`, `trigger` (user, tool, ...), `priority`, `tools`: `[{"name", "duration_s", "offset_s"}]`; a call
  without a duration is left to the Tool Simulator;
* `delay_s`: think time before the turn, beside the tool calls of the turn before it;
* `session`: a sub-agent's own chain of turns; without it a turn belongs to the program's main session;
* `after`: ids of turns to wait for beside the one before it in its session, or
  `{"turn", "trigger": "dispatch", "delay_s"}`. A sub-agent's first turn waits for these, or for the turn
  above it;
* `keep_tokens`: the context is cut to this many leading tokens before `new_tokens` are added (0: a reset);
* `fork`: a sub-agent's first turn begins with the whole context of the turn it waits for;
* `hints`: what the agent framework tells the server with the turn (see `workload.hints`).

A prompt is the prompt before it, its reply and `new_tokens`.
"""

from __future__ import annotations

from collections.abc import Iterator

from agentservesim.lookup import did_you_mean
from agentservesim.model import ToolCall, Trigger, Workload
from agentservesim.workload.assemble import assemble
from agentservesim.workload.content import ContentTree
from agentservesim.workload.drafts import Draft, Link
from agentservesim.workload.hints import read_hints
from agentservesim.workload.options import ReadOptions
from agentservesim.workload.rows import MOST_TOKENS, Row

PROGRAM_FIELDS = frozenset({"program_id", "arrival_s", "kind", "tenant", "shared_prefix", "turns"})
TURN_FIELDS = frozenset(
    {"id", "session", "new_tokens", "output_tokens", "tools", "delay_s", "trigger", "priority", "after"}
    | {"keep_tokens", "fork", "hints"}
)
TOOL_FIELDS = frozenset({"name", "duration_s", "offset_s"})
AFTER_FIELDS = frozenset({"turn", "trigger", "delay_s"})


def read_compact(rows: Iterator[Row], file: str, options: ReadOptions) -> Workload:
    """Read compact programs. Raises InputError at the first line that is wrong."""
    drafts: list[Draft] = []
    for number, row in enumerate(rows):
        row.check_names(PROGRAM_FIELDS, strict=True)
        drafts += _Program(row, number, options.reuse_output).drafts()
    return assemble(drafts, file, ContentTree(), reuse_output=options.reuse_output)


class _Program:
    """One line: its turns become drafts in the order in which they stand."""

    def __init__(self, row: Row, number: int, reuse_output: bool) -> None:
        self._row = row
        self._reuse = reuse_output
        self._id = row.text_or_none("program_id") or f"p{number}"
        self._kind = row.text_or_none("kind") or ""
        self._tenant = row.text_or_none("tenant") or ""
        self._arrival_ps = row.seconds_or_none("arrival_s") or 0
        self._group, self._shared = _shared_prefix(row)
        self._named: dict[str, Draft] = {}
        self._last: dict[str, Draft] = {}
        self._drafts: list[Draft] = []

    def drafts(self) -> list[Draft]:
        turns = self._row.rows("turns")
        if not turns:
            raise self._row.error("turns is empty; a program has at least one turn")
        for number, turn in enumerate(turns):
            self._add(turn.within(f"turn {number + 1}"), number)
        return self._drafts

    def _add(self, turn: Row, number: int) -> None:
        turn.check_names(TURN_FIELDS, strict=True)
        name = turn.text_or_none("id") or str(number)
        session = turn.text_or_none("session")
        full_session = self._id if session is None else f"{self._id}/{session}"
        before = self._last.get(full_session)
        links = self._links(turn, before)
        draft = Draft(
            id=f"{self._id}:{name}",
            line=turn.line,
            program=self._id,
            session=full_session,
            prompt=turn.integer("new_tokens", low=1),
            output=turn.integer("output_tokens", low=1),
            links=links,
            arrival_ps=self._arrival_ps,
            start_ps=self._arrival_ps + (turn.seconds_or_none("delay_s") or 0) if not links else None,
            tools=tuple(_tool(call) for call in turn.rows("tools")),
            trigger=turn.text_or_none("trigger") or self._trigger(turn, session, before),
            priority=turn.integer_or("priority", 0, low=-(10**9)),
            group=self._group,
            kind=self._kind,
            tenant=self._tenant,
            child=session is not None,
            hints=read_hints(turn),
        )
        self._extend(turn, draft, before)
        if name in self._named:
            raise turn.error(f"id '{name}' is used twice in this program")
        self._named[name] = self._last[full_session] = draft
        self._drafts.append(draft)

    def _trigger(self, turn: Row, session: str | None, before: Draft | None) -> str:
        if before is None:
            return "user" if session is None else "spawn"
        return "tool" if before.tools else "user" if "delay_s" in turn else "other"

    def _extend(self, turn: Row, draft: Draft, before: Draft | None) -> None:
        """Put what the prompt begins with before its new tokens."""
        kept = turn.integer_or_none("keep_tokens")
        if turn.flag("fork"):
            if before is not None or not draft.links:
                raise turn.error("fork is for the first turn of a sub-agent's session")
            parent = self._by_id(draft.links[0].target)
            draft.prompt += parent.prompt + parent.output
            draft.prefix = parent.prompt + (parent.output if self._reuse else 0)
        elif kept is not None:
            if before is None or kept > before.prompt + before.output:
                raise turn.error(f"keep_tokens is {kept}, more than the context before it has")
            draft.prompt += kept
            draft.prefix = kept if self._reuse else min(kept, before.prompt)
            draft.exact = True
        elif before is not None:
            draft.prompt += before.prompt + before.output
        elif not draft.child:
            draft.prompt += self._shared
            draft.shared = self._shared
        if draft.prompt + draft.output > MOST_TOKENS:
            raise turn.error(f"the context grows beyond {MOST_TOKENS} tokens")

    def _links(self, turn: Row, before: Draft | None) -> list[Link]:
        delay = turn.seconds_or_none("delay_s") or 0
        links = [] if before is None else [Link(before.id, delay_ps=delay)]
        after = turn.texts_or_rows("after")
        if before is None and not after and self._drafts:
            links.append(Link(self._drafts[-1].id, delay_ps=delay))
        for entry in after:
            if isinstance(entry, str):
                links.append(Link(self._target(turn, entry), delay_ps=delay))
                continue
            entry.check_names(AFTER_FIELDS, strict=True)
            word = entry.choice("trigger", "completion", ("dispatch", "completion"))
            trigger: Trigger = "dispatch" if word == "dispatch" else "completion"
            own = entry.seconds_or_none("delay_s")
            link = Link(self._target(entry, entry.text("turn")), trigger, delay if own is None else own)
            if trigger == "dispatch":
                link.tools_ps = 0
            links.append(link)
        return links

    def _target(self, row: Row, name: str) -> str:
        if name not in self._named:
            hint = did_you_mean(name, self._named)
            raise row.error(f"after names '{name}', which is no turn above this one{hint}")
        return self._named[name].id

    def _by_id(self, identity: str) -> Draft:
        return next(draft for draft in self._drafts if draft.id == identity)


def _shared_prefix(row: Row) -> tuple[str | None, int]:
    if not isinstance(row.raw("shared_prefix"), dict):
        return "", row.integer_or("shared_prefix", 0)
    shared = row.nested("shared_prefix")
    shared.check_names(frozenset({"group", "tokens"}), strict=True)
    return shared.text("group"), shared.integer("tokens", low=0)


def _tool(call: Row) -> ToolCall:
    call.check_names(TOOL_FIELDS, strict=True)
    offset = call.seconds_or_none("offset_s") or 0
    return ToolCall(call.text_or_none("name") or "tool", call.seconds_or_none("duration_s"), offset)

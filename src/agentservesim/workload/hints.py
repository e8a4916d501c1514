"""Hints: what an agent framework tells the server with a turn, as optional fields of a trace.

`priority`, `strict_priority`, `osl` and `speculative_prefill` are NVIDIA Dynamo's `agent_hints` (its
documents, versions 1.2 to 1.6), in their own units; the others are what published policies ask for. A server
may believe them or not: they are the client's words, whatever the trace does.
"""

from __future__ import annotations

from collections import Counter

from agentservesim.model import Workload
from agentservesim.workload.rows import Row

HINTS: dict[str, str] = {
    "priority": "how urgent the turn is, higher first (Dynamo; the turn's own is vLLM's, lowest first)",
    "strict_priority": "tier of the queue, higher first, before any other order (Dynamo)",
    "osl": "tokens that the reply is expected to have (Dynamo)",
    "speculative_prefill": "whether to prefill the next prompt's beginning when the turn is done (Dynamo)",
    "gap_s": "seconds that the tool calls after the turn are expected to take",
    "deadline_s": "seconds after its arrival by which the program should be done",
    "workflow": "which agents run after which: {agent: {after: [agents], join: all or any}}",
}
"""Hints that are known, and what they say. Others are kept as they are, for policies that know them."""


def read_hints(row: Row) -> dict[str, object] | None:
    """The hints of a turn as they stand in the file, or None. Raises InputError if a known one is wrong."""
    hints = row.mapping_or_none("hints")
    if hints is None:
        return None
    inner = row.nested("hints")
    inner.check_names(frozenset(HINTS))
    for name in ("priority", "strict_priority"):
        inner.integer_or(name, 0, low=-(10**9), high=10**9)
    inner.integer_or_none("osl", low=1)
    inner.flag("speculative_prefill")
    inner.seconds_or_none("gap_s")
    inner.seconds_or_none("deadline_s")
    if "workflow" in inner:
        _check_workflow(inner.nested("workflow"))
    return hints


def count_hints(workload: Workload) -> Counter[str]:
    """How many turns have each hint; `tools`: names of tool calls, `tenant`: a tenant, `priority`: the hint
    or, other than 0, the turn's own."""
    seen: Counter[str] = Counter()
    for program in workload.programs:
        for turn in program.turns:
            seen.update({*(turn.hints or ()), *(("priority",) if turn.priority else ())})
            seen["tools"] += bool(turn.tools)
            seen["tenant"] += bool(program.tenant)
    return seen


def _check_workflow(workflow: Row) -> None:
    """Each agent may have a list of agents that it waits for, and how."""
    for agent in sorted(workflow.keys()):
        node = workflow.nested(agent)
        node.check_names(frozenset({"after", "join"}), strict=True)
        node.texts("after")
        node.choice("join", "all", ("all", "any"))

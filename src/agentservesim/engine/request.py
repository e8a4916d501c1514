"""A turn inside an instance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from agentservesim.kv.pool import Holding
from agentservesim.model import Turn
from agentservesim.policies.protocols import ProgramView

if TYPE_CHECKING:
    from agentservesim.engine.rows import DecodeRows


NOTHING: Mapping[str, int] = {}
"""What most requests loaded from any tier."""


class Request:
    """A turn that an instance serves, with what the scheduler knows of it.

    Token counts: `known` tokens exist (the prompt, and what was generated before a preemption);
    `computed` of them are in the KV cache once the step scheduled last has run; `reached` is the most
    that was computed before a preemption; `total` is the length at which the request ends. While the
    request decodes in lockstep with others, in `rows`, `computed` is behind: it is `base` plus their clock.

    `program` and `critical_path_s` are for scheduling policies; `seen` is what these see of the request.
    `on_first_token(request)` is called, if set, when it is known when the first token will be out.
    """

    __slots__ = (
        "arrival_ps",
        "base",
        "cached_tokens",
        "cell",
        "computed",
        "critical_path_s",
        "finish_ps",
        "first_token_ps",
        "holding",
        "id",
        "instance",
        "known",
        "loaded_blocks",
        "on_first_token",
        "owner",
        "path",
        "place",
        "preemptions",
        "prefill_ps",
        "priority",
        "program",
        "prompt_tokens",
        "queue_ps",
        "reached",
        "recomputed_tokens",
        "requeue_ps",
        "rows",
        "running",
        "scheduled_ps",
        "seen",
        "session",
        "since_ps",
        "total",
        "transfer_ps",
        "turn",
    )

    def __init__(self, turn: Turn, arrival_ps: int, owner: object = None, program_id: str = "") -> None:
        self.turn = turn
        self.owner = owner
        self.session = (program_id, turn.session_id)
        self.program: ProgramView | None = None
        self.critical_path_s = 0.0
        self.seen: Any = None
        self.id = turn.id
        self.path = turn.path
        self.priority = turn.priority
        self.prompt_tokens = turn.prompt_tokens
        self.total = turn.prompt_tokens + turn.output_tokens
        self.arrival_ps = arrival_ps
        self.instance = -1
        self.known = turn.prompt_tokens
        self.computed = 0
        self.holding = Holding(turn.path)
        self.place = 0
        self.running = False
        self.rows: DecodeRows | None = None
        self.base = 0
        self.cell = 0
        self.preemptions = 0
        self.cached_tokens = 0
        self.reached = 0
        self.recomputed_tokens = 0
        self.scheduled_ps = -1
        self.first_token_ps = -1
        self.finish_ps = -1
        self.since_ps = arrival_ps
        self.queue_ps = 0
        self.requeue_ps = 0
        self.prefill_ps = 0
        self.transfer_ps = 0
        self.loaded_blocks = NOTHING
        self.on_first_token: Callable[[Request], None] | None = None

    def __repr__(self) -> str:
        return f"Request({self.id!r}, {self.computed}/{self.known} of {self.total} tokens)"

    @property
    def in_rows(self) -> bool:
        """Whether it decodes in lockstep with others."""
        return self.rows is not None

    @property
    def in_cache(self) -> int:
        """Tokens in the KV cache once the step scheduled last has run."""
        return self.computed if self.rows is None else self.rows.computed(self)

    def waited(self, now: int) -> int:
        """Its wait in the queue is over; returns how long it was."""
        wait_ps = now - self.since_ps
        self.queue_ps += wait_ps
        if self.preemptions:
            self.requeue_ps += wait_ps
        self.since_ps = now
        return wait_ps

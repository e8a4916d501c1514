"""Speculative prefill: the beginning of a session's next prompt is computed while its tools run.

NVIDIA Dynamo does it for turns with the hint `speculative_prefill`: when a reply is complete it sends the
conversation, with the reply as the next prompt will have it, as a request for one token.
"""

from __future__ import annotations

from agentservesim.engine.request import Request
from agentservesim.fleet.orchestrator import ProgramRun
from agentservesim.model import Path, Segment, Turn, first_tokens, shared_tokens

AHEAD = "ahead of "
"""What the session of such a request is called: this, and the session's own name."""


def look_ahead(run: ProgramRun, turn: Turn, now_ps: int) -> Request:
    """A request for what a server can know of the next prompt when a turn is done; nobody owns it."""
    known = _known(run, turn)
    tokens = known[-1][1]
    path = (*known, (Segment(tokens, known[-1][0]), tokens + 1))
    name = AHEAD + turn.session_id
    ahead = Turn(f"{AHEAD}{turn.id}", turn.index, name, tokens, 1, path, priority=turn.priority)
    return Request(ahead, now_ps, program_id=run.program.id)


def _known(run: ProgramRun, turn: Turn) -> Path:
    """The prompt and the reply, as that is sent back if it is; whatever else comes is not known."""
    after = run.next_turns.get(turn.index)
    if after is not None:
        coming = run.program.turns[after]
        if shared_tokens(turn.path, coming.path) >= turn.prompt_tokens:
            return first_tokens(coming.path, min(turn.total_tokens, coming.prompt_tokens))
    return turn.path

"""One scheduled step: what the scheduler decided and the instance carries out."""

from __future__ import annotations

from collections.abc import Sequence

from agentservesim.engine.request import Request
from agentservesim.engine.rows import DecodeRows

Requests = Sequence[Request]
NO_CHUNKS: list[tuple[int, int]] = []
NO_REQUESTS: list[Request] = []
"""What a step of decode rows alone has of each; never appended to."""


class Step:
    """One scheduled step.

    chunks: prefill rows (new tokens, history), and `prefills` whose they are. `first` are requests
    whose first token it yields, `ending` those whose last one, both in running order; `rows` are the decode
    rows that go on with it, where it was decided by one scheduler. It does not
    end before `load_ps`, when KV that comes in layer by layer under it is there.
    """

    __slots__ = (
        "chunks",
        "decode_rows",
        "duration_ps",
        "ending",
        "first",
        "first_layer_ps",
        "load_ps",
        "prefills",
        "rows",
        "start_ps",
    )

    def __init__(
        self, decode_rows: int = 0, start_ps: int = 0, duration_ps: int = 0, ending: Requests = ()
    ) -> None:
        self.chunks: list[tuple[int, int]] = NO_CHUNKS
        self.prefills: list[Request] = NO_REQUESTS
        self.rows: DecodeRows | None = None
        self.first: Requests = ()
        self.ending = ending
        self.decode_rows = decode_rows
        self.start_ps = start_ps
        self.duration_ps = duration_ps
        self.load_ps = 0
        self.first_layer_ps = 0

    @property
    def prefill_tokens(self) -> int:
        """Tokens of all prefill rows."""
        return sum(new for new, _ in self.chunks)

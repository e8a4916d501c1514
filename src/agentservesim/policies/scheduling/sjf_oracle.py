"""Shortest reply first, for who knows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from agentservesim.policies.protocols import Changes, OraclePolicy, RequestView


@dataclass
class SjfOracle(OraclePolicy):
    """An oracle: the turn with the fewest tokens of reply left first."""

    changes: ClassVar[Changes] = "never"

    def __post_init__(self) -> None:
        super().__init__()

    def key(self, request: RequestView, now_s: float) -> int:
        """Tokens of the reply that are still to come."""
        reply = self.replies[request.program.program_id][request.turn_index]
        return reply - request.generated_tokens

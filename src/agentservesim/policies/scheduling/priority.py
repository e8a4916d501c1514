"""vLLM's priority scheduling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from agentservesim.policies.protocols import Changes, RequestView


def priority_of(request: RequestView) -> int:
    """The hint's, negated, as the highest comes first there; without one the turn's own."""
    hint = request.hints.get("priority")
    return -hint if isinstance(hint, int) else request.priority


@dataclass
class Priority:
    """By the turn's priority, the lowest first, then by arrival, then by id: vLLM's `priority`.

    A turn whose client gave the hint `priority` (Dynamo's, highest first) has that one, negated.
    """

    changes: ClassVar[Changes] = "never"

    def key(self, request: RequestView, now_s: float) -> tuple[int, float, str]:
        """Priority, arrival, id."""
        return priority_of(request), request.arrival_s, request.id

    def victims(self, running: Sequence[RequestView], now_s: float) -> list[RequestView]:
        """The worst priority first; of those the one that arrived last, whatever its id."""
        return sorted(running, key=lambda request: (-priority_of(request), -request.arrival_s))

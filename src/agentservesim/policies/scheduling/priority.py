"""vLLM's priority scheduling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from agentservesim.policies.protocols import Changes, RequestView


@dataclass
class Priority:
    """By the turn's priority, the lowest first, then by arrival, then by id: vLLM's `priority`."""

    changes: ClassVar[Changes] = "never"

    def key(self, request: RequestView, now_s: float) -> tuple[int, float, str]:
        """Priority, arrival, id."""
        return request.priority, request.arrival_s, request.id

    def victims(self, running: Sequence[RequestView], now_s: float) -> list[RequestView]:
        """The worst priority first; of those the one that arrived last, whatever its id."""
        return sorted(running, key=lambda request: (-request.priority, -request.arrival_s))

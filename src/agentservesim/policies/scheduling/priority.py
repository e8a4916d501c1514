"""vLLM's priority scheduling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from agentservesim.policies.protocols import Changes, RequestView


def priority_of(request: RequestView) -> tuple[int, int]:
    """Tier and priority, the lowest first: the hints', negated, as the highest comes first there; without
    them 0 and the turn's own."""
    tier, hint = request.hints.get("strict_priority"), request.hints.get("priority")
    return -tier if isinstance(tier, int) else 0, -hint if isinstance(hint, int) else request.priority


@dataclass
class Priority:
    """By the turn's priority, the lowest first, then by arrival, then by id: vLLM's `priority`.

    A turn whose client gave the hint `priority` (Dynamo's, highest first) has that one, negated. Before that
    comes the hint `strict_priority`, the highest first, where there is one.
    """

    changes: ClassVar[Changes] = "never"
    wants: ClassVar[Mapping[str, str]] = {
        "priority": "this is first come, first served",
        "strict_priority": "all turns are in one tier",
    }

    def key(self, request: RequestView, now_s: float) -> tuple[tuple[int, int], float, str]:
        """Tier and priority, arrival, id."""
        return priority_of(request), request.arrival_s, request.id

    def victims(self, running: Sequence[RequestView], now_s: float) -> list[RequestView]:
        """The worst priority first; of those the one that arrived last, whatever its id."""
        return sorted(running, key=lambda request: (priority_of(request), request.arrival_s), reverse=True)

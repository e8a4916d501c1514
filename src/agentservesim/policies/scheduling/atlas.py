"""Autellix's ATLAS: the shortest critical path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from agentservesim.policies.protocols import Changes, RequestView


@dataclass
class Atlas:
    """By the longest chain of service that led to the turn, the shortest first (Autellix, arXiv 2502.13965).

    For programs whose turns run side by side; with one turn after the other it is plas. By notes that quote
    the paper and by code.
    """

    changes: ClassVar[Changes] = "never"

    def key(self, request: RequestView, now_s: float) -> float:
        """max over the turns it waited for of (their critical path + their service), in seconds."""
        return request.critical_path_s

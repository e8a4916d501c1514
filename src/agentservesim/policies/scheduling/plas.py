"""Autellix's PLAS: the program that was served least."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from agentservesim.policies.protocols import Changes, RequestView


@dataclass
class Plas:
    """By the service that the program's done turns had, the least first (Autellix, arXiv 2502.13965).

    By notes that quote the paper and by code. `rounded` takes it in whole milliseconds, as the released
    AgentServeSim does, so that more programs are equal and in order of arrival.
    """

    rounded: bool = False
    changes: ClassVar[Changes] = "program"

    def key(self, request: RequestView, now_s: float) -> float:
        """Sum of last token - first scheduled over the done turns, in seconds."""
        service_s = request.program.service_s
        return round(1000 * service_s) if self.rounded else service_s

"""First come, first served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from agentservesim.policies.protocols import Changes, RequestView


@dataclass
class Fcfs:
    """First come, first served; preempted requests come first: vLLM's default."""

    changes: ClassVar[Changes] = "never"

    def key(self, request: RequestView, now_s: float) -> int:
        """The same for all: equal keys are in the order of arrival."""
        return 0

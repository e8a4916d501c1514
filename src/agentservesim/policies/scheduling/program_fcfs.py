"""First program come, first served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from agentservesim.policies.protocols import Changes, RequestView


@dataclass
class ProgramFcfs:
    """By the arrival of the program: later turns of an old program go before those of a new one."""

    changes: ClassVar[Changes] = "never"

    def key(self, request: RequestView, now_s: float) -> float:
        """When the program arrived, in seconds."""
        return request.program.arrival_s

"""A scheduling policy that rations every prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from agentservesim.policies.protocols import Changes, RequestView


@dataclass
class Rationed:
    """First come, first served, in chunks of `tokens`."""

    tokens: int
    changes: ClassVar[Changes] = "never"

    def key(self, request: RequestView, now_s: float) -> int:
        return 0

    def budget(self, request: RequestView, now_s: float) -> int:
        return self.tokens

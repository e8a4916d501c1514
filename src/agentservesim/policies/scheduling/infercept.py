"""InferCept's queue: by original arrival."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import ClassVar

from agentservesim.policies.bounds import at_least
from agentservesim.policies.protocols import Changes, RequestView


@dataclass
class InferCeptQueue:
    """By the arrival of the program's first call; what is computed again may be rationed (arXiv 2402.01869).

    By notes that quote the paper, and by its code. An interception does not cost a program its place. The
    paper fills a step up to its saturation with recomputation: that is the engine's own token budget. The
    released code takes 128 tokens an iteration: `recompute_tokens`, here of each later turn or preempted
    request (0 is no limit).
    """

    recompute_tokens: int = 0
    changes: ClassVar[Changes] = "never"

    def __post_init__(self) -> None:
        at_least(self, 0, "recompute_tokens")

    def key(self, request: RequestView, now_s: float) -> float:
        """When the program arrived, in seconds."""
        return request.program.arrival_s

    @property
    def budget(self) -> Callable[[RequestView, float], float] | None:
        """The ration, for contexts that were there before; None where there is no limit."""
        return self._ration if self.recompute_tokens else None

    def _ration(self, request: RequestView, now_s: float) -> float:
        again = request.turn_index > 0 or request.preemptions > 0
        return self.recompute_tokens if again else inf

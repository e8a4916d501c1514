"""Highest response ratio next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import ClassVar

from agentservesim.policies.bounds import at_least
from agentservesim.policies.protocols import Changes, RequestView


@dataclass
class Hrrn:
    """The highest ratio of waiting to work first, work being the prompt tokens that are not cached.

    Highest response ratio next, (wait + work) / work, as SGLang's `hrrn` has it: at a constant rate of
    prefill the ratio grows with wait / uncached tokens. SGLang measures the wait in tokens prefilled
    meanwhile; here it is time. A request that has nothing to prefill is first; with more than `limit`
    waiting it is fcfs.
    """

    tick_s: float = 1.0
    limit: int = 128
    changes: ClassVar[Changes] = "time"
    _crowded: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        at_least(self, 0, "tick_s", "limit")

    def survey(self, waiting: Sequence[RequestView], now_s: float) -> None:
        """See whether there are too many to look them all up."""
        self._crowded = len(waiting) > self.limit

    def key(self, request: RequestView, now_s: float) -> float:
        """Minus the ratio."""
        if self._crowded:
            return 0.0
        work = request.prompt_tokens - request.cached_tokens
        return -request.waited_s / work if work > 0 else -inf

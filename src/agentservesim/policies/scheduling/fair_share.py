"""Weighted fair shares for tenants."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from agentservesim.policies.bounds import at_least
from agentservesim.policies.protocols import Changes, RequestView, SchedulerEvent, TurnFinished


@dataclass
class FairShare:
    """Start-time fair queueing of tenants, by tokens (Goyal, Vin and Cheng, SIGCOMM 1996; by own knowledge).

    Each tenant has a counter of what it was served, divided by its weight (`weights`: `gold:3/silver:1`, 1
    for those not named). A turn's key is its tenant's counter when it arrives, but no less than that of the
    latest turn that is done, so that an idle tenant saves nothing up. Prompt tokens that are not cached are
    counted at arrival, those of the reply, `reply_weight` times, when it is done. Programs without a tenant
    share one.
    """

    weights: str = ""
    reply_weight: float = 2.0
    changes: ClassVar[Changes] = "never"
    wants: ClassVar[Mapping[str, str]] = {"tenant": "all programs share one counter, which is fcfs"}
    _weights: dict[str, float] = field(default_factory=dict, init=False, repr=False)
    _counters: defaultdict[str, float] = field(
        default_factory=lambda: defaultdict(float), init=False, repr=False
    )
    _starts: dict[RequestView, float] = field(default_factory=dict, init=False, repr=False)
    _now: float = field(default=0.0, init=False, repr=False)

    def __post_init__(self) -> None:
        at_least(self, 0, "reply_weight")
        for part in self.weights.split("/") if self.weights else ():
            tenant, colon, weight = part.rpartition(":")
            if not colon or not weight.replace(".", "", 1).isdigit() or not float(weight) > 0:
                raise ValueError(f"weights must be tenant:number with slashes between, not '{self.weights}'")
            self._weights[tenant] = float(weight)

    def key(self, request: RequestView, now_s: float) -> float:
        """Its tenant's counter when it arrived."""
        if request not in self._starts:
            start = max(self._counters[request.program.tenant], self._now)
            self._starts[request] = self._counters[request.program.tenant] = start
            self._count(request, request.prompt_tokens - request.cached_tokens)
        return self._starts[request]

    def observe(self, event: SchedulerEvent) -> None:
        """Count the reply."""
        if isinstance(event, TurnFinished):
            self._now = max(self._now, self._starts.pop(event.request))
            self._count(event.request, self.reply_weight * event.request.generated_tokens)

    def _count(self, request: RequestView, tokens: float) -> None:
        tenant = request.program.tenant
        self._counters[tenant] += tokens / self._weights.get(tenant, 1.0)

"""A token bucket for each tenant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from agentservesim.policies.bounds import above, at_least
from agentservesim.policies.protocols import ADMIT, Admit, FleetView, Hold, ProgramView, TurnView

SLACK_S = 1e-9
"""A turn is due a nanosecond early: seconds are floats."""


@dataclass
class TokenBucket:
    """Each tenant may send so many prompt tokens a second, and a burst; what is beyond waits its turn.

    The bucket of providers' rate limits, by own knowledge: it holds `burst` tokens, fills with
    `tokens_per_s`, and a turn takes its prompt's length out of it. The turn is let in when the bucket is no
    longer below 0, so that one larger than the bucket passes too; a tenant's turns pass in the order in which
    they became ready. Programs without a tenant share one bucket.
    """

    tokens_per_s: float = 10_000.0
    burst: float = 500_000.0
    wants: ClassVar[Mapping[str, str]] = {"tenant": "all programs share one bucket"}
    _buckets: dict[str, tuple[float, float]] = field(default_factory=dict, init=False, repr=False)
    _due_s: dict[tuple[str, int], float] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        above(self, 0, "tokens_per_s")
        at_least(self, 0, "burst")

    def admit(self, program: ProgramView, turn: TurnView, fleet: FleetView) -> Admit | Hold:
        """Take the prompt out of the bucket, once; wait until the bucket has made up for it."""
        key, now_s = (program.program_id, turn.turn_index), fleet.now_s
        if key not in self._due_s:
            level, since_s = self._buckets.get(program.tenant, (self.burst, now_s))
            level = min(level + (now_s - since_s) * self.tokens_per_s, self.burst) - turn.prompt_tokens
            self._buckets[program.tenant] = level, now_s
            self._due_s[key] = now_s + max(-level, 0.0) / self.tokens_per_s
        if self._due_s[key] > now_s + SLACK_S:
            return Hold(until_s=self._due_s[key])
        del self._due_s[key]
        return ADMIT

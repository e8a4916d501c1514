"""CONCUR: the number of active agents follows the cache, as TCP's window follows the network."""

from __future__ import annotations

from dataclasses import dataclass

from agentservesim.policies.bounds import above, at_least, share
from agentservesim.policies.protocols import (
    ADMIT,
    AdmissionEvent,
    Admit,
    FleetView,
    Hold,
    ProgramEnded,
    ProgramView,
    TurnEnded,
    TurnView,
)


@dataclass
class Concur:
    """CONCUR: AIMD on the number of active programs, by KV usage and prefix hit rate.

    Source: arXiv 2601.22705, by notes that quote the paper. Every `tick_s` (ours): usage below `low` adds
    `increase` to the window, usage above `high` at a hit rate below `hits` multiplies it by `decrease`.
    A program has a place in the window until it ends, or until the window has become smaller than the
    places taken and its next turn is ready: then it waits in line again.
    """

    first: float = 1.0
    increase: float = 2.0
    decrease: float = 0.5
    low: float = 0.2
    high: float = 0.5
    hits: float = 0.2
    tick_s: float = 1.0

    def __post_init__(self) -> None:
        above(self, 0, "tick_s")
        at_least(self, 1, "first")
        above(self, 0, "increase", "decrease")
        share(self, "decrease", "low", "high", "hits")
        self.window = self.first
        self._places: set[str] = set()
        self._prompts = self._cached = 0

    def admit(self, program: ProgramView, turn: TurnView, fleet: FleetView) -> Admit | Hold:
        """Let in who has a place or finds one free."""
        self._places &= fleet.programs.keys()
        if len(self._places) > int(self.window):
            self._places.discard(program.program_id)
        if program.program_id in self._places or len(self._places) < int(self.window):
            self._places.add(program.program_id)
            return ADMIT
        return Hold(blocks=True)

    def observe(self, event: AdmissionEvent) -> None:
        """Count hits."""
        if isinstance(event, TurnEnded):
            self._prompts += event.prompt_tokens
            self._cached += event.cached_tokens
        elif isinstance(event, ProgramEnded):
            self._places.discard(event.program_id)

    def review(self, fleet: FleetView) -> None:
        """One step of additive increase, multiplicative decrease."""
        blocks = sum(instance.num_blocks for instance in fleet.instances)
        usage = (blocks - sum(instance.free_blocks for instance in fleet.instances)) / blocks
        hit_rate = self._cached / self._prompts if self._prompts else 1.0
        self._prompts = self._cached = 0
        if usage < self.low:
            self.window += self.increase
        elif usage > self.high and hit_rate < self.hits:
            self.window = max(self.window * self.decrease, 1.0)

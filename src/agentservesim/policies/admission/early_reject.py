"""Early rejection: who would wait too long is not let in."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import fsum

from agentservesim.policies.bounds import at_least
from agentservesim.policies.protocols import (
    ADMIT,
    AdmissionEvent,
    Admit,
    FleetView,
    Prefilled,
    ProgramView,
    Reject,
    TurnView,
)


@dataclass
class EarlyReject:
    """Rejects a program whose first turn would not have its first token within `ttft_s`.

    After Mooncake's early rejection (its documents were read), which judges every request by the instance
    that was chosen for it; here it is the program's first turn, before an instance is chosen: programs under
    way are not thrown away. Estimated is the prefill that was let in and has no first token yet, spread over
    the instances, and the turn's own on the instance that is quickest with it.
    """

    ttft_s: float = 10.0
    _under_way_s: dict[tuple[str, int], float] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        at_least(self, 0, "ttft_s")

    def admit(self, program: ProgramView, turn: TurnView, fleet: FleetView) -> Admit | Reject:
        """Let in, unless it is new and late."""
        hits = [instance.hit_tokens(turn.path) for instance in fleet.instances]
        own_s = min(
            instance.prefill_s(turn.prompt_tokens - hit, hit)
            for instance, hit in zip(fleet.instances, hits, strict=True)
        )
        wait_s = fsum(self._under_way_s.values()) / len(hits)
        if program.program_id not in fleet.programs and wait_s + own_s > self.ttft_s:
            return Reject(f"first token in {wait_s + own_s:.3g} s")
        self._under_way_s[program.program_id, turn.turn_index] = own_s
        return ADMIT

    def observe(self, event: AdmissionEvent) -> None:
        """A prompt has been computed."""
        if isinstance(event, Prefilled):
            self._under_way_s.pop((event.turn.program_id, event.turn.turn_index), None)

"""So many programs at once."""

from __future__ import annotations

from dataclasses import dataclass

from agentservesim.policies.bounds import at_least
from agentservesim.policies.protocols import ADMIT, Admit, FleetView, Hold, ProgramView, TurnView


@dataclass
class MaxPrograms:
    """At most `limit` programs at once, first come, first served; one that was let in stays until its end."""

    limit: int = 64

    def __post_init__(self) -> None:
        at_least(self, 1, "limit")

    def admit(self, program: ProgramView, turn: TurnView, fleet: FleetView) -> Admit | Hold:
        """Let in the turns of those who are in, and newcomers while there is room."""
        if program.program_id in fleet.programs or len(fleet.programs) < self.limit:
            return ADMIT
        return Hold(blocks=True)

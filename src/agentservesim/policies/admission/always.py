"""Everything is let in."""

from __future__ import annotations

from dataclasses import dataclass

from agentservesim.policies.protocols import ADMIT, Admit, FleetView, ProgramView, TurnView


@dataclass
class Always:
    """Every turn is let in when it is ready."""

    def admit(self, program: ProgramView, turn: TurnView, fleet: FleetView) -> Admit:
        """Let it in."""
        return ADMIT

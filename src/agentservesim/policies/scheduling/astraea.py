"""Astraea: highest response ratio next, by the phase that a program is in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from agentservesim.policies.bounds import at_least
from agentservesim.policies.protocols import Changes, RequestView


@dataclass
class Astraea:
    """Programs that mostly wait for their tools first; among equals the highest response ratio (2512.14142).

    From notes only: Astraea classes calls by whether their program is bound by I/O or by computation, and
    takes the highest response ratio next in each class. How it classes and predicts was not read. Here a
    program is I/O-bound while its gaps so far are longer than its turns; a call's work is the program's mean
    service per turn, or what 1 second a turn comes to before the first is done.
    """

    tick_s: float = 1.0
    unseen_s: float = 1.0
    changes: ClassVar[Changes] = "time"

    def __post_init__(self) -> None:
        at_least(self, 0, "tick_s", "unseen_s")

    def key(self, request: RequestView, now_s: float) -> tuple[bool, float]:
        """Class, and minus (wait + work) / work."""
        program = request.program
        compute_bound = program.acting_s <= program.reasoning_s
        work_s = program.service_s / program.turns_done if program.turns_done else self.unseen_s
        return compute_bound, -(request.waited_s + work_s) / max(work_s, 1e-9)

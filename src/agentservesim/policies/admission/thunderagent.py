"""ThunderAgent: where the contexts of all programs no longer fit, whole programs are paused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from agentservesim.model import InputError
from agentservesim.policies.admission.seats import Seat, Seats
from agentservesim.policies.bounds import above, at_least
from agentservesim.policies.protocols import (
    ADMIT,
    AdmissionEvent,
    Admit,
    FleetView,
    Hold,
    InstanceView,
    ProgramEnded,
    ProgramView,
    TurnEnded,
    TurnView,
)


@dataclass
class ThunderAgent:
    """ThunderAgent: pauses programs where an instance thrashes, restores them where there is most room.

    Source: arXiv 2602.13692 and its code (both read). It admits and routes. An instance thrashes if the
    contexts of its programs, and `buffer` tokens for each, exceed its pool; a gap of t seconds counts
    2^(-decay t) of its program's context (the paper has decay 1, the code's default is 0). See
    docs/policies/thunderagent.md for the order in which programs are paused and restored.
    """

    tick_s: float = 5.0
    buffer: int = 100
    decay: float = 1.0
    patience_s: float = 1800.0

    together: ClassVar[tuple[str, ...]] = ("admission", "router")

    def __post_init__(self) -> None:
        above(self, 0, "tick_s")
        at_least(self, 0, "buffer", "decay", "patience_s")
        self._seats = Seats(self.buffer, self.decay)

    def admit(self, program: ProgramView, turn: TurnView, fleet: FleetView) -> Admit | Hold:
        """Let in who has an instance; one that is new gets it if nobody waits and there is room."""
        seat = self._seats.setdefault(program.program_id, Seat())
        seat.tokens, seat.gap_s = turn.prompt_tokens, None
        if seat.home is None:
            seat.held_s = fleet.now_s if seat.held_s is None else seat.held_s
            patient = fleet.now_s < seat.held_s + self.patience_s
            first = seat.new and all(o.home is not None or o is seat for o in self._seats.values())
            if patient and not (first and self._seats.fits(seat, self._seats.rooms(fleet))):
                return Hold(until_s=seat.held_s + self.patience_s)
            self._seats.restore(seat, self._seats.rooms(fleet))
        seat.held_s, seat.new = None, False
        return ADMIT

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> int:
        """The program's instance."""
        home = self._seats.get(turn.program_id, Seat()).home
        if home is None:
            raise InputError("router 'thunderagent' goes with admission 'thunderagent' and its parameters")
        return home

    def observe(self, event: AdmissionEvent) -> None:
        """Note contexts and gaps; pause who is marked."""
        if isinstance(event, ProgramEnded):
            self._seats.pop(event.program_id, None)
        elif isinstance(event, TurnEnded):
            seat = self._seats[event.program.program_id]
            seat.tokens, seat.gap_s = event.prompt_tokens + event.output_tokens, event.program.gap_started_s
            seat.leave()

    def review(self, fleet: FleetView) -> None:
        """Pause until every instance fits, then restore what fits."""
        for index, room in enumerate(self._seats.rooms(fleet)):
            here = [seat for seat in self._seats.values() if seat.home == index]
            room += sum(self._seats.share(seat, fleet.now_s) for seat in here if seat.marked)
            for seat in sorted(here, key=lambda s: (s.gap_s is None, s.tokens)):
                if room < 0 and not seat.marked:
                    room += self._seats.share(seat, fleet.now_s)
                    seat.marked = True
                    seat.leave()
        rooms = self._seats.rooms(fleet)
        paused = [seat for seat in self._seats.values() if seat.home is None]
        for seat in sorted(paused, key=lambda s: (s.held_s is None, s.new, s.tokens)):
            if self._seats.fits(seat, rooms):
                self._seats.restore(seat, rooms)

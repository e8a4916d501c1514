"""ThunderAgent: where the contexts of all programs no longer fit, whole programs are paused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from agentservesim.model import InputError
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


@dataclass(slots=True)
class Seat:
    """A program: its context, its instance (None: paused since `paused_s`), and since when it is in a gap.

    new: no turn was let in so far. waits: a turn is held. marked: it is paused when its turn ends.
    """

    paused_s: float
    tokens: int = 0
    home: int | None = None
    gap_s: float | None = None
    new: bool = True
    waits: bool = False
    marked: bool = False


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
    decay: float = 0.0
    patience_s: float = 1800.0
    _seats: dict[str, Seat] = field(default_factory=dict, init=False, repr=False)

    def admit(self, program: ProgramView, turn: TurnView, fleet: FleetView) -> Admit | Hold:
        """Let in who has an instance; one that is new gets it if nobody waits and there is room."""
        seat = self._seats.setdefault(program.program_id, Seat(fleet.now_s))
        seat.tokens, seat.gap_s = turn.prompt_tokens, None
        if seat.home is None:
            rooms = self._rooms(fleet)
            alone = all(other.home is not None or other is seat for other in self._seats.values())
            fits = seat.tokens + self.buffer <= max(rooms)
            if (alone and seat.new and fits) or fleet.now_s >= seat.paused_s + self.patience_s:
                self._restore(seat, rooms)
        seat.waits = seat.home is None
        seat.new = seat.new and seat.waits
        return Hold(until_s=seat.paused_s + self.patience_s) if seat.waits else ADMIT

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> int:
        """The program's instance."""
        seat = self._seats.get(turn.program_id)
        if seat is None or seat.home is None:
            raise InputError(
                "router 'thunderagent' goes with admission 'thunderagent' of the same parameters"
            )
        return seat.home

    def observe(self, event: AdmissionEvent) -> None:
        """Note contexts and gaps; pause who is marked."""
        if isinstance(event, ProgramEnded):
            self._seats.pop(event.program_id, None)
        elif isinstance(event, TurnEnded):
            seat = self._seats[event.program.program_id]
            seat.tokens, seat.gap_s = event.prompt_tokens + event.output_tokens, event.program.gap_started_s
            if seat.marked and seat.gap_s is not None:
                self._pause(seat, seat.gap_s)

    def review(self, fleet: FleetView) -> None:
        """Pause until every instance fits, then restore what fits."""
        for index, room in enumerate(self._rooms(fleet)):
            here = [seat for seat in self._seats.values() if seat.home == index]
            room += sum(self._share(seat, fleet.now_s) for seat in here if seat.marked)
            for seat in sorted(here, key=lambda s: (s.gap_s is None, s.tokens)):
                if room < 0 and not seat.marked:
                    room += self._share(seat, fleet.now_s)
                    seat.marked = True
                    if seat.gap_s is not None:
                        self._pause(seat, fleet.now_s)
        rooms = self._rooms(fleet)
        paused = [seat for seat in self._seats.values() if seat.home is None]
        for seat in sorted(paused, key=lambda s: (not s.waits, s.new, s.tokens)):
            if seat.tokens + self.buffer <= max(rooms):
                self._restore(seat, rooms)

    def _share(self, seat: Seat, now_s: float) -> float:
        """What a program counts against its instance, in tokens."""
        weight = 1.0 if seat.gap_s is None else 2 ** (-self.decay * (now_s - seat.gap_s))
        return seat.tokens * weight + self.buffer

    def _rooms(self, fleet: FleetView) -> list[float]:
        """Tokens left in each instance."""
        rooms = [float(instance.num_blocks * instance.block_size) for instance in fleet.instances]
        for seat in self._seats.values():
            if seat.home is not None:
                rooms[seat.home] -= self._share(seat, fleet.now_s)
        return rooms

    def _pause(self, seat: Seat, now_s: float) -> None:
        seat.home, seat.marked, seat.paused_s = None, False, now_s

    def _restore(self, seat: Seat, rooms: list[float]) -> None:
        seat.home = rooms.index(max(rooms))
        rooms[seat.home] -= seat.tokens + self.buffer

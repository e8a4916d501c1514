"""Who is where: programs, their contexts, and the room that they leave in each instance."""

from __future__ import annotations

from dataclasses import dataclass

from agentservesim.policies.protocols import FleetView


@dataclass(slots=True)
class Seat:
    """A program: its context, its instance (None: it is paused), and since when it is in a gap.

    held_s: since when a turn is held, if one is. new: no turn was let in so far. marked: it is paused when
    its turn ends.
    """

    tokens: int = 0
    home: int | None = None
    gap_s: float | None = None
    held_s: float | None = None
    new: bool = True
    marked: bool = False

    def leave(self) -> None:
        """If it is marked and in a gap, it belongs nowhere from now on."""
        if self.marked and self.gap_s is not None:
            self.home, self.marked = None, False


class Seats(dict[str, Seat]):
    """Seats by program. Each counts `buffer` tokens, and 2^(-decay t) of its context after t s of gap."""

    def __init__(self, buffer: int, decay: float) -> None:
        self._buffer = buffer
        self._decay = decay

    def share(self, seat: Seat, now_s: float) -> float:
        """What a program counts against its instance, in tokens."""
        weight = 1.0 if seat.gap_s is None else 2 ** (-self._decay * (now_s - seat.gap_s))
        return seat.tokens * weight + self._buffer

    def rooms(self, fleet: FleetView) -> list[float]:
        """Tokens left in each instance; negative where there are too many."""
        rooms = [float(instance.num_blocks * instance.block_size) for instance in fleet.instances]
        now_s = fleet.now_s
        for seat in self.values():
            if seat.home is not None:
                rooms[seat.home] -= self.share(seat, now_s)
        return rooms

    def fits(self, seat: Seat, rooms: list[float]) -> bool:
        """Whether the roomiest instance has room for it."""
        return seat.tokens + self._buffer <= max(rooms)

    def restore(self, seat: Seat, rooms: list[float]) -> None:
        """It belongs to the roomiest instance from now on."""
        seat.home = rooms.index(max(rooms))
        rooms[seat.home] -= seat.tokens + self._buffer

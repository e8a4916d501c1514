"""What a router writes down itself: turns it sent, until it hears of their first and last tokens."""

from __future__ import annotations

from dataclasses import dataclass, field

from agentservesim.policies.protocols import Replied, RouterEvent, TurnView

Key = tuple[str, int]


@dataclass(slots=True)
class Entry:
    """A turn under way; `prefill` is what is counted of it until its first token, `held` until its last."""

    index: int
    prefill: float
    held: float


@dataclass
class Books:
    """Per instance: turns under way, and sums of two figures that the router chooses for each of them."""

    instances: int
    loads: list[int] = field(init=False)
    prefill: list[float] = field(init=False)
    held: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.loads = [0] * self.instances
        self.prefill = [0] * self.instances
        self.held = [0] * self.instances
        self._entries: dict[Key, Entry] = {}

    def sent(self, turn: TurnView, index: int, prefill: float = 0, held: float = 0) -> None:
        """A turn was sent to an instance."""
        self._entries[turn.program_id, turn.turn_index] = Entry(index, prefill, held)
        self.loads[index] += 1
        self.prefill[index] += prefill
        self.held[index] += held

    def observe(self, event: RouterEvent) -> None:
        """A first or a last token."""
        key = event.turn.program_id, event.turn.turn_index
        entry = self._entries.get(key)
        if entry is None:
            return
        self.prefill[entry.index] -= entry.prefill
        entry.prefill = 0
        if isinstance(event, Replied):
            del self._entries[key]
            self.loads[entry.index] -= 1
            self.held[entry.index] -= entry.held

"""What a router sees and decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable


class TurnView(NamedTuple):
    """A turn that is about to be sent. `home` is the instance of its session's last turn, or of the
    program's where the session is new, or None."""

    program_id: str
    session_id: str
    turn_index: int
    prompt_tokens: int
    priority: int
    home: int | None


class InstanceView(Protocol):
    """An instance as its load balancer sees it."""

    @property
    def index(self) -> int:
        """Its number in the fleet."""

    @property
    def load(self) -> int:
        """Turns sent to it whose last token is still to come."""

    @property
    def running(self) -> int:
        """Requests in its running batch."""

    @property
    def waiting(self) -> int:
        """Requests in its waiting queue."""

    @property
    def num_blocks(self) -> int:
        """KV blocks of its pool that can hold tokens."""

    @property
    def free_blocks(self) -> int:
        """KV blocks that no running request holds (vLLM counts cached ones as free)."""


@runtime_checkable
class Router(Protocol):
    """Chooses the instance of each turn."""

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> int:
        """The index of the instance that is to serve the turn."""

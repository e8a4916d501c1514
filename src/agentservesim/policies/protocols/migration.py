"""What a router may ask of programs that are placed already."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Move:
    """A session goes on at another instance.

    A session in its gap leaves at once, and so does a turn that has waited and never run; any other turn
    ends where it is, and the session's next one goes. transfer: its KV is sent over the network and freed
    where it was, rather than computed again.
    """

    program_id: str
    session_id: str
    instance: int
    transfer: bool = True


@dataclass(frozen=True, slots=True)
class Replicate:
    """A session's KV is sent over the network to one more instance; the session stays where it is."""

    program_id: str
    session_id: str
    instance: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Turns of a program that become ready are held; those that were sent go on to their end."""

    program_id: str


@dataclass(frozen=True, slots=True)
class Restore:
    """A paused program goes on; with `instance`, its held turns go there."""

    program_id: str
    instance: int | None = None


Migration = Move | Replicate | Pause | Restore

"""What a server can know of a program, for policies of every family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol


class ProgramView(Protocol):
    """A program as its servers know it by now; nothing in it says what is to come."""

    @property
    def program_id(self) -> str:
        """Its id."""

    @property
    def tenant(self) -> str:
        """Whose program it is; "" if that is unknown."""

    @property
    def arrival_s(self) -> float:
        """When it arrived."""

    @property
    def turns_done(self) -> int:
        """Turns whose last token is with the client."""

    @property
    def running_turns(self) -> int:
        """Turns that were sent and are not done."""

    @property
    def context_tokens(self) -> int:
        """Prompt, and reply if it is done, of the latest turn of each of its sessions, summed."""

    @property
    def service_s(self) -> float:
        """Attained service: over its done turns, the sum of last token - first scheduled."""

    @property
    def wait_s(self) -> float:
        """Time its done turns spent in waiting queues."""

    @property
    def home(self) -> int | None:
        """The instance its latest turn was sent to."""

    @property
    def in_gap(self) -> bool:
        """Whether it has no turn at the servers."""

    @property
    def gap_started_s(self) -> float | None:
        """Since when it is in its gap; None if it is in none."""

    @property
    def tools(self) -> tuple[str, ...]:
        """Tools that run in the present gap."""

    @property
    def past_gaps_s(self) -> tuple[float, ...]:
        """Its gaps so far, oldest first."""

    @property
    def reasoning_s(self) -> float:
        """Time with a turn at the servers, up to the end of the latest such stretch."""

    @property
    def acting_s(self) -> float:
        """Time in its past gaps."""

    @property
    def hints(self) -> Mapping[str, object]:
        """What its agent framework said with its latest turn."""


class ProgramArrived(NamedTuple):
    """A program's first turn is ready."""

    program: ProgramView


class ProgramEnded(NamedTuple):
    """A program is done."""

    program_id: str
    turns: int


class OraclePolicy:
    """Base of policies that know the future: bounds for the others, labelled as such.

    `next_use_s` tells when each session in its gap (program id, session id) will be back; one that
    still waits for something unknown is missing. `replies` has the reply lengths of all turns of each
    program, in tokens, by the turn's index.
    """

    def __init__(self) -> None:
        self.next_use_s: dict[tuple[str, str], float] = {}
        self.replies: dict[str, tuple[int, ...]] = {}

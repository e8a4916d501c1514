"""What an admission policy sees and decides: which turns the servers take on now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from agentservesim.policies.protocols.programs import ProgramEnded, ProgramView
from agentservesim.policies.protocols.routing import InstanceView, Prefilled, TurnView


class FleetView(Protocol):
    """All instances and the programs that they serve."""

    @property
    def now_s(self) -> float:
        """The time."""

    @property
    def instances(self) -> Sequence[InstanceView]:
        """The instances, by index."""

    @property
    def programs(self) -> Mapping[str, ProgramView]:
        """Programs of which a turn was admitted and that go on, by id, in that order."""

    @property
    def held(self) -> int:
        """Turns that are held."""


@dataclass(frozen=True, slots=True)
class Admit:
    """The turn goes to the router now."""


@dataclass(frozen=True, slots=True)
class Hold:
    """The turn waits.

    until_s: when to ask again; None is whenever a turn ends, infinity is no sooner than after a tick.
    blocks: those that have waited less long are not asked about either, until this one is let in.
    """

    until_s: float | None = None
    blocks: bool = False


@dataclass(frozen=True, slots=True)
class Reject:
    """The program ends here: this turn and those after it are not served."""

    reason: str = ""


ADMIT = Admit()
Verdict = Admit | Hold | Reject


class TurnEnded(NamedTuple):
    """A turn's last token is out; `cached_tokens` of its prompt did not have to be computed."""

    program: ProgramView
    session_id: str
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int


AdmissionEvent = Prefilled | TurnEnded | ProgramEnded


@runtime_checkable
class Admission(Protocol):
    """Decides when the servers take on a turn that is ready.

    Optional: `observe(event)`; `tick_s` with `review(fleet)`, called every `tick_s` seconds, after which
    held turns are asked about again, the longest held first: those of the sessions (program id, session id)
    that it returns, or all if it returns None.
    """

    def admit(self, program: ProgramView, turn: TurnView, fleet: FleetView) -> Admit | Hold | Reject:
        """Asked about each turn that becomes ready, and again about those that are held."""

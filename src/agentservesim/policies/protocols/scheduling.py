"""What a scheduling policy sees and decides: the order of a waiting queue, and whom it preempts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

from agentservesim.policies.protocols.programs import ProgramArrived, ProgramEnded, ProgramView

Changes = Literal["never", "events", "time"]
"""When the keys of a scheduling policy may change; see `Scheduler`."""


class RequestView(Protocol):
    """A turn inside an instance, as its scheduler sees it."""

    @property
    def id(self) -> str:
        """The turn's id."""

    @property
    def program(self) -> ProgramView:
        """Its program."""

    @property
    def session_id(self) -> str:
        """Its session in the program."""

    @property
    def turn_index(self) -> int:
        """Its number in the program, from 0."""

    @property
    def priority(self) -> int:
        """vLLM's priority, the lowest first."""

    @property
    def arrival_s(self) -> float:
        """When it was sent."""

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt."""

    @property
    def computed_tokens(self) -> int:
        """Tokens whose KV is there once the step scheduled last has run; 0 while it waits."""

    @property
    def generated_tokens(self) -> int:
        """Tokens of the reply so far."""

    @property
    def cached_tokens(self) -> int:
        """Tokens it would find in HBM if it were admitted now; looked up when asked for."""

    @property
    def pinned(self) -> bool:
        """Whether the residency policy keeps its session's KV in HBM."""

    @property
    def running(self) -> bool:
        """Whether it is in the running batch."""

    @property
    def waited_s(self) -> float:
        """Time it has spent in the waiting queue so far."""

    @property
    def service_s(self) -> float:
        """Time since it was first scheduled, without what it waited again; 0 before."""

    @property
    def preemptions(self) -> int:
        """How often it was preempted."""

    @property
    def critical_path_s(self) -> float:
        """Longest chain of service that led to this turn: the maximum, over the turns it waited for,
        of that turn's own critical path and its service."""

    @property
    def hints(self) -> Mapping[str, object]:
        """What the agent framework said with this turn."""


class TurnArrived(NamedTuple):
    """A turn joined the waiting queue of an instance."""

    request: RequestView


class TurnFinished(NamedTuple):
    """A turn's last token is out."""

    request: RequestView


class Preempted(NamedTuple):
    """A running request lost its blocks and waits again."""

    request: RequestView


SchedulerEvent = ProgramArrived | ProgramEnded | TurnArrived | TurnFinished | Preempted


@runtime_checkable
class Scheduler(Protocol):
    """Orders the waiting queues of all instances.

    `changes` says when keys may change: "never" (the key is fixed when a request joins the queue
    or comes back to it), "events" (when a turn arrives, is admitted, is preempted or ends,
    anywhere), or "time" (at any step).

    Optional methods: `budget(request, now_s)`, the most tokens a request may compute in this step;
    `victims(running, now_s)`, the running requests in the order in which to preempt them;
    `observe(event)`. Without `victims` the running request with the highest key is preempted, of equal
    ones the one that arrived last.
    """

    changes: ClassVar[Changes]

    def key(self, request: RequestView, now_s: float) -> Any:
        """What the request is sorted by, lowest first; ties go by arrival, then by id."""

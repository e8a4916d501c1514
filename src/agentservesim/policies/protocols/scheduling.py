"""What a scheduling policy sees and decides: the order of a waiting queue, and whom it preempts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, get_args, runtime_checkable

from agentservesim.model import Path
from agentservesim.policies.protocols.programs import ProgramArrived, ProgramEnded, ProgramView

Changes = Literal["never", "program", "queue", "time"]
"""When the keys of a scheduling policy may change; see `Scheduler`."""

CHANGES: tuple[Changes, ...] = get_args(Changes)


class RequestView(Protocol):
    """A turn inside an instance, as its scheduler sees it: one object for as long as it lives, in whichever
    instance it waits."""

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
    def prompt(self) -> Path:
        """Content of the prompt: the segments it follows, and where it leaves each."""

    @property
    def computed_tokens(self) -> int:
        """Tokens whose KV is there once the step scheduled last has run; 0 while it waits."""

    @property
    def generated_tokens(self) -> int:
        """Tokens of the reply so far."""

    @property
    def cached_tokens(self) -> int:
        """Tokens that it found in HBM when it was admitted, be it done or not, or, while it waits, would
        find now."""

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
    """A turn joined the waiting queue of an instance; not told again of one that is moved to another's."""

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

    Requests of equal keys are in the order of fcfs: of arrival, preempted ones first. A key is asked for
    when a request joins a queue, and again as `changes` says:

    - "never": not again.
    - "program": when a turn of the request's program is sent, joins a queue, is preempted or ends, anywhere,
      and when the program's pin is broken; the keys of that program's requests are asked for.
    - "queue": before the next step, when a turn has joined the request's instance, started or ended there;
      but once there was no room for the first of the queue, only when a running turn has ended or was
      preempted, as in SGLang. All keys of the queue are asked for.
    - "time": at the first step in every `tick_s` seconds; all keys of the queue are asked for.

    A leap ends where keys may change, so the rarer that is the faster is the run.

    Optional methods: `survey(waiting, now_s)` is shown the queue, in the order of fcfs, before all its keys
    are asked for; `budget(request, now_s)` is the most prompt tokens a request may compute in this step, at
    least 1, asked for those that run, and for the first of the queue where it finds room;
    `victims(running, now_s)` is the running requests in the order in which to preempt them;
    `observe(event)`. With changes "time", keys are not asked for again as long as the attribute `version` is
    what it was, and not None. With the attribute `preempts`, true, whenever all keys have been asked for, one
    running request, the first to preempt, gives way if its key is higher than that of the first of the queue
    and that finds no room. Without `victims` the running request of the highest key is preempted, of equal
    ones the one that was admitted last. A key may not depend on when it is asked for beyond that.
    """

    changes: ClassVar[Changes]

    def key(self, request: RequestView, now_s: float) -> Any:
        """What the request is sorted by, lowest first; ties go by arrival, then by id."""

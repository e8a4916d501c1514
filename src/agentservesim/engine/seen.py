"""What a scheduling policy sees of a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from agentservesim.engine.request import Request
from agentservesim.model import Path, first_tokens, to_s
from agentservesim.policies.protocols import ProgramView

if TYPE_CHECKING:
    from agentservesim.engine.scheduler import Scheduler


class Seen:
    """A `RequestView`: a request without its future, in an instance whose scheduler knows the time."""

    __slots__ = ("_prompt", "_request", "_scheduler")

    def __init__(self, request: Request, scheduler: Scheduler) -> None:
        self._request = request
        self._scheduler = scheduler
        self._prompt: Path | None = None

    def __repr__(self) -> str:
        return f"Seen({self.id!r})"

    def moved(self, scheduler: Scheduler) -> None:
        """It waits in another instance now."""
        self._scheduler = scheduler

    @property
    def id(self) -> str:
        """The turn's id."""
        return self._request.id

    @property
    def program(self) -> ProgramView:
        """Its program."""
        program = self._request.program
        assert program is not None, "a request without a program"
        return program

    @property
    def session_id(self) -> str:
        """Its session in the program."""
        return self._request.session[1]

    @property
    def turn_index(self) -> int:
        """Its number in the program, from 0."""
        return self._request.turn.index

    @property
    def priority(self) -> int:
        """vLLM's priority, the lowest first."""
        return self._request.priority

    @property
    def arrival_s(self) -> float:
        """When it was sent."""
        return to_s(self._request.arrival_ps)

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt."""
        return self._request.prompt_tokens

    @property
    def prompt(self) -> Path:
        """Content of the prompt: the segments it follows, and where it leaves each."""
        if self._prompt is None:
            self._prompt = first_tokens(self._request.path, self._request.prompt_tokens)
        return self._prompt

    @property
    def computed_tokens(self) -> int:
        """Tokens whose KV is there once the step scheduled last has run; 0 while it waits."""
        request = self._request
        return request.computed if request.rows is None else request.rows.computed(request)

    @property
    def generated_tokens(self) -> int:
        """Tokens of the reply so far."""
        request = self._request
        return max(request.known, self.computed_tokens + 1) - request.prompt_tokens if self._decodes else 0

    @property
    def _decodes(self) -> bool:
        request = self._request
        return request.known > request.prompt_tokens or self.computed_tokens >= request.prompt_tokens

    @property
    def cached_tokens(self) -> int:
        """Tokens that it found in HBM when it was admitted, be it done or not, or, while it waits, would
        find now."""
        request = self._request
        if request.running or request.finish_ps >= 0:
            return request.cached_tokens
        return self._scheduler.cached_tokens(request)

    @property
    def pinned(self) -> bool:
        """Whether the residency policy keeps its session's KV in HBM."""
        memory = self._scheduler.memory
        return memory is not None and memory.pinned(self._request)

    @property
    def running(self) -> bool:
        """Whether it is in the running batch."""
        return self._request.running

    @property
    def waited_s(self) -> float:
        """Time it has spent in the waiting queue so far."""
        request = self._request
        if request.running or request.finish_ps >= 0:
            return to_s(request.queue_ps)
        wait_ps = self._scheduler.now_ps - request.since_ps
        return to_s(request.queue_ps + wait_ps if wait_ps > 0 else request.queue_ps)

    @property
    def service_s(self) -> float:
        """Time since it was first scheduled, without what it waited again; 0 before."""
        request = self._request
        if request.scheduled_ps < 0:
            return 0.0
        until_ps = self._scheduler.now_ps if request.running else request.since_ps
        if request.finish_ps >= 0:
            until_ps = request.finish_ps
        return to_s(until_ps - request.scheduled_ps - request.requeue_ps)

    @property
    def preemptions(self) -> int:
        """How often it was preempted."""
        return self._request.preemptions

    @property
    def critical_path_s(self) -> float:
        """Longest chain of service that led to this turn: the maximum, over the turns it waited for, of
        that turn's own critical path and its service."""
        return self._request.critical_path_s

    @property
    def hints(self) -> Mapping[str, object]:
        """What the agent framework said with this turn."""
        return self._request.turn.hints or {}


def seen_of(request: Request) -> Seen:
    """What policies see of a request that has come to an instance."""
    seen: Seen = request.seen
    return seen

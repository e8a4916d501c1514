"""Where requests arrive at an engine, whether its clock is its own or that of a wave."""

from __future__ import annotations

from abc import ABC, abstractmethod

from agentservesim.engine.request import Request
from agentservesim.engine.scheduler import Scheduler


class Endpoint(ABC):
    """An engine as its server uses it; `load` is the number of its unfinished requests."""

    index: int
    scheduler: Scheduler
    load = 0

    @property
    @abstractmethod
    def now_ps(self) -> int:
        """The time."""

    @abstractmethod
    def wake(self) -> None:
        """See to it that the next step is decided no later than the present one ends."""

    @abstractmethod
    def catch_up(self) -> None:
        """Take the steps of the leap in progress that are due, so that the state is that of now."""

    @property
    @abstractmethod
    def leaping(self) -> bool:
        """Whether a leap is in progress."""

    @property
    @abstractmethod
    def steps_due(self) -> int:
        """Decode steps of the leap in progress that are due and not taken, and with which nothing ends."""

    @property
    def free_blocks(self) -> int:
        """KV blocks that nothing references now."""
        due = self.steps_due
        return self.scheduler.pool.free - (self.scheduler.rows.blocks_for(due) if due else 0)

    @property
    def running_tokens(self) -> int:
        """Context of the running requests, once the step scheduled last has run."""
        due = self.steps_due
        return self.scheduler.running_tokens + due * self.scheduler.rows.count

    def submit(self, request: Request) -> None:
        """A request arrives, now."""
        self.load += 1
        request.instance = self.index
        waiting = self.scheduler.waiting
        # A leap over steps for which the first of the queue is too large is so for whoever stands behind it.
        first = waiting.head() if self.leaping and waiting.queue else None
        if first is None:
            self.wake()
        else:
            self.catch_up()
        self.scheduler.add(request, self.now_ps)
        if first is not None and (waiting.stale or waiting.head() is not first):
            self.wake()

    def release(self, request: Request) -> None:
        """The last token of a request is out."""
        self.scheduler.finish(request)
        self.load -= 1

    def freed(self) -> None:
        """Blocks are about to be freed from outside: only a waiting request has to be told at once."""
        if self.scheduler.waiting.queue:
            self.wake()
        else:
            self.catch_up()

    def reordered(self, program_id: str) -> None:
        """The keys of a program's requests may have changed: the step after the present one has to know."""
        if self.scheduler.awaits(program_id):
            self.catch_up()
            if self.scheduler.rekey(program_id, self.now_ps):
                self.wake()

    def outdated(self) -> None:
        """The keys of all requests may have changed: a leap has to end where they are asked for again."""
        if self.scheduler.waiting.queue:
            self.wake()

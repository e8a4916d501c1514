"""The waiting queue of an instance, in the order of its scheduling policy, and whom that preempts."""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush

from agentservesim.engine.request import Request


class Fcfs:
    """Waiting requests in order of arrival; preempted ones come back at the head."""

    def __init__(self) -> None:
        self.queue: deque[Request] = deque()

    def __len__(self) -> int:
        return len(self.queue)

    def add(self, request: Request) -> None:
        """A new request joins at the end."""
        self.queue.append(request)

    def put_back(self, request: Request) -> None:
        """A preempted request goes first."""
        self.queue.appendleft(request)

    def head(self) -> Request:
        """The request to admit next."""
        return self.queue[0]

    def pop(self) -> Request:
        """Take the head out."""
        return self.queue.popleft()

    def discard(self, request: Request) -> None:
        """Take any request out."""
        self.queue.remove(request)

    def victim(self, running: list[Request]) -> Request:
        """The running request to preempt: the one admitted last."""
        return running[-1]


class ByPriority:
    """Waiting requests by (priority, arrival, id), preempted ones among them."""

    def __init__(self) -> None:
        self.queue: list[tuple[tuple[int, int, str], Request]] = []

    def __len__(self) -> int:
        return len(self.queue)

    def add(self, request: Request) -> None:
        """A request takes its place by priority."""
        heappush(self.queue, (request.sorts_as, request))

    put_back = add

    def head(self) -> Request:
        """The request to admit next."""
        return self.queue[0][1]

    def pop(self) -> Request:
        """Take the head out."""
        return heappop(self.queue)[1]

    def discard(self, request: Request) -> None:
        """Take any request out."""
        self.queue = [entry for entry in self.queue if entry[1] is not request]
        heapify(self.queue)

    def victim(self, running: list[Request]) -> Request:
        """The running request of the worst priority; of those the one that arrived last."""
        return max(running, key=lambda r: (r.priority, r.arrival_ps))

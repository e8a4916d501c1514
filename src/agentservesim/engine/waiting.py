"""The waiting queue of an instance in the order of a scheduling policy, and whom that preempts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from operator import itemgetter
from typing import Any

from agentservesim.engine.order import Order
from agentservesim.engine.request import Request
from agentservesim.engine.seen import seen_of
from agentservesim.model import to_s


class ArrivalQueue:
    """vLLM's FCFS: waiting requests in order of arrival; preempted ones come back at the head."""

    stale = False
    asks = False
    preempts = False

    def settle(self) -> None:
        """There is no room for the first of the queue."""

    def __init__(self) -> None:
        self.queue: deque[Request] = deque()

    def __len__(self) -> int:
        return len(self.queue)

    def __iter__(self) -> Iterator[Request]:
        return iter(self.queue)

    def add(self, request: Request, now: int) -> None:
        """A new request joins at the end."""
        self.queue.append(request)

    def put_back(self, request: Request, now: int) -> None:
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

    def left(self) -> None:
        """A running request ended."""

    def refresh(self, now: int) -> bool:
        """Nothing changes their order."""
        return False

    def passed(self, now: int) -> None:
        """Nothing changes their order."""

    def outranks(self, request: Request, other: Request, now: int) -> bool:
        """Nobody is better than who runs."""
        return False

    def changes_at(self) -> int | None:
        """Nothing changes their order."""
        return None

    def victim(self, running: list[Request], now: int) -> Request:
        """The running request to preempt: the one admitted last."""
        return running[-1]


Entry = tuple[Any, int, int, Request]
"""Key, rank among equal keys, serial number, request."""


class KeyQueue:
    """Waiting requests by the key of a policy; requests with equal keys are in the order of `ArrivalQueue`.

    `queue` has the valid entry of each waiting request; the heap may hold outdated ones too. `stale` says
    that keys which depend on who waits and runs here are to be asked for. That can wait while the first of
    the queue is `stuck`: known to be too large for the room there is, until a running request ends. `asks`
    says that the policy may be asked something in any step, `preempts` that it wants running requests to give
    way to better ones. `on_leave` is told who waits no more.
    """

    def __init__(self, order: Order, on_leave: Callable[[Request], None]) -> None:
        self.queue: dict[Request, Entry] = {}
        self.stale = False
        self.stuck = False
        self.asks = order.tick_ps > 0 or order.caps
        self.preempts = order.preempts
        self._order = order
        self._on_leave = on_leave
        self._heap: list[Entry] = []
        self._programs: dict[str, list[Request]] = {}
        self._serial = 0
        self._first = self._last = 0
        self._ticks = -1
        self._version: object = None
        self._by_queue = order.changes == "queue"
        self._by_program = order.changes == "program"

    def __len__(self) -> int:
        return len(self.queue)

    def __iter__(self) -> Iterator[Request]:
        return iter([entry[3] for entry in sorted(self.queue.values(), key=itemgetter(0, 1))])

    def add(self, request: Request, now: int) -> None:
        """A new request joins, behind those of its key."""
        self._last += 1
        self._join(request, self._last, now)
        self._changed()

    def put_back(self, request: Request, now: int) -> None:
        """A preempted request, or one whose KV has come up, joins in front of those of its key."""
        self._first -= 1
        self._join(request, self._first, now)
        self.left()

    def _join(self, request: Request, rank: int, now: int) -> None:
        self.queue[request] = self._entry(request, rank, now)
        self._push(self.queue[request])
        if self._by_program:
            self._programs.setdefault(request.session[0], []).append(request)

    def _entry(self, request: Request, rank: int, now: int) -> Entry:
        self._serial += 1
        return (self._order.key(seen_of(request), to_s(now)), rank, self._serial, request)

    def _push(self, entry: Entry) -> None:
        try:
            heappush(self._heap, entry)
        except TypeError as error:
            raise self._order.incomparable(error) from error

    def head(self) -> Request:
        """The request to admit next."""
        heap = self._heap
        while self.queue.get(heap[0][3]) is not heap[0]:
            heappop(heap)
        return heap[0][3]

    def pop(self) -> Request:
        """Take the head out."""
        request = self.head()
        heappop(self._heap)
        self._forget(request)
        return request

    def discard(self, request: Request) -> None:
        """Take any request out."""
        self._forget(request)

    def _forget(self, request: Request) -> None:
        del self.queue[request]
        self._on_leave(request)
        if self._by_program:
            program = self._programs[request.session[0]]
            program.remove(request)
            if not program:
                del self._programs[request.session[0]]
        self.stuck = self.stuck and bool(self.queue)
        self._changed()

    def _changed(self) -> None:
        self.stale = self._by_queue and not self.stuck

    def left(self) -> None:
        """A running request ended or was preempted: there is room again."""
        self.stuck = False
        self.stale = self._by_queue

    def settle(self) -> None:
        """There is no room for the first of the queue."""
        self.stuck = True
        self.stale = False

    def refresh(self, now: int) -> bool:
        """Ask for all keys anew, if it is time for that; True if it was."""
        tick_ps = self._order.tick_ps
        if tick_ps and now // tick_ps > self._ticks:
            self._ticks = now // tick_ps
            if self._is_current:
                return False
            self._version = self._order.version
        elif not self.stale:
            return False
        self.stale = False
        entries = sorted(self.queue.values(), key=itemgetter(1))
        keys = self._order.keys([entry[3].seen for entry in entries], to_s(now))
        if keys == [entry[0] for entry in entries]:
            return True
        heap = self._heap = [
            (key, rank, serial, request)
            for key, (_, rank, serial, request) in zip(keys, entries, strict=True)
        ]
        self.queue = {entry[3]: entry for entry in heap}
        try:
            heapify(self._heap)
        except TypeError as error:
            raise self._order.incomparable(error) from error
        return True

    @property
    def _is_current(self) -> bool:
        """Whether the policy says that no key has changed since all were asked for."""
        return self._version is not None and self._version == self._order.version

    def passed(self, now: int) -> None:
        """Steps were leapt over, the last of which is decided now: keys were not to be asked for in them."""
        if self._order.tick_ps:
            self._ticks = now // self._order.tick_ps

    def outranks(self, request: Request, other: Request, now: int) -> bool:
        """Whether the key of a waiting request is lower than that of one that runs."""
        return self._order.is_below(self.queue[request][0], seen_of(other), to_s(now))

    def changes_at(self) -> int | None:
        """When all keys will be asked for anew, if they will be."""
        tick_ps = self._order.tick_ps
        return (self._ticks + 1) * tick_ps if tick_ps and self.queue and not self._is_current else None

    def has(self, program_id: str) -> bool:
        """Whether a request of a program waits here whose key depends on the program."""
        return program_id in self._programs

    def rekey(self, program_id: str, now: int) -> bool:
        """Ask for the keys of a program's requests anew; True if that changes who is first."""
        before = self.head()
        for request in self._programs[program_id]:
            old = self.queue[request]
            new = self._entry(request, old[1], now)
            if new[0] != old[0]:
                self.queue[request] = new
                self._push(new)
        if len(self._heap) > 2 * len(self.queue) + 64:
            self._heap = list(self.queue.values())
            heapify(self._heap)
        return self.head() is not before

    def victim(self, running: list[Request], now: int) -> Request:
        """The running request to preempt: the policy's choice, or that of the highest key; of those, the one
        admitted last."""
        now_s = to_s(now)
        if self._order.chooses_victims:
            views = [seen_of(request) for request in running]
            return running[views.index(self._order.victim(views, now_s))]  # type: ignore[arg-type]
        try:
            return max(running, key=lambda r: (self._order.key(seen_of(r), now_s), r.place))
        except TypeError as error:
            raise self._order.incomparable(error) from error

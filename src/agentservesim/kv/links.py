"""Links between tiers: transfers contend for their bandwidth.

A transfer takes `overhead + bytes / bandwidth` of its link's time and arrives one latency later. It is
made of pieces, what a rank has of each block; one that is smaller than the link's `min_bytes` takes as
long as that. On a FIFO link transfers follow one another; with processor sharing all transfers of a
direction progress at once, each with an equal share. The two directions of a half-duplex link share one
bandwidth budget.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from heapq import heappop, heappush
from math import inf

from agentservesim.kernel import Event, Kernel
from agentservesim.kv.config import LinkConfig
from agentservesim.model import PS_PER_S, to_ps


@dataclass(slots=True, eq=False)
class Transfer:
    """Bytes on their way over a link. `up` is towards the faster tier."""

    up: bool
    bytes: int
    asked_ps: int
    done: Callable[[Transfer], None]
    start_ps: int = -1
    end_ps: int = -1


class Link:
    """One physical link, named after the tiers it joins. `bytes_moved` and `busy_ps` are per direction:
    [down, up]."""

    def __init__(self, config: LinkConfig, kernel: Kernel, ranks: int = 1, piece_bytes: float = inf) -> None:
        """`ranks` tensor-parallel ranks move their shares over links of their own, side by side, in pieces
        of `piece_bytes`."""
        self.config = config
        self.name = "-".join(config.between)
        self.bytes_moved = [0, 0]
        self.busy_ps = [0, 0]
        self._kernel = kernel
        self._ranks = ranks
        self._bandwidth = (config.down_bytes_per_s, config.up_bytes_per_s)
        self._latency = to_ps(config.latency_s)
        self._overhead = to_ps(config.overhead_s)
        self._padding = max(config.min_bytes / piece_bytes, 1.0)
        full = config.duplex == "full"
        make = _Sharing if config.sharing == "processor" else _Fifo
        down = make(kernel, self._latency)
        self._lanes: tuple[_Lane, _Lane] = (down, make(kernel, self._latency) if full else down)

    def work_ps(self, size: int, up: bool) -> int:
        """Time of the link that a transfer of `size` bytes takes when it is alone."""
        per_rank = size / self._ranks * self._padding
        return self._overhead + round(per_rank / self._bandwidth[up] * PS_PER_S)

    def alone_ps(self, size: int, up: bool) -> int:
        """From asking to arrival on an idle link."""
        return self.work_ps(size, up) + self._latency

    def backlog_ps(self, up: bool) -> int:
        """How long a transfer asked for now would wait, or the work before it when bandwidth is shared."""
        return self._lanes[up].backlog_ps()

    def send(self, size: int, up: bool, done: Callable[[Transfer], None]) -> Transfer:
        """Move `size` bytes; `done(transfer)` is called when the last one has arrived."""
        transfer = Transfer(up, size, self._kernel.now, done)
        work = self.work_ps(size, up)
        self.bytes_moved[up] += size
        self.busy_ps[up] += work
        self._lanes[up].enter(work, transfer)
        return transfer


OUT, IN = False, True
"""Directions of an instance's network interface, as directions of a `Link`."""


class Network:
    """One interface per instance.

    A transfer enters the sender's way out and the receiver's way in at once, and has arrived when both are
    through with it: on idle interfaces it takes as long as on one of them.
    """

    def __init__(
        self,
        config: LinkConfig,
        instances: int,
        kernel: Kernel,
        interfaces: int = 1,
        piece_bytes: float = inf,
    ) -> None:
        """Each instance has so many `interfaces`, side by side; KV goes over them in pieces."""
        self.links = [Link(config, kernel, interfaces, piece_bytes) for _ in range(instances)]

    def estimate_ps(self, size: int, source: int, goal: int) -> int:
        """From asking to arrival of `size` bytes, what waits for the interfaces included."""
        if not size or source == goal:
            return 0
        out, into = self.links[source], self.links[goal]
        return max(out.backlog_ps(OUT), into.backlog_ps(IN)) + into.alone_ps(size, IN)

    def send(self, size: int, source: int, goal: int, done: Callable[[Transfer], None]) -> None:
        """Send `size` bytes; `done(transfer)`, of the way that took longer, when the last one has arrived."""
        left = 2

        def arrived(transfer: Transfer) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                done(transfer)

        self.links[source].send(size, OUT, arrived)
        self.links[goal].send(size, IN, arrived)


class _Fifo:
    """One transfer after the other."""

    def __init__(self, kernel: Kernel, latency_ps: int) -> None:
        self._kernel = kernel
        self._latency = latency_ps
        self._free_at = 0

    def backlog_ps(self) -> int:
        return max(self._free_at - self._kernel.now, 0)

    def enter(self, work_ps: int, transfer: Transfer) -> None:
        """Queue up; it arrives one latency after the link is through with it."""
        now, free_at = self._kernel.now, self._free_at
        transfer.start_ps = start = now if now > free_at else free_at
        self._free_at = start + work_ps
        transfer.end_ps = end = start + work_ps + self._latency
        self._kernel.at(end, transfer.done, transfer)


class _Sharing:
    """All transfers at once. `attained` is the work done for each one that has been there all along."""

    def __init__(self, kernel: Kernel, latency_ps: int) -> None:
        self._kernel = kernel
        self._latency = latency_ps
        self._attained = Fraction(0)
        self._since = 0
        self._entered = 0
        self._active: list[tuple[Fraction, int, Transfer]] = []
        self._next: Event | None = None

    def backlog_ps(self) -> int:
        self._advance()
        return int(sum(target - self._attained for target, *_ in self._active))

    def enter(self, work_ps: int, transfer: Transfer) -> None:
        """Join; it arrives one latency after its work is done."""
        self._advance()
        self._entered += 1
        transfer.start_ps = self._kernel.now
        heappush(self._active, (self._attained + work_ps, self._entered, transfer))
        self._plan()

    def _advance(self) -> None:
        if self._active:
            self._attained += Fraction(self._kernel.now - self._since, len(self._active))
        self._since = self._kernel.now

    def _plan(self) -> None:
        if self._next is not None:
            self._kernel.cancel(self._next)
        self._next = None
        if self._active:
            wait = (self._active[0][0] - self._attained) * len(self._active)
            self._next = self._kernel.after(max(-(-wait.numerator // wait.denominator), 0), self._leave)

    def _leave(self, _: object) -> None:
        self._next = None
        self._advance()
        while self._active and self._active[0][0] <= self._attained:
            transfer = heappop(self._active)[2]
            transfer.end_ps = self._kernel.now + self._latency
            self._kernel.at(transfer.end_ps, transfer.done, transfer)
        self._plan()


_Lane = _Fifo | _Sharing

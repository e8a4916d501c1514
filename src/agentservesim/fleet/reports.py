"""Old views: what each instance reported last, as far as the report has arrived."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from agentservesim.fleet.config import RoutingConfig
from agentservesim.fleet.servers import LiveView, Server, most_blocks
from agentservesim.kernel import Kernel
from agentservesim.kv.past import Past
from agentservesim.model import Path, to_ps
from agentservesim.policies.protocols import QueuedTurn


@dataclass(slots=True, eq=False)
class Report:
    """An instance as it was when it reported; an `InstanceView`."""

    index: int
    _arrives_ps: int
    load: int
    running: int
    waiting: int
    queue: list[QueuedTurn]
    running_tokens: int
    free_blocks: int
    step_s: float
    _mark: int
    num_blocks: int
    block_size: int
    _live: LiveView = field(repr=False)
    _past: Past = field(repr=False)

    def hit_tokens(self, path: Path) -> int:
        """Tokens of a prompt that HBM had."""
        return self._past.blocks(path, most_blocks(path, self.block_size), self._mark) * self.block_size

    def prefill_s(self, tokens: int, history: int = 0) -> float:
        """Time to compute tokens behind `history` others, alone."""
        return self._live.prefill_s(tokens, history)

    def transfer_s(self, tokens: int, source: int) -> float:
        """Time to get KV from another instance over the network, as it is now."""
        return self._live.transfer_s(tokens, source)


class Reports:
    """Takes the reports of all instances and hands them out when they have arrived.

    With an interval they are taken at its multiples; without one whenever a turn is sent to an instance
    or ends there.
    """

    def __init__(self, servers: Sequence[Server], config: RoutingConfig, kernel: Kernel) -> None:
        self._kernel = kernel
        self._lag_ps = to_ps(config.event_lag_s)
        self._servers = servers
        self._pasts = [Past(server.instance.scheduler.pool) for server in servers]
        self._arrived = [self._take(server) for server in servers]
        self._under_way: list[deque[Report]] = [deque() for _ in servers]
        self._at_events = config.snapshot_interval_s == 0
        if not self._at_events:
            kernel.every(to_ps(config.snapshot_interval_s), self._report_all)

    def latest(self) -> list[Report]:
        """The last report of each instance that has arrived by now."""
        for index in range(len(self._servers)):
            self._arrive(index)
        return self._arrived

    def event(self, index: int) -> None:
        """A turn was sent to an instance, or ended there."""
        if self._at_events:
            self._report(self._servers[index])

    def _report_all(self) -> None:
        for server in self._servers:
            self._report(server)

    def _report(self, server: Server) -> None:
        self._under_way[server.index].append(self._take(server))
        self._arrive(server.index)

    def _arrive(self, index: int) -> None:
        under_way = self._under_way[index]
        while under_way and under_way[0]._arrives_ps <= self._kernel.now:
            self._arrived[index] = under_way.popleft()
        self._pasts[index].forget(self._arrived[index]._mark)

    def _take(self, server: Server) -> Report:
        server.instance.catch_up()
        for request in server.instance.scheduler.running:
            if request.holding.catch_up is not None:
                request.holding.catch_up()
        past, view = self._pasts[server.index], server.view
        return Report(
            index=server.index,
            _arrives_ps=self._kernel.now + self._lag_ps,
            load=view.load,
            running=view.running,
            waiting=view.waiting,
            queue=view.queue,
            running_tokens=view.running_tokens,
            free_blocks=view.free_blocks,
            step_s=view.step_s,
            _mark=past.mark(),
            num_blocks=view.num_blocks,
            block_size=view.block_size,
            _live=view,
            _past=past,
        )

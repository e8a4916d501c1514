"""An instance behind its front end, as policies see it: live."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import inf

from agentservesim.cost.base import Batch, StepTime
from agentservesim.engine.request import Request
from agentservesim.engine.rows import DecodeRows
from agentservesim.fleet.engines import Engine, InstanceSpec
from agentservesim.kv.links import Network
from agentservesim.model import Path, to_s
from agentservesim.policies.protocols import QueuedTurn

ESTIMATES = 4096
"""Prices of chunks, and of whole prompts, that are remembered: instances of one kind are asked the same."""


class Estimates:
    """How long an engine takes, by its step-time model: what instances of one kind share."""

    def __init__(self, step_time: StepTime, chunk: int) -> None:
        self._step_time = step_time
        self._chunk = chunk
        self._price_ps = lru_cache(ESTIMATES)(self._chunk_ps)
        self._prefill_s = lru_cache(ESTIMATES)(self._in_chunks_s)

    def _chunk_ps(self, tokens: int, history: int) -> int:
        return self._step_time.step_ps(Batch.of(self._step_time.knots, [(tokens, history)]))

    def prefill_s(self, tokens: int, history: int = 0) -> float:
        """Time to compute tokens behind `history` others, alone, in chunks of the step budget."""
        return self._prefill_s(tokens, history)

    def _in_chunks_s(self, tokens: int, history: int) -> float:
        end, chunk = history + tokens, self._chunk
        return to_s(sum([self._price_ps(min(chunk, end - at), at) for at in range(history, end, chunk)]))

    def step_s(self, rows: DecodeRows) -> float:
        """Duration of a step of decode rows alone; 0 without any."""
        return to_s(self._step_time.step_ps(rows.batch())) if rows.count else 0.0


class Server:
    """An instance behind its front end. `load` are turns sent to it whose last token is still to come;
    `view` is what policies see of it."""

    def __init__(
        self, instance: Engine, spec: InstanceSpec, estimates: Estimates, network: Network | None = None
    ) -> None:
        self.instance = instance
        self.spec = spec
        self.index = instance.index
        self.load = 0
        self.view = LiveView(self, estimates, network)

    def withdraw(self, request: Request) -> bool:
        """Take back a turn that waits and has never run; False if it does not."""
        waiting = self.instance.scheduler.waiting
        if (
            request.scheduled_ps >= 0
            or request.holding.blocks
            or all(other is not request for other in waiting)
        ):
            return False
        self.instance.wake()
        waiting.discard(request)
        self.instance.load -= 1
        self.load -= 1
        return True


class LiveView:
    """An instance as it is now; an `InstanceView`."""

    def __init__(self, server: Server, estimates: Estimates, network: Network | None) -> None:
        spec = server.spec
        self.index = server.index
        self.prefill_s = estimates.prefill_s
        self._server = server
        self._estimates = estimates
        self._network = network
        self._block_bytes = spec.kv_shape.block_bytes if spec.kv_shape is not None else 0
        self._catch_up = server.instance.catch_up
        self._scheduler = server.instance.scheduler
        self._pool = server.instance.scheduler.pool

    @property
    def load(self) -> int:
        """Turns sent to it whose last token is still to come."""
        return self._server.load

    @property
    def running(self) -> int:
        """Requests in the running batch."""
        return len(self._scheduler.running)

    @property
    def waiting(self) -> int:
        """Requests in the waiting queue."""
        return len(self._scheduler.waiting)

    @property
    def queue(self) -> list[QueuedTurn]:
        """Turns in the waiting queue that have not run yet."""
        return [
            QueuedTurn(*request.session, to_s(request.arrival_ps))
            for request in self._scheduler.waiting
            if request.scheduled_ps < 0
        ]

    @property
    def running_tokens(self) -> int:
        """Context of the requests that run."""
        return self._server.instance.running_tokens

    @property
    def block_size(self) -> int:
        """Tokens in a KV block."""
        return self._pool.block_size

    @property
    def num_blocks(self) -> int:
        """KV blocks that can hold tokens."""
        return self._pool.num_blocks - 1

    @property
    def free_blocks(self) -> int:
        """KV blocks that no running request holds."""
        return self._server.instance.free_blocks

    @property
    def step_s(self) -> float:
        """Duration of a step of the present decode batch."""
        self._catch_up()
        rows = self._scheduler.rows
        return self._estimates.step_s(rows)

    def hit_tokens(self, path: Path) -> int:
        """Tokens of a prompt that HBM has."""
        self._catch_up()
        return self._pool.lookup(path, most_blocks(path, self.block_size)).blocks * self.block_size

    def transfer_s(self, tokens: int, source: int) -> float:
        """Time to get KV from another instance over the network."""
        if self._network is None:
            return inf
        size = -(-tokens // self.block_size) * self._block_bytes
        return to_s(self._network.estimate_ps(size, source, self.index))


def estimates_of(specs: Sequence[InstanceSpec]) -> list[Estimates]:
    """The estimates of each instance; those of one kind share them."""
    made: dict[tuple[int, int], Estimates] = {}
    for spec in specs:
        key = id(spec.step_time), spec.engine.max_num_batched_tokens
        if key not in made:
            made[key] = Estimates(spec.step_time, spec.engine.max_num_batched_tokens)
    return [made[id(spec.step_time), spec.engine.max_num_batched_tokens] for spec in specs]


def most_blocks(path: Path, block_size: int) -> int:
    """Full blocks that a prompt can be served from the cache: never its last token."""
    return (path[-1][1] - 1) // block_size if path else 0

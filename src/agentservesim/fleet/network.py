"""The network between instances: what is sent takes an interface of the sender and one of the receiver."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agentservesim.fleet.config import NetworkConfig
from agentservesim.fleet.engines import InstanceSpec
from agentservesim.kernel import Kernel
from agentservesim.kv.config import LinkConfig
from agentservesim.kv.links import Link, Transfer
from agentservesim.model import InputError, to_s

OUT, IN = False, True
"""Directions of an interface, as directions of a `Link`."""


class Network:
    """One interface per instance.

    A transfer enters the sender's way out and the receiver's way in at once, and has arrived when both are
    through with it: on idle interfaces it takes as long as on one of them.
    """

    def __init__(self, config: NetworkConfig, specs: Sequence[InstanceSpec], kernel: Kernel) -> None:
        """Raises InputError where the KV of instances differs, or its size is unknown."""
        shapes = {spec.kv_shape for spec in specs}
        if len(shapes) > 1 or None in shapes:
            raise InputError("network: KV can be sent between equal instances only; their KV blocks differ")
        (shape,) = shapes
        assert shape is not None
        link = LinkConfig(between=("hbm", "network"), kind=config.kind)
        self.links = [Link(link, kernel, config.interfaces) for _ in specs]
        self._block_bytes = shape.block_bytes

    def estimate_s(self, blocks: int, source: int, goal: int) -> float:
        """Seconds from asking to arrival of so many KV blocks, what waits for the interfaces included."""
        if not blocks or source == goal:
            return 0.0
        out, into = self.links[source], self.links[goal]
        size = blocks * self._block_bytes
        backlog_ps = max(out.backlog_ps(OUT), into.backlog_ps(IN))
        return to_s(backlog_ps + into.alone_ps(size, IN))

    def send(self, blocks: int, source: int, goal: int, done: Callable[[Transfer], None]) -> None:
        """Send KV blocks; `done(transfer)` when the last byte is there, of the way that took longer."""
        left = 2

        def arrived(transfer: Transfer) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                done(transfer)

        size = blocks * self._block_bytes
        self.links[source].send(size, OUT, arrived)
        self.links[goal].send(size, IN, arrived)

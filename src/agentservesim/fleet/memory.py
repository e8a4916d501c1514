"""What a residency policy sees of an instance, and how an instance gets its memory model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import inf
from typing import Any

from agentservesim.cost.base import Batch, StepTime
from agentservesim.engine.memory import Memory
from agentservesim.fleet.config import NetworkConfig
from agentservesim.fleet.engines import Engine, InstanceSpec
from agentservesim.kernel import Kernel
from agentservesim.kv.breakeven import BreakEven
from agentservesim.kv.config import LinkConfig, MemoryConfig
from agentservesim.kv.links import Network
from agentservesim.kv.residency import Residency
from agentservesim.kv.tiers import KvShape, Tier, build_tiers
from agentservesim.model import InputError, to_s

ESTIMATES = 4096
"""Prices of prefill steps that are remembered."""


class MemoryView:
    """A `ServerView` of one instance; `step_tokens` and `chunk_ps` say what its prefill steps take."""

    def __init__(
        self, kernel: Kernel, instance: Engine, step_time: StepTime, tiers: tuple[Tier, ...], shape: KvShape
    ) -> None:
        self.index = instance.index
        self.tiers = tuple(tier.name for tier in tiers)
        self._kernel = kernel
        self._instance = instance
        self._catch_up = instance.catch_up
        self._scheduler = instance.scheduler
        self.step_tokens = instance.config.max_num_batched_tokens
        self.chunk_ps = lru_cache(ESTIMATES)(self._price_ps)
        self._step_time = step_time
        self._by_name = {tier.name: tier for tier in tiers}
        self._shape = shape
        self._no_rows = [0] * len(step_time.knots)
        self._alone_s: dict[tuple[int, int], float] = {}

    @property
    def now_s(self) -> float:
        """The time."""
        return to_s(self._kernel.now)

    @property
    def pool_tokens(self) -> int:
        """Tokens that the HBM pool can hold."""
        return (self._scheduler.pool.num_blocks - 1) * self._shape.block_size

    @property
    def free_tokens(self) -> int:
        """Tokens of HBM that nothing references."""
        return self._instance.free_blocks * self._shape.block_size

    @property
    def running_tokens(self) -> int:
        """Context of the requests that run."""
        return self._instance.running_tokens

    @property
    def waiting(self) -> int:
        """Requests that wait for admission."""
        return len(self._scheduler.waiting)

    @property
    def waiting_tokens(self) -> int:
        """Context of the requests that wait for admission."""
        return sum([request.known for request in self._scheduler.waiting])

    @property
    def prefetching_tokens(self) -> int:
        """Tokens that are on their way up ahead of their turns."""
        memory = self._scheduler.memory
        return memory.residency.arrivals.prefetching * self._shape.block_size if memory is not None else 0

    @property
    def queue_delay_s(self) -> float:
        """Mean wait for admission of the turns whose KV was gone, so far."""
        memory = self._scheduler.memory
        return memory.queue_delay_s if memory is not None else 0.0

    def tier_tokens(self, tier: str) -> int:
        """Tokens that a tier can hold."""
        return (self._by_name[tier].pool.num_blocks - 1) * self._shape.block_size

    def tier_free_tokens(self, tier: str) -> int:
        """Tokens of a tier that nothing references."""
        return self._by_name[tier].pool.free * self._shape.block_size

    def recompute_s(self, tokens: int, history: int = 0) -> float:
        """Time to compute so many tokens behind `history` others, alone, in chunks of the step budget."""
        known_s = self._alone_s.get((tokens, history))
        if known_s is None:
            known_s = self._alone_s[tokens, history] = self._compute_s(tokens, history)
        return known_s

    def _compute_s(self, tokens: int, history: int) -> float:
        end, step = history + tokens, self.step_tokens
        return to_s(sum([self.chunk_ps(min(step, end - at), at) for at in range(history, end, step)]))

    def _price_ps(self, tokens: int, history: int) -> int:
        """A step of so many prompt tokens, alone, behind `history` others."""
        return self._step_time.step_ps(Batch(((tokens, history),), 0, self._no_rows, self._no_rows, 1))

    def step_s(self) -> float:
        """Duration of a step of the present decode batch."""
        self._catch_up()
        rows = self._scheduler.rows
        return to_s(self._step_time.step_ps(rows.batch())) if rows.count else 0.0

    def reload_s(self, tier: str, tokens: int) -> float:
        """Time to bring so many tokens up from a tier, the backlog of its link included."""
        return self._move_s(tier, tokens, True)

    def demote_s(self, tier: str, tokens: int) -> float:
        """Time to copy so many tokens down to a tier, the backlog of its link included."""
        return self._move_s(tier, tokens, False)

    def _move_s(self, tier: str, tokens: int, up: bool) -> float:
        link = self._by_name[tier].link
        size = -(-tokens // self._shape.block_size) * self._shape.block_bytes
        return to_s(link.backlog_ps(up) + link.alone_ps(size, up))


def equip(
    instances: Sequence[Engine],
    step_times: Sequence[StepTime],
    shapes: Sequence[KvShape],
    config: MemoryConfig,
    policy: Any,
    kernel: Kernel,
) -> list[Residency]:
    """Give every instance its tiers and the policy's hand on its KV."""
    models = []
    for instance, step_time, shape, tiers in zip(
        instances, step_times, shapes, build_tiers(config, shapes, kernel), strict=True
    ):
        residency = Residency(
            instance.index,
            kernel,
            instance.scheduler.pool,
            tiers,
            shape,
            policy,
            instance.wake,
            instance.catch_up,
            instance.freed,
            config.load == "layerwise",
            inf if config.prefetch_bytes is None else config.prefetch_bytes // shape.block_bytes,
        )
        view = MemoryView(kernel, instance, step_time, tiers, shape)
        residency.server = view
        layers = shape.layers if residency.layerwise else 0
        residency.break_even = BreakEven(view, residency.copies.load_ps, shape.block_size, layers)
        residency.pins.on_break.append(instance.scheduler.unpinned)
        instance.scheduler.memory = Memory(residency, instance.scheduler.pool, shape.layers)
        models.append(residency)
    return models


def build_network(
    config: NetworkConfig | None, specs: Sequence[InstanceSpec], kernel: Kernel
) -> Network | None:
    """The network between instances, if there is one.

    Raises InputError where instances cannot use each other's KV, or its size is unknown.
    """
    if config is None:
        return None
    shapes = [spec.kv_shape for spec in specs if spec.kv_shape is not None]
    if len(shapes) < len(specs):
        raise InputError("network: how large the KV of an instance is must be known")
    for shape in shapes[1:]:
        if why := shapes[0].differs(shape):
            raise InputError(f"network: KV cannot be sent between these instances, as {why}")
    given = config.bytes_per_s
    speed = {"up_bytes_per_s": given, "down_bytes_per_s": given} if given else {}
    link = LinkConfig.model_validate({"between": ("hbm", "network"), "kind": config.kind, **speed})
    smallest = min(shape.piece_bytes for shape in shapes)
    return Network(link, len(specs), kernel, config.interfaces, smallest)

"""Tiers below HBM: block pools of their own, each behind a link.

A tier keeps KV exactly as HBM does: extents of segments, found by content, evicted in LRU order, suffix
first. What is on its way into a tier holds its blocks from the start and can be found when it is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agentservesim.kernel import Kernel
from agentservesim.kv.config import HBM, LinkConfig, MemoryConfig, TierConfig
from agentservesim.kv.links import Link
from agentservesim.kv.pool import BlockPool
from agentservesim.model import InputError

if TYPE_CHECKING:
    from agentservesim.kv.residency import Residency


@dataclass(frozen=True, slots=True)
class KvShape:
    """What an instance's KV looks like: bytes of a block over all ranks, the ranks it is split over, and the
    model that it is of."""

    block_size: int
    block_bytes: int
    ranks: int = 1
    layers: int = 1
    model: str = ""

    @property
    def piece_bytes(self) -> float:
        """What a rank has of a block; it moves in one piece, all layers together, as in vLLM from 0.12 on."""
        return self.block_bytes / self.ranks

    def differs(self, other: KvShape) -> str:
        """Why one cannot use the other's blocks, in words; "" if it can.

        Tensor-parallel degrees may differ: what is kept is whole blocks, of which each rank moves its heads.
        """
        if self.model != other.model:
            return f"it is of {self.model} and of {other.model}"
        if self.block_size != other.block_size:
            return f"blocks have {self.block_size} and {other.block_size} tokens"
        if self.block_bytes != other.block_bytes:
            return f"blocks have {self.block_bytes:,} and {other.block_bytes:,} bytes over all ranks"
        return ""


@dataclass(frozen=True, slots=True, eq=False)
class Tier:
    """A tier as its instances reach it: `link` joins it to HBM, `links` to the tiers in between.

    `sharers` are the memory models of the instances that use it.
    """

    name: str
    pool: BlockPool
    link: Link
    links: dict[str, Link] = field(default_factory=dict)
    sharers: list[Residency] = field(default_factory=list)

    def link_from(self, above: str) -> Link:
        """The link from a faster tier; without one of its own, what comes takes the link to HBM."""
        return self.links.get(above, self.link)


def build_tiers(memory: MemoryConfig, shapes: Sequence[KvShape], kernel: Kernel) -> list[tuple[Tier, ...]]:
    """The tiers of every instance; who shares one has the same pool, and the same links or each their own.

    Raises InputError where a tier is smaller than a block, or shared by instances whose KV differs.
    """
    firsts: dict[tuple[str, int], tuple[KvShape, Tier]] = {}
    tiers: list[tuple[Tier, ...]] = []
    smallest = min((shape.piece_bytes for shape in shapes), default=0.0)
    for index, shape in enumerate(shapes):
        own: list[Tier] = []
        for config in memory.tiers:
            key = config.name, _group(config, index, memory.instances_per_node)
            if key not in firsts:
                links = _links(config, memory, shape, kernel, {}, smallest)
                tier = Tier(config.name, _pool(config, shape), links[HBM], links)
                firsts[key] = shape, tier
            else:
                first, shared = firsts[key]
                if why := first.differs(shape):
                    raise InputError(
                        f"tier '{config.name}': instances that share it cannot use each other's KV, "
                        f"as {why}; give it scope 'instance', or make the instances equal"
                    )
                links = _links(config, memory, shape, kernel, shared.links, smallest)
                tier = Tier(config.name, shared.pool, links[HBM], links, shared.sharers)
            own.append(tier)
        tiers.append(tuple(own))
    return tiers


def _group(config: TierConfig, index: int, per_node: int) -> int:
    return {"instance": index, "node": index // per_node, "fleet": 0}[config.scope]


def _pool(config: TierConfig, shape: KvShape) -> BlockPool:
    blocks = int(config.capacity_bytes // shape.block_bytes)
    if blocks < 1:
        raise InputError(
            f"tier '{config.name}': capacity_bytes {config.capacity_bytes:.0f} is less than a KV block "
            f"({shape.block_bytes} bytes)"
        )
    return BlockPool(blocks + 1, shape.block_size)


def _links(
    config: TierConfig,
    memory: MemoryConfig,
    shape: KvShape,
    kernel: Kernel,
    shared: Mapping[str, Link],
    smallest: float,
) -> dict[str, Link]:
    """An instance's links to a tier from the faster ones: new ones of its own, or those that are `shared`,
    over which KV goes in the `smallest` pieces of all."""
    links: dict[str, Link] = {}
    names = [HBM, *(tier.name for tier in memory.tiers)]
    for above in names[: names.index(config.name)]:
        found = _find({above, config.name}, memory.links)
        if found is None:
            continue
        own = config.scope == "instance" or found.per == "instance"
        if own:
            links[above] = Link(found, kernel, shape.ranks, shape.piece_bytes)
        elif above not in shared:
            links[above] = Link(found, kernel, 1, smallest)
        else:
            links[above] = shared[above]
    return links


def _find(ends: set[str], links: Sequence[LinkConfig]) -> LinkConfig | None:
    return next((link for link in links if ends == set(link.between)), None)

"""Tiers below HBM: block pools of their own, each behind a link.

A tier keeps KV exactly as HBM does: extents of segments, found by content, evicted in LRU order, suffix
first. What is on its way into a tier holds its blocks from the start and can be found when it is there.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    """What an instance's KV looks like: bytes of a block over all ranks, and the ranks it is split over."""

    block_size: int
    block_bytes: int
    ranks: int = 1
    layers: int = 1


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
    """The tiers of every instance, shared ones being the same pool behind the same link.

    Raises InputError where a tier is smaller than a block, or shared by instances whose KV differs.
    """
    made: dict[tuple[str, int], tuple[KvShape, Tier]] = {}
    tiers: list[tuple[Tier, ...]] = []
    for index, shape in enumerate(shapes):
        own: list[Tier] = []
        for config in memory.tiers:
            key = config.name, _group(config, index, memory.instances_per_node)
            if key not in made:
                made[key] = shape, _make(config, memory, shape, kernel)
            first, tier = made[key]
            if first != shape:
                raise InputError(
                    f"tier '{config.name}': it is shared by instances with KV blocks of {first.block_bytes} "
                    f"and {shape.block_bytes} bytes; give it scope 'instance', or make the instances equal"
                )
            own.append(tier)
        tiers.append(tuple(own))
    return tiers


def _group(config: TierConfig, index: int, per_node: int) -> int:
    return {"instance": index, "node": index // per_node, "fleet": 0}[config.scope]


def _make(config: TierConfig, memory: MemoryConfig, shape: KvShape, kernel: Kernel) -> Tier:
    blocks = int(config.capacity_bytes // shape.block_bytes)
    if blocks < 1:
        raise InputError(
            f"tier '{config.name}': capacity_bytes {config.capacity_bytes:.0f} is less than a KV block "
            f"({shape.block_bytes} bytes)"
        )
    ranks = shape.ranks if config.scope == "instance" else 1
    links: dict[str, Link] = {}
    names = [HBM, *(tier.name for tier in memory.tiers)]
    for above in names[: names.index(config.name)]:
        found = _find({above, config.name}, memory.links)
        if found is not None:
            links[above] = Link(found, kernel, ranks)
    return Tier(config.name, BlockPool(blocks + 1, shape.block_size), links[HBM], links)


def _find(ends: set[str], links: Sequence[LinkConfig]) -> LinkConfig | None:
    return next((link for link in links if ends == set(link.between)), None)

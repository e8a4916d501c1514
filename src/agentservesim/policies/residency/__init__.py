"""Where a program's KV is while its tool runs: one policy per file, all through the public protocol."""

from typing import TYPE_CHECKING

from agentservesim.ondemand import on_demand

if TYPE_CHECKING:
    from agentservesim.policies.residency.belady import Belady
    from agentservesim.policies.residency.cache_ttl import CacheTtl
    from agentservesim.policies.residency.continuum import Continuum
    from agentservesim.policies.residency.continuum_preview import ContinuumPreview
    from agentservesim.policies.residency.cost_aware import CostAware
    from agentservesim.policies.residency.demote import Demote
    from agentservesim.policies.residency.drop import Drop
    from agentservesim.policies.residency.hicache import HiCache
    from agentservesim.policies.residency.infercept import InferCept
    from agentservesim.policies.residency.kvflow import KvFlow
    from agentservesim.policies.residency.lmcache import LmCache
    from agentservesim.policies.residency.lru import Lru
    from agentservesim.policies.residency.mori import Mori
    from agentservesim.policies.residency.oracle_gap import OracleGap
    from agentservesim.policies.residency.pin_always import PinAlways
    from agentservesim.policies.residency.saga import Saga
    from agentservesim.policies.residency.tokencake import TokenCake
    from agentservesim.policies.residency.ttl import Ttl
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "Belady",
    "CacheTtl",
    "Continuum",
    "ContinuumPreview",
    "CostAware",
    "Demote",
    "Drop",
    "HiCache",
    "InferCept",
    "KvFlow",
    "LmCache",
    "Lru",
    "Mori",
    "OracleGap",
    "PinAlways",
    "Saga",
    "TokenCake",
    "Ttl",
]

"""Routing policies: which instance gets a turn. Ties go to the lowest index."""

from typing import TYPE_CHECKING

from agentservesim.ondemand import on_demand

if TYPE_CHECKING:
    from agentservesim.policies.routing.autellix import Autellix
    from agentservesim.policies.routing.dynamo_kv import DynamoKv
    from agentservesim.policies.routing.least_loaded import LeastLoaded
    from agentservesim.policies.routing.llm_d import LlmD
    from agentservesim.policies.routing.lmetric import LMetric
    from agentservesim.policies.routing.mooncake import Mooncake
    from agentservesim.policies.routing.power_of_two import PowerOfTwo
    from agentservesim.policies.routing.preble import Preble
    from agentservesim.policies.routing.prefix_aware import PrefixAware
    from agentservesim.policies.routing.random_choice import RandomChoice
    from agentservesim.policies.routing.ray_prefix import RayPrefix
    from agentservesim.policies.routing.round_robin import RoundRobin
    from agentservesim.policies.routing.saga import SagaRouter
    from agentservesim.policies.routing.session_affinity import SessionAffinity
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "Autellix",
    "DynamoKv",
    "LMetric",
    "LeastLoaded",
    "LlmD",
    "Mooncake",
    "PowerOfTwo",
    "Preble",
    "PrefixAware",
    "RandomChoice",
    "RayPrefix",
    "RoundRobin",
    "SagaRouter",
    "SessionAffinity",
]

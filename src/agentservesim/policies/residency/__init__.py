"""Where a program's KV is while its tool runs: one policy per file, all through the public protocol."""

from agentservesim.policies.residency.demote import Demote
from agentservesim.policies.residency.drop import Drop
from agentservesim.policies.residency.lru import Lru
from agentservesim.policies.residency.pin_always import PinAlways
from agentservesim.policies.residency.ttl import Ttl

__all__ = ["Demote", "Drop", "Lru", "PinAlways", "Ttl"]

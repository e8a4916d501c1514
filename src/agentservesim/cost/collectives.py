"""Collectives between the ranks of a tensor-parallel group, by the alpha-beta model."""

from __future__ import annotations

from dataclasses import dataclass

from agentservesim.cost.accelerators import Accelerator
from agentservesim.cost.models import DTYPE_BYTES, Model

LATENCY_S = {"nvlink": 5e-6, "pcie": 15e-6}
"""Start-up time of a small all-reduce: synchronised kernels over NVLink, hops through the host over PCIe."""

LINK_EFFICIENCY = 0.75
"""Share of a link's data-sheet rate that a large all-reduce sees (as nccl-tests report bus bandwidth)."""


@dataclass(frozen=True, slots=True)
class Collectives:
    """Links of a tensor-parallel group of `ranks` accelerators, and of the `expert_ranks` instances
    that share experts."""

    ranks: int
    expert_ranks: int
    latency_s: float
    bytes_per_s: float

    @classmethod
    def of(cls, accelerator: Accelerator, ranks: int, expert_ranks: int) -> Collectives:
        """A group on one node, joined by the accelerator's own link."""
        rate = accelerator.link_bytes_per_s * LINK_EFFICIENCY
        return cls(ranks, expert_ranks, LATENCY_S[accelerator.link], rate)

    def all_reduce_s(self, message_bytes: int) -> float:
        """Seconds of an all-reduce: each rank sends 2 (n-1)/n of the message (ring or its NVLink equals)."""
        if self.ranks == 1:
            return 0.0
        return self.latency_s + 2 * (self.ranks - 1) / self.ranks * message_bytes / self.bytes_per_s

    def layers_s(self, model: Model, tokens: int) -> float:
        """Seconds of a forward pass of `tokens` tokens: two all-reduces a layer and one after the
        embedding; with shared experts also, a sparse layer, every instance's tokens gathered to
        all and the sums scattered back."""
        message = tokens * model.hidden * DTYPE_BYTES[model.dtype]
        reduced = (2 * model.layers + 1) * self.all_reduce_s(message)
        if self.expert_ranks == 1:
            return reduced
        sparse = sum(group.count for group in model.groups if group.feed_forward.experts)
        exchange = self.latency_s + (self.expert_ranks - 1) * message / self.bytes_per_s
        return reduced + 2 * sparse * exchange

    def gather_s(self, model: Model, sequences: int) -> float:
        """Seconds to gather the head's logits, cut along the vocabulary."""
        if self.ranks == 1:
            return 0.0
        message = sequences * model.vocabulary * DTYPE_BYTES[model.dtype]
        return self.latency_s + (self.ranks - 1) / self.ranks * message / self.bytes_per_s

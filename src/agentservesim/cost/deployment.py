"""A model on the accelerators of one instance."""

from __future__ import annotations

from dataclasses import dataclass

from agentservesim.cost.accelerators import Accelerator
from agentservesim.cost.models import DTYPE_BYTES, MXFP4_BYTES, FeedForward, LayerGroup, Model


@dataclass(frozen=True, slots=True)
class Deployment:
    """One model on the ranks of one instance; numbers below are those of a single rank.

    `expert_ranks` instances, each busy alike, share the experts: each holds its part of every layer's.
    """

    model: Model
    accelerator: Accelerator
    ranks: int = 1
    kv_dtype: str = "auto"
    expert_ranks: int = 1

    @property
    def kv_number_bytes(self) -> int:
        """Bytes of one number in the KV cache."""
        return DTYPE_BYTES[self.model.dtype if self.kv_dtype == "auto" else self.kv_dtype]

    @property
    def linear_bytes(self) -> int:
        """Bytes of one weight of a linear layer."""
        return 1 if self.model.quantization == "fp8" else DTYPE_BYTES[self.model.dtype]

    @property
    def expert_bytes(self) -> float:
        """Bytes of one weight of an expert."""
        return MXFP4_BYTES if self.model.quantization == "mxfp4" else self.linear_bytes

    @property
    def flops(self) -> float:
        """Peak FLOP/s of the linear layers."""
        return self.accelerator.peak_flops(self.model.quantization == "fp8")

    @property
    def groups(self) -> tuple[LayerGroup, ...]:
        """Layer groups as cut for one rank."""
        return tuple(
            LayerGroup(g.count, g.attention.shard(self.ranks), g.feed_forward.shard(self.ranks))
            for g in self.model.groups
        )

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights."""
        return self.model.weight_bytes(self.ranks, self.expert_ranks)

    def awake_experts(self, mlp: FeedForward, tokens: int) -> float:
        """Experts of this rank that a step of `tokens` tokens on each instance is expected to wake:
        each token picks k of all E at random, so of T tokens some pick one with 1 - (1 - k/E)^T."""
        chance = 1.0 - (1.0 - mlp.experts_per_token / mlp.experts) ** (tokens * self.expert_ranks)
        return mlp.experts / self.expert_ranks * chance

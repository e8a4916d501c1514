"""A model on the accelerators of one engine."""

from __future__ import annotations

from dataclasses import dataclass

from agentservesim.cost.accelerators import Accelerator
from agentservesim.cost.layers import FeedForward, LayerGroup
from agentservesim.cost.models import DTYPE_BYTES, MXFP4_BYTES, Model


@dataclass(frozen=True, slots=True)
class Network:
    """How accelerators of different nodes are joined: one network adapter for each accelerator."""

    gpus_per_node: int = 8
    bytes_per_s: float = 50e9
    latency_s: float = 10e-6


@dataclass(frozen=True, slots=True)
class Deployment:
    """One model on the accelerators of one engine; numbers below are those of a single accelerator.

    `ranks` accelerators share each layer, `stages` such groups follow one another, each with its part of
    the layers. `engines` data-parallel engines go in step and share the experts of a sparse model: each
    accelerator of all of them holds an equal part, whole experts or slices of each. Accelerators are
    numbered as in vLLM: ranks within stages within engines, node by node.
    """

    model: Model
    accelerator: Accelerator
    ranks: int = 1
    kv_dtype: str = "auto"
    engines: int = 1
    stages: int = 1
    network: Network = Network()

    @property
    def expert_ways(self) -> int:
        """Accelerators that share the experts of a layer."""
        return self.ranks * self.engines

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
        """Layer groups as cut for one rank; its experts stay whole, see `awake_experts`."""
        return tuple(
            LayerGroup(g.count, g.attention.shard(self.ranks), g.feed_forward.shard(self.ranks))
            for g in self.model.groups
        )

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights."""
        return self.model.weight_bytes(self.ranks, self.expert_ways, self.stages)

    def on_stage(self, number: int) -> int:
        """What the fullest stage has of something that all layers have alike."""
        return -(-number * -(-self.model.layers // self.stages) // self.model.layers)

    def awake_experts(self, mlp: FeedForward, tokens: int) -> float:
        """Experts of an accelerator that a step of `tokens` tokens in all engines is expected to wake:
        each token picks k of all E at random, so of T tokens some pick one with 1 - (1 - k/E)^T."""
        chance = 1.0 - (1.0 - mlp.experts_per_token / mlp.experts) ** tokens
        return mlp.experts / self.expert_ways * chance

"""A model on the accelerators of one instance."""

from __future__ import annotations

from dataclasses import dataclass

from agentservesim.cost.accelerators import Accelerator
from agentservesim.cost.models import DTYPE_BYTES, MXFP4_BYTES, LayerGroup, Model


@dataclass(frozen=True, slots=True)
class Deployment:
    """One model on the ranks of one instance; numbers below are those of a single rank."""

    model: Model
    accelerator: Accelerator
    ranks: int = 1
    kv_dtype: str = "auto"

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

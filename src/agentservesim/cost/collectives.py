"""Collectives between accelerators, by the alpha-beta model: a start-up time and bytes over bandwidth.

All-reduces, all-gathers and reduce-scatters within a node are as measured on such accelerators, where that
ships with the package.
"""

from __future__ import annotations

from dataclasses import dataclass

from agentservesim.cost.accelerators import Accelerator
from agentservesim.cost.curves import Curve
from agentservesim.cost.deployment import Deployment, Network
from agentservesim.cost.measured import load_measured
from agentservesim.cost.models import DTYPE_BYTES, Model

LATENCY_S = {"nvlink": 5e-6, "pcie": 15e-6}
"""Start-up time of a small all-reduce: synchronised kernels over NVLink, hops through the host over PCIe."""

LINK_EFFICIENCY = 0.75
"""Share of a link's data-sheet rate that a large all-reduce sees (as nccl-tests report bus bandwidth)."""


@dataclass(frozen=True, slots=True)
class Group:
    """Accelerators that talk to one another: how many, the links between them, and what collectives were
    measured to take."""

    size: int
    latency_s: float
    bytes_per_s: float
    all_reduce: Curve | None = None
    all_gather: Curve | None = None
    reduce_scatter: Curve | None = None

    @classmethod
    def of(cls, accelerator: Accelerator, network: Network, size: int, span: int) -> Group:
        """`size` accelerators, spread evenly over `span` neighbouring ones.

        Within a node they use the accelerator's own link. A ring over several nodes passes each border
        once, over the network adapters of all its members in the node, and is no faster than those.
        """
        rate, latency = accelerator.link_bytes_per_s, LATENCY_S[accelerator.link]
        measured = load_measured(accelerator.name) if span <= network.gpus_per_node else None
        if span > network.gpus_per_node:
            members = max(1, size * network.gpus_per_node // span)
            rate = min(rate, network.bytes_per_s * members) if members > 1 else network.bytes_per_s
            latency += network.latency_s
        known = (
            measured.collective(name, size) if measured else None
            for name in ("all_reduce", "all_gather", "reduce_scatter")
        )
        return cls(size, latency, rate * LINK_EFFICIENCY, *known)

    def all_reduce_s(self, message_bytes: float) -> float:
        """Seconds of an all-reduce: each sends 2 (n-1)/n of the message (ring or its NVLink equals)."""
        if self.size == 1:
            return 0.0
        if self.all_reduce is not None:
            return _seconds(self.all_reduce, message_bytes)
        return self.latency_s + 2 * (self.size - 1) / self.size * message_bytes / self.bytes_per_s

    def gather_s(self, received_bytes: float) -> float:
        """Seconds of an all-gather in which nobody gets more bytes than these."""
        return self._share_s(self.all_gather, received_bytes)

    def scatter_s(self, received_bytes: float) -> float:
        """Seconds of a reduce-scatter in which nobody gets more bytes than these."""
        return self._share_s(self.reduce_scatter, received_bytes)

    def _share_s(self, known: Curve | None, received_bytes: float) -> float:
        if self.size == 1:
            return 0.0
        if known is not None:
            return _seconds(known, received_bytes * self.size / (self.size - 1))
        return self.latency_s + received_bytes / self.bytes_per_s

    def send_s(self, message_bytes: float) -> float:
        """Seconds to hand a message on to the next."""
        return 0.0 if self.size == 1 else self.latency_s + message_bytes / self.bytes_per_s


def _seconds(known: Curve, message_bytes: float) -> float:
    return float(known.at([message_bytes])[0]) / 1e6


@dataclass(frozen=True, slots=True)
class Collectives:
    """The groups of a deployment: ranks that share layers, stages, and engines that share experts."""

    ranks: Group
    stages: Group
    engines: Group

    @classmethod
    def of(cls, on: Deployment) -> Collectives:
        """The groups as vLLM numbers its accelerators: ranks within stages within engines."""

        def group(size: int, span: int) -> Group:
            return Group.of(on.accelerator, on.network, size, span)

        engine = on.ranks * on.stages
        return cls(
            group(on.ranks, on.ranks), group(on.stages, engine), group(on.engines, engine * on.engines)
        )

    def layers_s(self, model: Model, tokens: int) -> float:
        """Seconds of a forward pass of `tokens` tokens: two all-reduces a layer and one after the
        embedding, and the activations (states and residual) from each stage to the next."""
        message = tokens * model.hidden * DTYPE_BYTES[model.dtype]
        reduced = (2 * model.layers + 1) * self.ranks.all_reduce_s(message)
        return reduced + (self.stages.size - 1) * self.stages.send_s(2 * message / self.ranks.size)

    def exchange_s(self, model: Model, received: int) -> float:
        """Seconds in which engines exchange tokens for the experts of all sparse layers: the tokens of all
        are gathered and the sums scattered back (vLLM's `allgather_reducescatter`). `received` is the most
        that one gets from the others; see `OperatorStepTime.wave_ps` for engines with unequal numbers."""
        message = received * model.hidden * DTYPE_BYTES[model.dtype]
        sparse = sum(group.count for group in model.groups if group.feed_forward.experts)
        return sparse * (self.engines.gather_s(message) + self.engines.scatter_s(message))

    def gather_s(self, model: Model, sequences: int) -> float:
        """Seconds to gather the head's logits, cut along the vocabulary."""
        message = sequences * model.vocabulary * DTYPE_BYTES[model.dtype]
        return self.ranks.gather_s((self.ranks.size - 1) / self.ranks.size * message)

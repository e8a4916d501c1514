"""Step time from spec sheets: every operator takes the longer of its FLOPs and its bytes.

Peaks are derated by `Efficiency`, whose defaults come from measurements. Attention is priced per
row: a chunk of c tokens on h of history attends to ch + c(c+1)/2 pairs (less under a window) and
reads the KV of h + c tokens; a decode row reads the KV of its context. Sparse layers read the
experts that are expected to wake.
"""

from __future__ import annotations

from agentservesim.cost.base import Batch
from agentservesim.cost.collectives import Collectives
from agentservesim.cost.config import Efficiency
from agentservesim.cost.deployment import Deployment
from agentservesim.cost.layers import FeedForward, LayerGroup, Recurrence
from agentservesim.cost.models import DTYPE_BYTES
from agentservesim.cost.operators import CellPrices, Host, OperatorStepTime
from agentservesim.cost.stragglers import Stragglers
from agentservesim.model import PS_PER_S

_ACTIVATION_BYTES = 2

IDEAL = {
    "compute": 1.0,
    "attention_compute": 1.0,
    "bandwidth": 1.0,
    "activation_traffic": 0.0,
    "layer_s": 0.0,
}
"""Efficiencies no measurement may beat: the physical floor under every price."""


class Roofline(OperatorStepTime):
    """Step time of a deployment from its spec sheet. No factor on a class of operators makes it faster than
    that."""

    def __init__(
        self,
        deployment: Deployment,
        efficiency: Efficiency,
        host: Host,
    ) -> None:
        self._on = deployment
        self._groups = deployment.groups
        self._efficiency = efficiency
        self._unit = PS_PER_S * host.scale
        self._linear = max(host.linear, efficiency.compute, efficiency.bandwidth)
        attention = max(host.attention, efficiency.attention_compute, efficiency.bandwidth)
        self._attention_unit = self._unit * attention
        self._links = Collectives.of(deployment)
        self._state_bytes = deployment.model.state_bytes(deployment.ranks)
        self._rate = deployment.accelerator.memory_bytes_per_s * efficiency.bandwidth
        self._activation_bytes = _ACTIVATION_BYTES * efficiency.activation_traffic
        self._linear_rate = deployment.flops * efficiency.compute
        self._attention_rate = deployment.accelerator.bf16_flops * efficiency.attention_compute
        windows = {group.attention.window for group in self._groups} - {None}
        knots = [0, *sorted(window + 1 for window in windows if window is not None)]
        super().__init__(knots, host, Stragglers.of(deployment))

    def dense_ps(self, tokens: int) -> int:
        """Linear layers, small kernels and collectives of a step of so many tokens."""
        if not tokens:
            return 0
        seconds = self._links.layers_s(self._on.model, tokens)
        for group in self._groups:
            layer_s = self._efficiency.layer_s + self._layer_s(group, tokens)
            seconds += group.count * layer_s * self._linear
        return round(seconds * self._unit)

    def shared_ps(self, tokens: int, received: int) -> int:
        """Experts, and the exchange of tokens for them."""
        if not tokens:
            return 0
        seconds = self._links.exchange_s(self._on.model, received)
        for group in self._groups:
            if group.feed_forward.experts:
                seconds += group.count * self._experts_s(group.feed_forward, tokens) * self._linear
        return round(seconds * self._unit)

    def _layer_s(self, group: LayerGroup, tokens: int) -> float:
        hidden, attention, mlp = self._on.model.hidden, group.attention, group.feed_forward
        seconds = sum(self._gemm_s(tokens, *shape) for shape in attention.projections(hidden))
        if mlp.width:
            seconds += self._gemm_s(tokens, hidden, (mlp.matrices - 1) * mlp.width)
            seconds += self._gemm_s(tokens, mlp.width, hidden)
        moved = tokens * (
            4 * hidden + 3 * (mlp.width + mlp.experts_per_token * mlp.expert_width / self._on.ranks)
        )
        return seconds + moved * self._activation_bytes / self._rate

    def _gemm_s(self, rows: int, inner: int, outer: int) -> float:
        """A GEMM of [rows, inner] by [inner, outer]."""
        flops = 2 * rows * inner * outer / self._linear_rate
        moved = inner * outer * self._on.linear_bytes + rows * (inner + outer) * self._activation_bytes
        return max(flops, moved / self._rate)

    def _experts_s(self, mlp: FeedForward, tokens: int) -> float:
        """Experts of a layer, `tokens` being those of all engines."""
        weights = mlp.expert_parameters(self._on.model.hidden)
        awake = self._on.awake_experts(mlp, tokens)
        flops = 2 * tokens * mlp.experts_per_token * weights / self._on.expert_ways / self._linear_rate
        return max(flops, awake * weights * self._on.expert_bytes / self._rate)

    def head_ps(self, sampled: int) -> int:
        """Head and sampler for so many sequences."""
        if not sampled:
            return 0
        model = self._on.model
        width = -(-model.vocabulary // self._on.ranks)
        moved = width * model.hidden * DTYPE_BYTES[model.dtype] + sampled * width * self._activation_bytes
        flops = 2 * sampled * width * model.hidden
        gemm = max(moved / self._rate, flops / (self._on.accelerator.bf16_flops * self._efficiency.compute))
        seconds = (gemm + self._efficiency.sampler_s) * self._linear
        return round((seconds + self._links.gather_s(model, sampled)) * self._unit)

    def decode_cells(self, rows: int) -> CellPrices:
        """Attention of decode rows: each pays for the KV it reads, whatever the others do."""
        costs, slopes = [self.state_ps(1)] * len(self.knots), [0] * len(self.knots)
        for group in self._groups:
            price = self.token_ps(group)
            window = group.attention.window
            for cell, knot in enumerate(self.knots):
                if window is None or knot <= window:
                    slopes[cell] += price
                else:
                    costs[cell] += price * window
        return costs, slopes

    def token_ps(self, group: LayerGroup) -> int:
        """Picoseconds of a group's layers per token of a decode row's context."""
        moved = group.attention.kv_numbers() * self._on.kv_number_bytes / self._rate
        flops = group.attention.flops_a_token / self._attention_rate
        return round(group.count * max(moved, flops) * self._attention_unit)

    def mixed_ps(self, batch: Batch) -> int:
        """Attention of chunks and the decode rows beside them, row by row."""
        costs, slopes = self._decode[batch.rows]
        total = 0
        for cell, count in enumerate(batch.counts):
            if count:
                total += count * costs[cell] + batch.contexts[cell] * slopes[cell]
        for new, history in batch.chunks:
            total += self.chunk_ps(new, history)
        return total

    def chunk_ps(self, new: int, history: int) -> int:
        """Attention of a chunk of `new` tokens on `history` tokens, in picoseconds."""
        seconds = 0.0
        for group in self._groups:
            if isinstance(group.attention, Recurrence):
                continue
            window = group.attention.window
            flops = group.attention.chunk_flops(new, history) / self._attention_rate
            read = new + history if window is None else new + min(history, window)
            moved = read * group.attention.kv_numbers() * self._on.kv_number_bytes / self._rate
            seconds += group.count * max(flops, moved)
        return round(seconds * self._attention_unit) + self.state_ps(new)

    def state_ps(self, tokens: int) -> int:
        """Recurrent layers over `tokens` tokens of a sequence: its state is read and written once."""
        if not self._state_bytes:
            return 0
        flops = sum(
            group.count * group.attention.chunk_flops(tokens, 0)
            for group in self._groups
            if isinstance(group.attention, Recurrence)
        )
        seconds = max(2 * self._state_bytes / self._rate, flops / self._attention_rate)
        return round(seconds * self._attention_unit)

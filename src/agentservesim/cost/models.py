"""What a model weighs: parameters, KV bytes and FLOPs.

A model is a stack of layer groups. A group says how many layers it stands for, how they mix tokens and
what feed-forward they have (`agentservesim.cost.layers`), so that a model whose layers differ (a dense
first layer before sparse ones, windows or recurrences on some) is a few groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agentservesim.cost.layers import LayerGroup, Recurrence

Quantization = Literal["none", "fp8", "mxfp4"]

DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4, "fp8": 1}
"""Bytes of a number, by vLLM's name of its type."""

MXFP4_BYTES = 4.25 / 8
"""An MXFP4 weight: 4 bits and its share of an 8-bit scale per 32 weights (OCP microscaling formats)."""


@dataclass(frozen=True, slots=True)
class Model:
    """A decoder-only model. `vocabulary` is its embedding's rows; `tied` shares them with the head.

    `state_dtype` is the type of the state of its recurrent layers, where that is not `dtype`.
    """

    name: str
    hidden: int
    vocabulary: int
    tied: bool
    groups: tuple[LayerGroup, ...]
    dtype: str = "bfloat16"
    quantization: Quantization = "none"
    max_model_len: int | None = None
    state_dtype: str | None = None

    @property
    def layers(self) -> int:
        """Layers of all groups."""
        return sum(group.count for group in self.groups)

    @property
    def sparse(self) -> bool:
        """Whether there are experts."""
        return any(group.feed_forward.experts for group in self.groups)

    @property
    def parameters(self) -> int:
        """All weights, norms and biases included."""
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return embeddings + self.hidden + sum(g.count * self._layer_parameters(g) for g in self.groups)

    @property
    def active_parameters(self) -> int:
        """Weights of the linear layers that one token passes, the head included."""
        per_layer = (
            g.count
            * (
                g.attention.linear_parameters(self.hidden)
                + g.feed_forward.shared_parameters(self.hidden)
                + g.feed_forward.experts_per_token * g.feed_forward.expert_parameters(self.hidden)
            )
            for g in self.groups
        )
        return sum(per_layer) + self.vocabulary * self.hidden

    def flops_per_token(self, context: int) -> int:
        """FLOPs to compute one token that attends to `context` tokens, itself included."""
        mixing = sum(g.count * g.attention.row_flops(context) for g in self.groups)
        return 2 * self.active_parameters + mixing

    def weight_bytes(self, ranks: int = 1, expert_ways: int | None = None, stages: int = 1) -> int:
        """Bytes of the weights on the fullest accelerator.

        `ranks` tensor-parallel ranks share each layer, `expert_ways` accelerators (None: the same ranks)
        the experts, and `stages` the layers; the first stage holds the embedding, the last the head.
        """
        size = DTYPE_BYTES[self.dtype]
        linear = 1 if self.quantization == "fp8" else size
        expert = MXFP4_BYTES if self.quantization == "mxfp4" else linear
        ends = (1 if self.tied else 2) if stages == 1 else 1
        total = (-(-self.vocabulary // ranks) * self.hidden * ends + self.hidden) * size
        layers = 0.0
        for group in self.groups:
            attention, mlp = group.attention.shard(ranks), group.feed_forward.shard(ranks)
            router = self.hidden * mlp.experts
            cut = attention.linear_parameters(self.hidden) + mlp.shared_parameters(self.hidden) - router
            small = (
                attention.other_parameters(self.hidden)
                + mlp.other_parameters(self.hidden)
                + group.norms * self.hidden
            )
            experts = mlp.experts * mlp.expert_parameters(self.hidden) * expert / (expert_ways or ranks)
            layers += group.count * (cut * linear + (router + small) * size + experts)
        return total + round(layers * -(-self.layers // stages) / self.layers)

    def kv_bytes_per_token(self, dtype: str = "auto", ranks: int = 1) -> int:
        """KV cache bytes a token keeps on one rank, in the layers that keep every token.

        Layers with a window keep at most the window and are left out where others have none: vLLM's
        hybrid KV cache manager gives them blocks of their own and frees those out of the window. Recurrent
        layers keep a state of their own size, see `state_bytes`.
        """
        size = DTYPE_BYTES[self.dtype if dtype == "auto" else dtype]
        keeping = [g for g in self.groups if g.attention.kv_numbers()]
        growing = [g for g in keeping if g.attention.window is None] or keeping
        return size * sum(g.count * g.attention.shard(ranks).kv_numbers() for g in growing)

    def state_bytes(self, ranks: int = 1) -> int:
        """Bytes a sequence keeps on one rank in recurrent layers, however long it is."""
        size = DTYPE_BYTES[self.dtype]
        state_size = DTYPE_BYTES[self.state_dtype or self.dtype]
        total = 0
        for group in self.groups:
            if isinstance(group.attention, Recurrence):
                mixer = group.attention.shard(ranks)
                total += group.count * (mixer.state * state_size + mixer.convolution_numbers() * size)
        return total

    def _layer_parameters(self, group: LayerGroup) -> int:
        attention, mlp = group.attention, group.feed_forward
        linear = attention.linear_parameters(self.hidden) + mlp.shared_parameters(self.hidden)
        experts = mlp.experts * mlp.expert_parameters(self.hidden)
        other = attention.other_parameters(self.hidden) + mlp.other_parameters(self.hidden)
        return linear + experts + other + group.norms * self.hidden

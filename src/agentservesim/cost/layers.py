"""Parts of a layer: how it mixes tokens, and its feed-forward; what each weighs, keeps and computes.

A mixer is softmax attention (`GroupedAttention`, `LatentAttention`) or a recurrence (`Recurrence`).
Counting, with d = hidden, H query heads, K key/value heads of size h, m = width: grouped attention has
d(H + 2K)h + Hhd weights, a dense feed-forward 3dm (gate, up, down), a sparse one experts x 3dm plus the
router's d x experts plus the shared experts' 3d x their width. A linear layer costs 2 FLOPs per weight and
token; attention costs 4Hh FLOPs per attended token (2Hh each for scores and values). A token keeps 2Kh
numbers of KV.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from agentservesim.model import InputError


def attended_pairs(new: int, history: int, window: int | None = None) -> int:
    """(query, key) pairs of a causal chunk: token i of it attends to min(history + i, window) tokens."""
    if window is None or history + new <= window:
        return new * history + new * (new + 1) // 2
    growing = min(new, max(0, window - history))
    return growing * history + growing * (growing + 1) // 2 + (new - growing) * window


@dataclass(frozen=True, slots=True)
class GroupedAttention:
    """Softmax attention of `heads` query heads that share `kv_heads` key/value heads (GQA, MQA, MHA).

    `window` is the most tokens a token attends to, itself included; None means all before it. With
    `gated` the query projection also makes a gate for the output, as wide as the queries.
    """

    heads: int
    kv_heads: int
    head_dim: int
    window: int | None = None
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: bool = False
    sinks: bool = False
    gated: bool = False

    @property
    def qkv_width(self) -> int:
        """Outputs of the fused query, key and value projection."""
        return (self.heads * (2 if self.gated else 1) + 2 * self.kv_heads) * self.head_dim

    @property
    def output_width(self) -> int:
        """Inputs of the output projection."""
        return self.heads * self.head_dim

    def projections(self, hidden: int) -> tuple[tuple[int, int], ...]:
        """(inputs, outputs) of the linear layers."""
        return ((hidden, self.qkv_width), (self.output_width, hidden))

    def linear_parameters(self, hidden: int) -> int:
        """Weights of the projections of one layer."""
        return sum(inputs * outputs for inputs, outputs in self.projections(hidden))

    def other_parameters(self, hidden: int) -> int:
        """Biases, norms and sinks of one layer."""
        bias = self.qkv_width * self.qkv_bias + hidden * self.output_bias
        return bias + 2 * self.head_dim * self.qk_norm + self.heads * self.sinks

    def flops(self, attended: int) -> int:
        """FLOPs of one layer for (query, key) pairs attended to: scores and values, 2 each per number."""
        return 4 * self.heads * self.head_dim * attended

    def chunk_flops(self, new: int, history: int) -> int:
        """FLOPs of one layer for a chunk of `new` tokens on `history` tokens."""
        return self.flops(attended_pairs(new, history, self.window))

    @property
    def flops_a_token(self) -> int:
        """FLOPs of one layer for each token that a decode row attends to."""
        return self.flops(1)

    def row_flops(self, context: int) -> int:
        """FLOPs of one layer for a decode row that could attend to `context` tokens, itself included."""
        return self.flops_a_token * min(context, self.window or context)

    def kv_numbers(self) -> int:
        """Numbers one token keeps in the KV cache of one layer."""
        return 2 * self.kv_heads * self.head_dim

    def shard(self, ranks: int) -> GroupedAttention:
        """What one of `ranks` tensor-parallel ranks holds; too few KV heads are held more than once."""
        if self.heads % ranks or (self.kv_heads % ranks and ranks % self.kv_heads):
            raise InputError(
                f"tensor_parallel_size: {ranks} does not divide {self.heads} attention heads "
                f"and {self.kv_heads} KV heads; use a divisor of the former that divides the latter, "
                "or is a multiple of it"
            )
        return replace(self, heads=self.heads // ranks, kv_heads=max(1, self.kv_heads // ranks))


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1).

    A token keeps one latent of `latent` numbers and one rotary key of `rope_dim`, shared by all heads.
    A head's query and key have `nope_dim` + `rope_dim` numbers, its value `value_dim`. Queries come
    through a latent of `query_latent` numbers (0: straight from the hidden state).

    As vLLM does it: chunks attend as plain heads, for which the keys and values of the history are made
    from their latents again; decode rows attend in the latent space, with the up-projection absorbed
    into query and output, so that keys have `latent` + `rope_dim` numbers and values `latent`.
    """

    heads: int
    latent: int
    query_latent: int
    nope_dim: int
    rope_dim: int
    value_dim: int
    window: int | None = None

    @property
    def up_width(self) -> int:
        """Keys and values of all heads that are made from a latent."""
        return self.heads * (self.nope_dim + self.value_dim)

    def projections(self, hidden: int) -> tuple[tuple[int, int], ...]:
        """(inputs, outputs) of the linear layers: down, up, output. The down-projections are not cut."""
        queries = self.heads * (self.nope_dim + self.rope_dim)
        down = self.query_latent + self.latent + self.rope_dim
        if not self.query_latent:
            query = ((hidden, queries), (hidden, down))
        else:
            query = ((hidden, down), (self.query_latent, queries))
        return (*query, (self.latent, self.up_width), (self.heads * self.value_dim, hidden))

    def linear_parameters(self, hidden: int) -> int:
        """Weights of the projections of one layer."""
        return sum(inputs * outputs for inputs, outputs in self.projections(hidden))

    def other_parameters(self, hidden: int) -> int:
        """Norms of the latents of one layer."""
        return self.query_latent + self.latent

    def flops(self, attended: int) -> int:
        """FLOPs of one layer for (query, key) pairs of chunks."""
        return 2 * self.heads * (self.nope_dim + self.rope_dim + self.value_dim) * attended

    def chunk_flops(self, new: int, history: int) -> int:
        """FLOPs of one layer for a chunk of `new` tokens on `history` tokens, made up again from latents."""
        return self.flops(attended_pairs(new, history)) + 2 * self.latent * self.up_width * history

    @property
    def flops_a_token(self) -> int:
        """FLOPs of one layer for each latent that a decode row attends to."""
        return 2 * self.heads * (2 * self.latent + self.rope_dim)

    def row_flops(self, context: int) -> int:
        """FLOPs of one layer for a decode row that attends to `context` latents, its own included."""
        return self.flops_a_token * context

    def kv_numbers(self) -> int:
        """Numbers one token keeps in the KV cache of one layer."""
        return self.latent + self.rope_dim

    def shard(self, ranks: int) -> LatentAttention:
        """What one of `ranks` tensor-parallel ranks holds: its heads, and the whole latent cache."""
        if self.heads % ranks:
            raise InputError(f"tensor_parallel_size: {ranks} does not divide {self.heads} attention heads")
        return replace(self, heads=self.heads // ranks)


@dataclass(frozen=True, slots=True)
class Recurrence:
    """A linear-time mixer: Mamba-2 (arXiv:2405.21060) or a gated delta net (arXiv:2412.06464).

    A sequence keeps a state of `state` numbers, and the last `taps` - 1 inputs of a short convolution over
    `channels`, however long it is. `inputs` is the width of the input projection, `inner` that of the
    output projection's input, `small` the weights beside both. A token costs `token_flops`.
    """

    inputs: int
    inner: int
    channels: int
    taps: int
    state: int
    small: int
    token_flops: int
    window: int | None = None

    @classmethod
    def mamba2(cls, heads: int, head_dim: int, state_dim: int, groups: int, taps: int) -> Recurrence:
        """Per head a state of `head_dim` x `state_dim`; input and output matrices shared by groups of heads.

        The projection makes gate, input, both matrices and a step size. Per number of the state: decay,
        outer product (2) and read-out (2).
        """
        inner, state = heads * head_dim, heads * head_dim * state_dim
        channels = inner + 2 * groups * state_dim
        small = channels * (taps + 1) + 3 * heads + inner
        return cls(inner + channels + heads, inner, channels, taps, state, small, 5 * state)

    @classmethod
    def delta_net(
        cls, key_heads: int, value_heads: int, key_dim: int, value_dim: int, taps: int
    ) -> Recurrence:
        """Per value head a state of `key_dim` x `value_dim`.

        The projection makes queries, keys, values, a gate, and two scalars a value head. Per number of the
        state: decay, what it holds for the key (2), outer product (2) and read-out (2).
        """
        inner, state = value_heads * value_dim, value_heads * key_dim * value_dim
        channels = 2 * key_heads * key_dim + inner
        small = channels * taps + 2 * value_heads + value_dim
        return cls(channels + inner + 2 * value_heads, inner, channels, taps, state, small, 7 * state)

    def projections(self, hidden: int) -> tuple[tuple[int, int], ...]:
        """(inputs, outputs) of the linear layers."""
        return ((hidden, self.inputs), (self.inner, hidden))

    def linear_parameters(self, hidden: int) -> int:
        """Weights of the projections of one layer."""
        return hidden * (self.inputs + self.inner)

    def other_parameters(self, hidden: int) -> int:
        """Convolution, decays, steps and norm of one layer."""
        return self.small

    def flops(self, attended: int) -> int:
        """There are no (query, key) pairs."""
        return 0

    def chunk_flops(self, new: int, history: int) -> int:
        """FLOPs of one layer's recurrence and convolution over `new` tokens."""
        return new * (self.token_flops + 2 * self.channels * self.taps)

    @property
    def flops_a_token(self) -> int:
        """Nothing depends on how long the sequence is."""
        return 0

    def row_flops(self, context: int) -> int:
        """FLOPs of one layer's recurrence for one token."""
        return self.chunk_flops(1, 0)

    def kv_numbers(self) -> int:
        """A token keeps nothing of its own."""
        return 0

    def convolution_numbers(self) -> int:
        """Inputs of the convolution that one sequence keeps in one layer, beside its `state`."""
        return self.channels * (self.taps - 1)

    def shard(self, ranks: int) -> Recurrence:
        """What one of `ranks` tensor-parallel ranks holds: an equal part of everything."""
        parts = (self.inner, self.channels, self.state)
        if any(part % ranks for part in parts):
            raise InputError(f"tensor_parallel_size: {ranks} does not divide the recurrent layers' {parts}")
        return replace(
            self,
            inputs=-(-self.inputs // ranks),
            inner=self.inner // ranks,
            channels=self.channels // ranks,
            state=self.state // ranks,
            small=-(-self.small // ranks),
            token_flops=self.token_flops // ranks,
        )


Mixer = GroupedAttention | LatentAttention | Recurrence

NO_MIXER = GroupedAttention(0, 0, 0)
"""Of a layer that is a feed-forward alone."""


@dataclass(frozen=True, slots=True)
class FeedForward:
    """Gated feed-forward of a layer: a part every token passes, and experts of which it passes a few.

    `width` is the intermediate size of the dense layer, or of the shared experts together (0 = none).
    `matrices` is 3 where there is a gate, else 2. `shared_gate`: the shared experts' output is scaled by
    a weight of its own.
    """

    width: int
    experts: int = 0
    experts_per_token: int = 0
    expert_width: int = 0
    expert_bias: bool = False
    router_bias: bool = False
    shared_gate: bool = False
    matrices: int = 3

    def shared_parameters(self, hidden: int) -> int:
        """Weights every token passes: the dense part and the router."""
        return self.matrices * hidden * self.width + hidden * (self.experts + self.shared_gate)

    def expert_parameters(self, hidden: int) -> int:
        """Weights of one expert."""
        return self.matrices * hidden * self.expert_width

    def other_parameters(self, hidden: int) -> int:
        """Biases of router and experts."""
        return self.experts * ((1 + 2 * self.expert_width + hidden) * self.expert_bias + self.router_bias)

    def shard(self, ranks: int) -> FeedForward:
        """The dense part of one of `ranks` tensor-parallel ranks, and all experts, which ranks share out
        in another way (see `Deployment.awake_experts`)."""
        if self.width % ranks or self.expert_width % ranks:
            raise InputError(
                f"tensor_parallel_size: {ranks} does not divide the feed-forward width "
                f"{self.width or self.expert_width}"
            )
        return replace(self, width=self.width // ranks)


@dataclass(frozen=True, slots=True)
class LayerGroup:
    """`count` layers that are alike, with so many norms of the residual stream."""

    count: int
    attention: Mixer
    feed_forward: FeedForward
    norms: int = 2

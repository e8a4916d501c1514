"""What a model weighs: parameters, KV bytes and FLOPs, from its Hugging Face `config.json`.

A model is a stack of layer groups. A group says how many layers it stands for, how they attend and
what feed-forward they have, so that a model whose layers differ (a dense first layer before sparse
ones, windows on every other layer) is a few groups, and a new kind of attention is one more class
beside `GroupedAttention`.

Counting, per layer, with d = hidden, H query heads, K key/value heads of size h, m = width:
attention has d(H + 2K)h + Hhd weights, a dense feed-forward 3dm (gate, up, down), a sparse one
experts x 3dm plus the router's d x experts plus the shared experts' 3d x their width. A linear layer
costs 2 FLOPs per weight and token; attention costs 4Hh FLOPs per layer and attended token (2Hh each
for scores and values). A token keeps 2Kh numbers of KV per layer.
"""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from agentservesim.lookup import did_you_mean
from agentservesim.model import InputError
from agentservesim.settings import read_text

Quantization = Literal["none", "fp8", "mxfp4"]

DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4, "fp8": 1}
"""Bytes of a number, by vLLM's name of its type."""

MXFP4_BYTES = 4.25 / 8
"""An MXFP4 weight: 4 bits and its share of an 8-bit scale per 32 weights (OCP microscaling formats)."""

_UNSUPPORTED = {
    "kv_lora_rank": "multi-head latent attention",
    "mamba_d_state": "Mamba layers",
    "ssm_state_size": "Mamba layers",
    "linear_num_value_heads": "linear attention layers",
    "num_encoder_layers": "encoder-decoder models",
}


@dataclass(frozen=True, slots=True)
class GroupedAttention:
    """Softmax attention of `heads` query heads that share `kv_heads` key/value heads (GQA, MQA, MHA).

    `window` is the most tokens a token attends to, itself included; None means all before it.
    """

    heads: int
    kv_heads: int
    head_dim: int
    window: int | None = None
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: bool = False
    sinks: bool = False

    @property
    def qkv_width(self) -> int:
        """Outputs of the fused query, key and value projection."""
        return (self.heads + 2 * self.kv_heads) * self.head_dim

    @property
    def output_width(self) -> int:
        """Inputs of the output projection."""
        return self.heads * self.head_dim

    def linear_parameters(self, hidden: int) -> int:
        """Weights of the projections of one layer."""
        return hidden * (self.qkv_width + self.output_width)

    def other_parameters(self, hidden: int) -> int:
        """Biases, norms and sinks of one layer."""
        bias = self.qkv_width * self.qkv_bias + hidden * self.output_bias
        return bias + 2 * self.head_dim * self.qk_norm + self.heads * self.sinks

    def flops(self, attended: int) -> int:
        """FLOPs of one layer for (query, key) pairs attended to: scores and values, 2 each per number."""
        return 4 * self.heads * self.head_dim * attended

    def kv_numbers(self) -> int:
        """Numbers one token keeps in the KV cache of one layer."""
        return 2 * self.kv_heads * self.head_dim

    def shard(self, ranks: int) -> GroupedAttention:
        """What one of `ranks` tensor-parallel ranks holds; too few KV heads are held more than once."""
        if self.heads % ranks or (self.kv_heads % ranks and ranks % self.kv_heads):
            raise InputError(
                f"tensor_parallel_size: {ranks} does not divide {self.heads} attention heads "
                f"and {self.kv_heads} KV heads; use a divisor of both"
            )
        return GroupedAttention(
            self.heads // ranks,
            max(1, self.kv_heads // ranks),
            self.head_dim,
            self.window,
            self.qkv_bias,
            self.output_bias,
            self.qk_norm,
            self.sinks,
        )


@dataclass(frozen=True, slots=True)
class FeedForward:
    """Gated feed-forward of a layer: a part every token passes, and experts of which it passes a few.

    `width` is the intermediate size of the dense layer, or of the shared experts together (0 = none).
    """

    width: int
    experts: int = 0
    experts_per_token: int = 0
    expert_width: int = 0
    expert_bias: bool = False

    def shared_parameters(self, hidden: int) -> int:
        """Weights every token passes: the dense part and the router."""
        return 3 * hidden * self.width + hidden * self.experts

    def expert_parameters(self, hidden: int) -> int:
        """Weights of one expert."""
        return 3 * hidden * self.expert_width

    def other_parameters(self, hidden: int) -> int:
        """Biases of router and experts."""
        return self.experts * (1 + 2 * self.expert_width + hidden) * self.expert_bias

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
    """`count` layers that are alike."""

    count: int
    attention: GroupedAttention
    feed_forward: FeedForward


@dataclass(frozen=True, slots=True)
class Model:
    """A decoder-only transformer. `vocabulary` is its embedding's rows; `tied` shares them with the head."""

    name: str
    hidden: int
    vocabulary: int
    tied: bool
    groups: tuple[LayerGroup, ...]
    dtype: str = "bfloat16"
    quantization: Quantization = "none"
    max_model_len: int | None = None

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
        attention = sum(
            g.count * g.attention.flops(min(context, g.attention.window or context)) for g in self.groups
        )
        return 2 * self.active_parameters + attention

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
                attention.other_parameters(self.hidden) + mlp.other_parameters(self.hidden) + 2 * self.hidden
            )
            experts = mlp.experts * mlp.expert_parameters(self.hidden) * expert / (expert_ways or ranks)
            layers += group.count * (cut * linear + (router + small) * size + experts)
        return total + round(layers * -(-self.layers // stages) / self.layers)

    def kv_bytes_per_token(self, dtype: str = "auto", ranks: int = 1) -> int:
        """KV cache bytes a token keeps on one rank, in the layers that keep every token.

        Layers with a window keep at most the window and are left out where others have none: vLLM's
        hybrid KV cache manager gives them blocks of their own and frees those out of the window.
        """
        size = DTYPE_BYTES[self.dtype if dtype == "auto" else dtype]
        growing = [g for g in self.groups if g.attention.window is None] or list(self.groups)
        return size * sum(g.count * g.attention.shard(ranks).kv_numbers() for g in growing)

    def _layer_parameters(self, group: LayerGroup) -> int:
        attention, mlp = group.attention, group.feed_forward
        linear = attention.linear_parameters(self.hidden) + mlp.shared_parameters(self.hidden)
        experts = mlp.experts * mlp.expert_parameters(self.hidden)
        other = attention.other_parameters(self.hidden) + mlp.other_parameters(self.hidden)
        return linear + experts + other + 2 * self.hidden


def load_model(name: str) -> Model:
    """A model by catalogue name, Hub name, or path of a `config.json` or of the folder that holds one.

    Raises InputError for a name that is neither, and for a config that cannot be read.
    """
    path = Path(name)
    if path.suffix == ".json" or path.is_dir():
        return _read_config(path / "config.json" if path.is_dir() else path)
    names = _names()
    key = names.get(name.lower())
    if key is None:
        hint = did_you_mean(name.lower(), names)
        raise InputError(
            f"model: '{name}' is not in the catalogue and is no config.json (see `list models`){hint}"
        )
    return from_config(_catalogue()[key]["config"], key, f"catalogue entry '{key}'")


def list_models() -> dict[str, str]:
    """Catalogue names with a one-line description."""
    lines = {}
    for name, entry in _catalogue().items():
        model = from_config(entry["config"], name, name)
        billions, active = model.parameters / 1e9, model.active_parameters / 1e9
        sparse = f", {active:.1f} B active" if active < 0.7 * billions else ""
        kv = model.kv_bytes_per_token() / 1024
        lines[name] = f"{entry['hub']}: {billions:.1f} B parameters{sparse}, {kv:.0f} KiB of KV a token"
    return lines


def from_config(config: Mapping[str, Any], name: str, place: str) -> Model:
    """A model from the keys of a Hugging Face `config.json`; `place` names it in errors.

    Raises InputError for missing or impossible values and for architectures not modelled.
    """
    config = config.get("text_config", config)
    for key, what in _UNSUPPORTED.items():
        if config.get(key):
            raise InputError(
                f"{place}: {what} ('{key}') are not modelled; use a model with grouped attention"
            )
    read = _Reader(config, place)
    layers = read.positive("num_hidden_layers")
    hidden, heads = read.positive("hidden_size"), read.positive("num_attention_heads")
    kinds = Counter(
        (_attention(read, layer, hidden, heads), _feed_forward(read, layer)) for layer in range(layers)
    )
    dtype = str(config.get("torch_dtype") or config.get("dtype") or "bfloat16")
    if dtype not in DTYPE_BYTES:
        raise InputError(f"{place}: torch_dtype '{dtype}' is unknown; one of {', '.join(DTYPE_BYTES)} is")
    return Model(
        name=name,
        hidden=hidden,
        vocabulary=read.positive("vocab_size"),
        tied=bool(config.get("tie_word_embeddings", False)),
        groups=tuple(LayerGroup(count, *kind) for kind, count in kinds.items()),
        dtype=dtype,
        quantization=_quantization(config, place),
        max_model_len=read.positive("max_position_embeddings", 0) or None,
    )


class _Reader:
    """Typed access to a config's keys."""

    def __init__(self, config: Mapping[str, Any], place: str) -> None:
        self.config = config
        self.place = place

    def positive(self, key: str, default: int | None = None) -> int:
        value = self.config.get(key)
        if value is None:
            if default is None:
                raise InputError(f"{self.place}: '{key}' is missing; a model needs it")
            return default
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{self.place}: '{key}' is {value!r}; it must be a positive whole number")
        return value

    def first(self, *keys: str) -> int:
        """The first of several names that a value goes by; 0 where there is none."""
        return next((self.positive(key) for key in keys if self.config.get(key)), 0)


def _attention(read: _Reader, layer: int, hidden: int, heads: int) -> GroupedAttention:
    config = read.config
    kv_heads = read.positive("num_key_value_heads", heads)
    if heads % kv_heads:
        raise InputError(f"{read.place}: 'num_key_value_heads' is {kv_heads}; it must divide {heads} heads")
    kind = str(config.get("model_type", ""))
    bias = bool(config.get("attention_bias", kind == "qwen2"))
    return GroupedAttention(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=read.positive("head_dim", max(1, hidden // heads)),
        window=_window(read, layer),
        qkv_bias=bias,
        output_bias=bias and kind != "qwen2",
        qk_norm=kind in ("qwen3", "qwen3_moe"),
        sinks=kind == "gpt_oss",
    )


def _window(read: _Reader, layer: int) -> int | None:
    if not read.config.get("sliding_window") or read.config.get("use_sliding_window") is False:
        return None
    kinds = read.config.get("layer_types")
    if isinstance(kinds, list) and layer < len(kinds) and kinds[layer] != "sliding_attention":
        return None
    return read.positive("sliding_window")


def _feed_forward(read: _Reader, layer: int) -> FeedForward:
    config = read.config
    experts = read.first("num_experts", "num_local_experts", "n_routed_experts")
    step = read.positive("decoder_sparse_step", 1)
    dense = layer in (config.get("mlp_only_layers") or ()) or (layer + 1) % step
    if not experts or dense or layer < int(config.get("first_k_dense_replace") or 0):
        return FeedForward(read.positive("intermediate_size"))
    width = read.first("moe_intermediate_size", "intermediate_size")
    shared = read.first("shared_expert_intermediate_size") or width * read.first("n_shared_experts")
    return FeedForward(
        width=shared,
        experts=experts,
        experts_per_token=read.first("num_experts_per_tok", "experts_per_token") or 1,
        expert_width=width,
        expert_bias=config.get("model_type") == "gpt_oss",
    )


def _quantization(config: Mapping[str, Any], place: str) -> Quantization:
    section = config.get("quantization_config")
    if not section:
        return "none"
    method = section.get("quant_method") if isinstance(section, Mapping) else section
    if method in ("fp8", "mxfp4"):
        return "fp8" if method == "fp8" else "mxfp4"
    raise InputError(f"{place}: quantization '{method}' is not modelled; fp8 and mxfp4 are")


def _read_config(path: Path) -> Model:
    try:
        config = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON ({error.msg})") from None
    if not isinstance(config, dict):
        raise InputError(f"{path}: a config.json holds one object, this is a {type(config).__name__}")
    return from_config(config, path.resolve().parent.name, str(path))


@cache
def _catalogue() -> dict[str, dict[str, Any]]:
    text = resources.files("agentservesim.cost").joinpath("catalogue/models.toml").read_text("utf-8")
    return tomllib.loads(text)


def _names() -> dict[str, str]:
    """Every lower-case name a catalogue entry goes by."""
    names = {}
    for key, entry in _catalogue().items():
        hub = entry["hub"].lower()
        for name in (key, hub, hub.rsplit("/", 1)[-1], *entry.get("aliases", ())):
            names[name] = key
        for alias in entry.get("aliases", ()):
            names[f"{hub.split('/', 1)[0]}/{alias}"] = key
    return names

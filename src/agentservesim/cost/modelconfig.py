"""Models from their Hugging Face `config.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from agentservesim.cost.layers import (
    NO_MIXER,
    FeedForward,
    GroupedAttention,
    LatentAttention,
    LayerGroup,
    Mixer,
    Recurrence,
)
from agentservesim.cost.models import DTYPE_BYTES, Model, Quantization
from agentservesim.model import InputError

_UNSUPPORTED = {
    "num_encoder_layers": "encoder-decoder models",
    "mamba_dt_rank": "Mamba-1 layers",
    "index_topk": "sparse attention by an indexer",
    "attention_chunk_size": "attention in chunks",
}

_QK_NORM = ("qwen3", "qwen3_moe", "qwen3_next", "gemma3", "gemma3_text")
_FOUR_NORMS = ("gemma2", "gemma3", "gemma3_text")
_FORMAT = {"compressed-tensors": "format", "modelopt": "quant_algo"}
_FP8 = (("compressed-tensors", "float-quantized"), ("modelopt", "FP8"), ("fbgemm_fp8", None))
"""Key by which a quantiser says what it made, and what it says of fp8."""

_TIED = ("gemma", "gemma2", "gemma3", "gemma3_text")


def from_config(config: Mapping[str, Any], name: str, place: str) -> Model:
    """A model from the keys of a Hugging Face `config.json`; `place` names it in errors.

    Raises InputError for missing or impossible values and for architectures not modelled.
    """
    config = {**config, **(config.get("text_config") or {})}
    for key, what in _UNSUPPORTED.items():
        if config.get(key):
            raise InputError(f"{place}: {what} ('{key}') are not modelled; use another model")
    read = _Reader(config, place)
    layers = read.positive("num_hidden_layers")
    kinds = Counter(_layer(read, layer) for layer in range(layers))
    dtype = str(config.get("torch_dtype") or config.get("dtype") or "bfloat16")
    if dtype not in DTYPE_BYTES:
        raise InputError(f"{place}: torch_dtype '{dtype}' is unknown; one of {', '.join(DTYPE_BYTES)} is")
    state_dtype = config.get("mamba_ssm_dtype")
    return Model(
        name=name,
        hidden=read.positive("hidden_size"),
        vocabulary=read.positive("vocab_size"),
        tied=bool(config.get("tie_word_embeddings", read.kind in _TIED)),
        groups=tuple(LayerGroup(count, *kind) for kind, count in kinds.items()),
        dtype=dtype,
        quantization=_quantization(config, place),
        max_model_len=read.positive("max_position_embeddings", 0) or None,
        state_dtype=state_dtype if state_dtype in DTYPE_BYTES else None,
    )


class _Reader:
    """Typed access to a config's keys."""

    def __init__(self, config: Mapping[str, Any], place: str) -> None:
        self.config = config
        self.place = place
        self.kind = str(config.get("model_type", ""))

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

    def needed(self, *keys: str) -> int:
        """The first of several names that a value goes by, one of which must be there."""
        return self.first(*keys) or self.positive(keys[0])


def _layer(read: _Reader, layer: int) -> tuple[Mixer, FeedForward, int]:
    """Mixer, feed-forward and number of norms of a layer."""
    pattern = read.config.get("hybrid_override_pattern")
    if pattern is None:
        norms = 4 if read.kind in _FOUR_NORMS else 2
        return _mixer(read, layer), _feed_forward(read, layer), norms
    # Nemotron-H: a layer is one thing, by the letters of a pattern.
    letter = pattern[layer] if isinstance(pattern, str) and layer < len(pattern) else "?"
    nothing = FeedForward(0)
    if letter == "M":
        return _mamba2(read), nothing, 1
    if letter == "*":
        return _grouped(read, layer), nothing, 1
    if letter == "-":
        return NO_MIXER, FeedForward(read.positive("intermediate_size"), matrices=2), 1
    raise InputError(
        f"{read.place}: layer {layer} of 'hybrid_override_pattern' is '{letter}'; M, * and - are modelled"
    )


def _mixer(read: _Reader, layer: int) -> Mixer:
    if read.config.get("kv_lora_rank"):
        return LatentAttention(
            heads=read.positive("num_attention_heads"),
            latent=read.positive("kv_lora_rank"),
            query_latent=read.first("q_lora_rank"),
            nope_dim=read.positive("qk_nope_head_dim"),
            rope_dim=read.positive("qk_rope_head_dim"),
            value_dim=read.positive("v_head_dim"),
        )
    kind = _kind(read, layer)
    if kind == "linear_attention":
        return Recurrence.delta_net(
            read.positive("linear_num_key_heads"),
            read.positive("linear_num_value_heads"),
            read.positive("linear_key_head_dim"),
            read.positive("linear_value_head_dim"),
            read.positive("linear_conv_kernel_dim"),
        )
    return _mamba2(read) if kind in ("mamba", "mamba2") else _grouped(read, layer, kind)


def _kind(read: _Reader, layer: int) -> str:
    """What `layer_types` calls a layer, or what it would."""
    kinds = read.config.get("layer_types") or read.config.get("layers_block_type")
    if isinstance(kinds, list) and layer < len(kinds):
        return str(kinds[layer])
    if read.config.get("linear_num_value_heads"):
        every = read.positive("full_attention_interval", 4)
        return "linear_attention" if (layer + 1) % every else "full_attention"
    if read.first("mamba_n_heads", "mamba_num_heads"):
        attending = read.config.get("attn_layer_indices") or ()
        return "attention" if layer in attending else "mamba"
    if not read.config.get("sliding_window") or read.config.get("use_sliding_window") is False:
        return "full_attention"
    every = read.first("sliding_window_pattern") or {"gemma2": 2}.get(read.kind, 0)
    return "full_attention" if every and (layer + 1) % every == 0 else "sliding_attention"


def _mamba2(read: _Reader) -> Recurrence:
    return Recurrence.mamba2(
        read.needed("mamba_n_heads", "mamba_num_heads"),
        read.needed("mamba_d_head", "mamba_head_dim"),
        read.needed("mamba_d_state", "ssm_state_size"),
        read.needed("mamba_n_groups", "n_groups"),
        read.needed("mamba_d_conv", "conv_kernel"),
    )


def _grouped(read: _Reader, layer: int, kind: str = "") -> GroupedAttention:
    config = read.config
    heads, hidden = read.positive("num_attention_heads"), read.positive("hidden_size")
    kv_heads = read.positive("num_key_value_heads", heads)
    if heads % kv_heads:
        raise InputError(f"{read.place}: 'num_key_value_heads' is {kv_heads}; it must divide {heads} heads")
    bias = bool(config.get("attention_bias", read.kind in ("qwen2", "qwen2_moe")))
    return GroupedAttention(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=read.positive("head_dim", max(1, hidden // heads)),
        window=read.positive("sliding_window") if kind == "sliding_attention" else None,
        qkv_bias=bias,
        output_bias=bias and not read.kind.startswith("qwen2"),
        qk_norm=read.kind in _QK_NORM or bool(config.get("use_qk_norm")),
        sinks=read.kind == "gpt_oss",
        gated=bool(config.get("attn_output_gate", read.kind == "qwen3_next")),
    )


def _feed_forward(read: _Reader, layer: int) -> FeedForward:
    config = read.config
    experts = read.first("num_experts", "num_local_experts", "n_routed_experts")
    step = read.positive("decoder_sparse_step", 1)
    dense = layer in (config.get("mlp_only_layers") or ()) or (layer + 1) % step
    if not experts or dense or layer < int(config.get("first_k_dense_replace") or 0):
        return FeedForward(read.needed("intermediate_size", "shared_intermediate_size"))
    width = read.first("moe_intermediate_size", "intermediate_size")
    shared = read.first("shared_expert_intermediate_size", "shared_intermediate_size")
    return FeedForward(
        width=shared or width * read.first("n_shared_experts"),
        experts=experts,
        experts_per_token=read.first("num_experts_per_tok", "experts_per_token") or 1,
        expert_width=width,
        expert_bias=read.kind == "gpt_oss",
        router_bias=config.get("topk_method") == "noaux_tc",
        shared_gate=read.kind in ("qwen2_moe", "qwen3_next"),
    )


def _quantization(config: Mapping[str, Any], place: str) -> Quantization:
    section = config.get("quantization_config")
    if not section:
        return "none"
    method = section.get("quant_method") if isinstance(section, Mapping) else section
    if isinstance(section, Mapping) and (method, section.get(_FORMAT.get(str(method), ""))) in _FP8:
        method = "fp8"
    if method in ("fp8", "mxfp4"):
        return "fp8" if method == "fp8" else "mxfp4"
    raise InputError(f"{place}: quantization '{method}' is not modelled; fp8 and mxfp4 are")

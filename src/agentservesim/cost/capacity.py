"""How many KV blocks fit, computed as vLLM's memory profiling does.

vLLM takes `utilisation x memory` and takes off the weights, the peak of activations in a trial run of
`max_num_batched_tokens` tokens and a trial sampling of `max_num_seqs` sequences, CUDA graphs, and what
libraries allocate outside the tensor pool; the rest is blocks. Checked against two servers: 2,612 blocks
for 2,588 (RTX 4090, Llama-3.1-8B, vLLM 0.19), 17,970 for 18,038 (H100, Qwen3-14B, vLLM 0.23, default
utilisation 0.92).

Of models with windows only the layers without one are counted, and recurrent layers get a state for each
of `max_num_seqs` sequences first. vLLM takes windows and states from the same blocks, as sequences run:
so it has fewer left for short contexts under windows, and more for few sequences beside states.
"""

from __future__ import annotations

from agentservesim.cost.deployment import Deployment
from agentservesim.cost.layers import LayerGroup
from agentservesim.cost.models import DTYPE_BYTES
from agentservesim.model import InputError


def activation_peak_bytes(on: Deployment, max_num_batched_tokens: int, max_num_seqs: int) -> int:
    """Peak of activations of the two trial runs on one rank.

    Forward: residual and hidden states, and the widest layer's input and output. Sampling: logits in
    the model's type and in float32, and sorted copies of them (float32 values, int64 indices, twice).
    """
    model = on.model
    size = DTYPE_BYTES[model.dtype]
    states = 2 * max_num_batched_tokens * model.hidden * size
    widest = max(max(_mixer_width(on, g), _feed_forward_width(on, g)) for g in on.groups)
    forward = states + max_num_batched_tokens * widest * size
    sampling = states + min(max_num_seqs, max_num_batched_tokens) * model.vocabulary * (
        size + 4 + 2 * (4 + 8)
    )
    return max(forward, sampling)


def _mixer_width(on: Deployment, group: LayerGroup) -> int:
    """Numbers a token has in flight in the widest place of a mixer: outputs of its projections."""
    *inner, last = group.attention.projections(on.model.hidden)
    return sum(outputs for _, outputs in inner) + last[0]


def _feed_forward_width(on: Deployment, group: LayerGroup) -> int:
    """Numbers a token has in flight in a feed-forward; the experts get the tokens of all engines."""
    mlp = group.feed_forward
    dense = mlp.matrices * mlp.width
    expert = mlp.matrices * mlp.expert_width // on.ranks + on.model.hidden
    return dense + on.engines * mlp.experts_per_token * (expert if mlp.experts else 0)


OUTSIDE_BYTES = 160 * 2**20
"""CUDA graphs, and memory outside the tensor pool: cuBLAS and attention workspaces, NCCL buffers."""


def kv_blocks(
    on: Deployment,
    *,
    block_size: int,
    max_num_batched_tokens: int,
    max_num_seqs: int,
    gpu_memory_utilization: float,
) -> int:
    """KV blocks of one instance. Raises InputError where the model does not fit, with what would."""
    usable = int(on.accelerator.memory_bytes * gpu_memory_utilization)
    weights = on.weight_bytes
    peak = activation_peak_bytes(on, max_num_batched_tokens, max_num_seqs) + OUTSIDE_BYTES
    states = max_num_seqs * on.on_stage(on.model.state_bytes(on.ranks))
    block_bytes = block_size * on.on_stage(on.model.kv_bytes_per_token(on.kv_dtype, on.ranks))
    blocks = (usable - weights - peak - states) // block_bytes
    if blocks < 2:
        gib = 2**30
        recurrent = f" and states of {max_num_seqs} sequences {states / gib:.1f} GiB" if states else ""
        fewer = ", or lower max_num_seqs" if states else ""
        raise InputError(
            f"gpu: {on.model.name} does not fit on {on.ranks} x {on.accelerator.name}: weights "
            f"{weights / gib:.1f} GiB and activations {peak / gib:.1f} GiB{recurrent} of "
            f"{usable / gib:.1f} GiB usable a GPU; "
            f"raise tensor_parallel_size or gpu_memory_utilization{fewer}"
        )
    return int(blocks)

"""How many KV blocks fit, computed as vLLM's memory profiling does.

vLLM takes `utilisation x memory` and takes off the weights, the peak of activations in a trial run of
`max_num_batched_tokens` tokens and a trial sampling of `max_num_seqs` sequences, CUDA graphs, and what
libraries allocate outside the tensor pool; the rest is blocks. Checked against two servers: 2,612 blocks
for 2,588 (RTX 4090, Llama-3.1-8B, vLLM 0.19), 17,969 for 18,038 (H100, Qwen3-14B, vLLM 0.23, default
utilisation 0.92).
"""

from __future__ import annotations

from agentservesim.cost.deployment import Deployment
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
    widest = max(
        max(g.attention.qkv_width + g.attention.output_width, 3 * g.feed_forward.width)
        if not g.feed_forward.experts
        else g.feed_forward.experts_per_token * (3 * g.feed_forward.expert_width + model.hidden)
        for g in on.groups
    )
    forward = states + max_num_batched_tokens * widest * size
    sampling = states + min(max_num_seqs, max_num_batched_tokens) * model.vocabulary * (
        size + 4 + 2 * (4 + 8)
    )
    return max(forward, sampling)


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
    block_bytes = block_size * on.model.kv_bytes_per_token(on.kv_dtype, on.ranks)
    blocks = (usable - weights - peak) // block_bytes
    if blocks < 2:
        gib = 2**30
        raise InputError(
            f"gpu: {on.model.name} does not fit on {on.ranks} x {on.accelerator.name}: weights "
            f"{weights / gib:.1f} GiB and activations {peak / gib:.1f} GiB of {usable / gib:.1f} GiB usable "
            "a GPU; raise tensor_parallel_size or gpu_memory_utilization"
        )
    return int(blocks)

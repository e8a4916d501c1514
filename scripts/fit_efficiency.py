"""How much of its data sheet an accelerator reaches, by somebody's profile of one model on it.

    python scripts/fit_efficiency.py MODEL GPU FOLDER

FOLDER holds CSV tables (docs/hardware.md). Prints the efficiencies for the catalogue of accelerators: medians
over the linear layers of many and of few tokens and over long prompts; what a layer's small kernels and the
launch of its attention take with few tokens; the sampler for one sequence.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median

from agentservesim.cost.accelerators import load_accelerator
from agentservesim.cost.deployment import Deployment
from agentservesim.cost.layers import GroupedAttention
from agentservesim.cost.modelnames import load_model
from agentservesim.cost.tablefiles import TIMES_PER_LAYER, OperatorTables, Rows, read_tables

US = 1e-6
LINEAR = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
MANY, FEW = 1024, 16
"""Tokens from which linear layers compute, and up to which they read their weights."""


def main() -> None:
    """Print the table of the catalogue."""
    parser = argparse.ArgumentParser(description="Efficiencies of an accelerator from a profile.")
    parser.add_argument("model")
    parser.add_argument("gpu")
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    on = Deployment(load_model(asked.model), load_accelerator(asked.gpu))
    print(f"[{on.accelerator.name}.efficiency]")
    for name, value in fitted(on, read_tables(asked.folder, 1)).items():
        print(f"{name} = {value:.3g}")


def fitted(on: Deployment, files: OperatorTables) -> dict[str, float]:
    """The efficiencies by name."""
    group = on.groups[0]
    attention, mlp, hidden = group.attention, group.feed_forward, on.model.hidden
    if not isinstance(attention, GroupedAttention) or not mlp.width:
        raise SystemExit(f"{on.model.name}: a dense model with grouped attention is needed")
    shapes = (*attention.projections(hidden), (hidden, (mlp.matrices - 1) * mlp.width), (mlp.width, hidden))
    weights = dict(zip(LINEAR, (inputs * outputs for inputs, outputs in shapes), strict=True))
    linear = [(weights[name], tokens, us) for name in LINEAR for tokens, us in files.dense[name]]
    large = [2 * tokens * size / us for size, tokens, us in linear if tokens >= MANY]
    small = [2 * size / us for size, tokens, us in linear if tokens <= FEW]
    prompts = files.attention[(files.attention[:, 2] == 0) & (files.attention[:, 1] == 0)]
    prompts = prompts[prompts[:, 0] >= MANY]
    attended = [attention.chunk_flops(int(tokens), 0) / us for tokens, us in prompts[:, [0, 4]]]
    alone = files.attention[files.attention[:, 0] == 0]
    kernels = set(TIMES_PER_LAYER) & set(files.dense) - set(weights)
    layer_us = sum(TIMES_PER_LAYER[name] * few(files.dense[name]) for name in kernels) + alone[:, 4].min()
    peak, rate = on.accelerator.bf16_flops, on.accelerator.memory_bytes_per_s
    return {
        "compute": min(1.0, median(large) / US / peak),
        "attention_compute": min(1.0, median(attended) / US / peak),
        "bandwidth": min(1.0, median(small) / US / rate),
        "layer_s": layer_us * US,
        "sampler_s": files.per_sequence["sampler"][0, 1] * US,
    }


def few(rows: Rows) -> float:
    """Microseconds with few tokens."""
    return median(rows[rows[:, 0] <= FEW][:, 1].tolist())


if __name__ == "__main__":
    main()

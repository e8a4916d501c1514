"""Compare shipped measurements with operator tables that somebody else measured on such an accelerator.

    python scripts/compare_profile.py MODEL GPU FOLDER [--tensor-parallel-size N]

FOLDER holds CSV tables (docs/hardware.md). Prints, part by part, the shipped time beside the profiled one and
the relative error: dense operators, head, decode rows, chunks on histories, and steps of both.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from agentservesim.cost.accelerators import load_accelerator
from agentservesim.cost.base import Batch
from agentservesim.cost.composed import compose
from agentservesim.cost.deployment import Deployment
from agentservesim.cost.measured import load_measured
from agentservesim.cost.modelnames import load_model
from agentservesim.cost.operators import Host
from agentservesim.cost.tablefiles import read_tables, step_tables
from agentservesim.cost.tables import Tables

MS = 1e9
LARGEST = 16_384


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Shipped measurements beside a profile.")
    parser.add_argument("model")
    parser.add_argument("gpu")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tensor-parallel-size", type=int, default=1)
    asked = parser.parse_args()
    on = Deployment(load_model(asked.model), load_accelerator(asked.gpu), asked.tensor_parallel_size)
    measured = load_measured(on.accelerator.name)
    if measured is None:
        raise SystemExit(f"no measurements of {on.accelerator.name} ship with the package")
    files = read_tables(asked.folder, on.ranks)
    shipped, profiled = (
        Tables(on, tables, Host()) for tables in (compose(on, measured), step_tables(on, files))
    )
    for tokens in (1, 16, 64, 256, 1024, 2048):
        show(
            f"linear layers and small kernels, {tokens} tokens",
            shipped.dense_ps(tokens),
            profiled.dense_ps(tokens),
        )
    for sequences in (1, 64, 256):
        show(
            f"head and sampler, {sequences} sequences",
            shipped.head_ps(sequences),
            profiled.head_ps(sequences),
        )
    for rows, context in ((1, 1024), (1, 16_384), (8, 4096), (32, 1024), (128, 1024), (256, 4096)):
        show(f"{rows} decode rows on {context} tokens", *attention(shipped, profiled, (), [context] * rows))
    for chunk in ((16, 16_384), (256, 4096), (512, 0), (2048, 0), (2048, 16_384)):
        show(f"chunk of {chunk[0]} tokens on {chunk[1]}", *attention(shipped, profiled, (chunk,), ()))
    points = files.attention
    mixed = points[
        (points[:, 0] > 0) & (points[:, 2] > 0) & (points[:, 1] <= LARGEST) & (points[:, 3] <= LARGEST)
    ]
    errors = []
    for new, history, rows, context, us in mixed:
        batch = Batch.of(shipped.knots, [(int(new), int(history))], [int(context)] * int(rows))
        errors.append(shipped.mixed_ps(batch) / (us * on.model.layers * 1e6) - 1.0)
    print(
        f"{len(errors)} steps of a chunk and decode rows: attention {np.mean(errors):+.1%} on average, "
        f"{np.mean(np.abs(errors)):.1%} absolute"
    )


def attention(
    one: Tables, other: Tables, chunks: Iterable[tuple[int, int]], contexts: Iterable[int]
) -> tuple[int, int]:
    """Picoseconds of a step's attention by two tables."""
    chunks, contexts = tuple(chunks), tuple(contexts)
    times = []
    for tables in (one, other):
        batch = Batch.of(tables.knots, chunks, contexts)
        alone = tables.step_ps(batch) - tables.dense_ps(batch.rows) - tables.head_ps(batch.sampled)
        times.append(tables.mixed_ps(batch) if chunks else alone)
    return times[0], times[1]


def show(what: str, ours_ps: int, theirs_ps: int) -> None:
    """One line."""
    print(f"{what:<48}{ours_ps / MS:>10.3f} ms{theirs_ps / MS:>10.3f} ms{ours_ps / theirs_ps - 1.0:>+9.1%}")


if __name__ == "__main__":
    main()

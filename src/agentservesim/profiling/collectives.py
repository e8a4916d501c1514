"""All-reduce between the GPUs of a machine, by PyTorch's own processes."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from agentservesim.profiling.devices import REPEATS, WARM_UPS

SIZES = tuple(1 << power for power in range(12, 29, 2))
"""Bytes that each rank reduces: 4 KiB to 256 MiB."""


def all_reduce(
    ranks: int, on_gpu: bool = True, sizes: tuple[int, ...] = SIZES
) -> Iterator[tuple[str, int, int, float]]:
    """(operation, ranks, bytes, microseconds) of sums over all ranks, in bfloat16, as rank 0 sees them."""
    from torch import multiprocessing

    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder, "times.json")
        arguments = (ranks, on_gpu, sizes, str(Path(folder, "rendezvous")), str(found))
        multiprocessing.spawn(_rank, args=arguments, nprocs=ranks)
        for size, took_us in json.loads(found.read_text()):
            yield "all_reduce", ranks, size, took_us


def _rank(rank: int, ranks: int, on_gpu: bool, sizes: tuple[int, ...], meeting: str, found: str) -> None:
    import torch
    from torch import distributed

    distributed.init_process_group(
        "nccl" if on_gpu else "gloo", init_method=f"file://{meeting}", rank=rank, world_size=ranks
    )
    device = torch.device("cuda", rank) if on_gpu else torch.device("cpu")

    def settle() -> None:
        if on_gpu:
            torch.cuda.synchronize(device)

    rows = []
    for size in sizes:
        numbers, times = torch.zeros(size // 2, dtype=torch.bfloat16, device=device), []
        for repeat in range(WARM_UPS + REPEATS):
            distributed.barrier()
            settle()
            begin = time.perf_counter_ns()
            distributed.all_reduce(numbers)
            settle()
            if repeat >= WARM_UPS:
                times.append((time.perf_counter_ns() - begin) / 1e3)
        rows.append((size, statistics.median(times)))
    if rank == 0:
        Path(found).write_text(json.dumps(rows))
    distributed.destroy_process_group()

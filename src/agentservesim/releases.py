"""vLLM releases: what differs between those that are known, with the place in vLLM's source.

Of 0.19, 0.26 and 0.32 the sources were read. Of 0.12 the scheduling rules are known; its default limits
and CUDA graphs are taken to be those of 0.19.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

EngineVersion = Literal["0.12", "0.19", "0.26", "0.32"]
"""Releases whose rules are known."""


@dataclass(frozen=True, slots=True)
class Release:
    """One release. Scheduling (`v1/core`):

    reserve_full: a request is admitted only if its whole known sequence fits (from 0.19).
    blanks_first: blocks without content are freed to the head of the free queue (from 0.26),
        before that to its tail with all others.
    watermark: the `watermark` setting exists (from 0.26).
    lone_uncapped: `long_prefill_token_threshold` does not bind a request that is alone (from 0.32).

    Defaults:

    async_scheduling: scheduling is asynchronous unless it cannot be (`VllmConfig`, from 0.14).
    gpu_memory_utilization: share of the memory that is used (`CacheConfig`).
    largest_limits: accelerators of 160 GiB and more have batch limits of their own
        (`EngineArgs.get_batch_defaults`, from 0.32).

    CUDA graphs (`VllmConfig._set_cudagraph_sizes`):

    budget_captured: a small token budget is a captured size (from 0.26).
    seqs_captured: so is the most sequences that run (from 0.32).
    largest_graph: tokens of the largest graph on data-centre Blackwell, elsewhere 512.
    """

    reserve_full: bool
    blanks_first: bool
    watermark: bool
    lone_uncapped: bool
    async_scheduling: bool = True
    gpu_memory_utilization: float = 0.92
    largest_limits: bool = False
    budget_captured: bool = True
    seqs_captured: bool = False
    largest_graph: int = 512


RELEASES: dict[str, Release] = {
    "0.12": Release(
        reserve_full=False,
        blanks_first=False,
        watermark=False,
        lone_uncapped=False,
        async_scheduling=False,
        gpu_memory_utilization=0.9,
        budget_captured=False,
    ),
    "0.19": Release(
        reserve_full=True,
        blanks_first=False,
        watermark=False,
        lone_uncapped=False,
        gpu_memory_utilization=0.9,
        budget_captured=False,
    ),
    "0.26": Release(reserve_full=True, blanks_first=True, watermark=True, lone_uncapped=False),
    "0.32": Release(
        reserve_full=True,
        blanks_first=True,
        watermark=True,
        lone_uncapped=True,
        largest_limits=True,
        seqs_captured=True,
        largest_graph=1024,
    ),
}


class BatchLimits(NamedTuple):
    """Token budget of a step, and most requests that run at once."""

    max_num_batched_tokens: int
    max_num_seqs: int


def batch_limits(version: EngineVersion, device: str, memory_bytes: int) -> BatchLimits:
    """What vLLM's API server takes unless it is told (`EngineArgs.get_batch_defaults`).

    `device` is the name that the driver gives the accelerator.
    """
    gib = memory_bytes / 2**30
    if RELEASES[version].largest_limits and gib >= 160:
        return BatchLimits(16384, 1024)
    if gib >= 70 and "a100" not in device.lower():
        return BatchLimits(8192, 1024)
    return BatchLimits(2048, 256)


def capture_sizes(version: EngineVersion, limits: BatchLimits, blackwell: bool = False) -> tuple[int, ...]:
    """Token counts for which vLLM captures CUDA graphs; a batch is padded to the next one.

    1, 2, 4, multiples of 8 up to 256, then of 16, up to twice the most sequences and to the largest of the
    release on the accelerator (`blackwell`: compute capability 10), but no more than the token budget.
    """
    release = RELEASES[version]
    budget, most = limits
    largest = min(2 * most, release.largest_graph if blackwell else 512, budget)
    sizes = {1, 2, 4, *range(8, 256, 8), *range(256, largest + 1, 16)}
    sizes |= {budget} if release.budget_captured else set()
    sizes |= {most} if release.seqs_captured else set()
    return tuple(sorted(size for size in sizes if size <= largest))

"""Decode rows far longer than the others, where the attention kernel does not cut long KV into parts.

FlashAttention-2 reads a row's KV with one multiprocessor for each KV head once rows and KV heads fill
the accelerator by themselves. The longest row is then still being read when the others are done, by
too few multiprocessors to keep the memory busy. So many tiles as keep it busy are those of a few rows: the
step lasts as if so many of its longest rows were all as long as the longest.

    wait = sum over the k longest rows of (time of the longest - time of the row),  k = TILES / KV heads

The kernel cuts KV below 0.8 of two tiles a multiprocessor (`num_splits_heuristic` in FlashAttention's
`flash_api.cpp`). How many tiles keep the memory busy is measured (`docs/hardware.md`).
"""

from __future__ import annotations

from dataclasses import dataclass

from agentservesim.cost.deployment import Deployment
from agentservesim.cost.layers import GroupedAttention

TILES = 50
"""Tiles, one for each KV head of a row, that read as fast together as all multiprocessors do."""

_FILL = 0.8
_TILES_AT_ONCE = 2
"""Of a multiprocessor, as the kernel takes it: with fewer tiles than this share of them it cuts."""

_FLASH_ATTENTION_2 = (8, 12)
"""Major numbers of the architectures on which vLLM runs it: Ampere, Ada, RTX Blackwell."""


@dataclass(frozen=True, slots=True)
class Stragglers:
    """What long rows cost: from `least` decode rows on, those of a CUDA graph's padding included, a step
    lasts as if `rows` of its longest rows were as long as the longest. 0 rows: nothing."""

    rows: int = 0
    least: int = 0

    @classmethod
    def of(cls, on: Deployment) -> Stragglers:
        """Those of a deployment."""
        heads = max(
            (g.attention.kv_heads for g in on.groups if isinstance(g.attention, GroupedAttention)), default=0
        )
        uncut = int(on.accelerator.compute_capability) in _FLASH_ATTENTION_2 and on.kv_number_bytes == 2
        if not heads or not uncut:
            return cls()
        tiles = _FILL * _TILES_AT_ONCE * on.accelerator.multiprocessors
        return cls(-(-TILES // heads), -int(-tiles // heads))

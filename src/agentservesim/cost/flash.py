"""How long an attention kernel takes for chunks and decode rows, from what was measured of it.

Measured are whole prompts (context attention) and rows of one context (generation attention), never a
chunk on a history, nor chunks and rows together. Those follow from how the kernels work. A kernel cuts the
queries of a head into tiles; each tile goes over the keys it attends to, and the multiprocessors work on
as many tiles at once as there are of them:

- FlashAttention-3 (Hopper) and the kernels of TensorRT-LLM (Blackwell) put a group's heads into one tile
  and cut long KV among idle multiprocessors, so that a short chunk on a long history costs what reading
  its KV costs a decode row.
- FlashAttention-2 (Ampere, Ada, RTX Blackwell) does neither if any row of the step has more than one
  query: a tile holds queries of one head, and goes over the whole history by itself. A decode row beside
  a chunk then costs a tile for each head. Compared with a measurement of such steps in
  `docs/hardware.md`.

Times are microseconds of one layer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import ceil
from statistics import median

import numpy as np

from agentservesim.cost.accelerators import Accelerator
from agentservesim.cost.curves import Array, Curve, monotone
from agentservesim.cost.layers import attended_pairs
from agentservesim.cost.measured import Heads, Measured

_FULL = 8
"""So many decode rows on a long context keep the accelerator's memory busy."""

_CACHED = 0.5
"""Share of the L2 cache that keeps KV from one head of a group to the next, beside all else: of three
profiles of an RTX PRO 6000 (docs/hardware.md)."""

_LONG = 4096
"""Prompts of so many tokens reach the rate at which a chunk attends to its history."""


@dataclass(frozen=True)
class Points:
    """What was measured of a kernel, in microseconds: decode rows alone [rows, contexts], prompts of so many
    tokens, one alone and what each further one adds."""

    rows: Array
    contexts: Array
    decode: Array
    tokens: Array
    one: Array
    more: Array


class Kernel(ABC):
    """Attention of one rank's heads on an accelerator.

    rows, contexts, decode_us: decode rows alone, of one context each. launch_us: a step without work.
    pair_us: a (query, key) pair of a full accelerator.
    """

    tile: int
    waited_keys = 0
    """Keys of the first block of a row: nothing is computed before they are there."""

    def __init__(self, points: Points, shape: Heads, accelerator: Accelerator) -> None:
        self.shape, self._on = shape, accelerator
        self._window = shape.window or None
        self.contexts, self.tokens = points.contexts, points.tokens
        self.launch_us = float(np.nanmin(points.decode))
        self._token_us = max(
            _token_us(points),
            2 * shape.kv_heads * shape.head_dim * shape.kv_bytes / accelerator.memory_bytes_per_s * 1e6,
        )
        self.rows, self.decode_us = self._decode(points.rows, points.decode)
        alone = points.one - self.launch_us
        own = np.where(alone > self.launch_us, np.minimum(points.more, alone), points.more)
        self._prompt = Curve(self.tokens, monotone(own))
        pairs = np.array([attended_pairs(int(n), 0, self._window) for n in self.tokens], dtype=float)
        self.pair_us = float(median((own / pairs)[self.tokens >= _LONG]))

    def _decode(self, counts: Array, us: Array) -> tuple[Array, Array]:
        """Decode rows alone. A benchmark repeats one batch, whose KV may stay in the cache; a model's does
        not: never less than the launch, the KV at the bandwidth reached with far larger KV, and the wait for
        the first keys."""
        known = ~np.isnan(us)
        kept = np.flatnonzero(known.sum(axis=1) >= 4)
        read = np.minimum(self.contexts, self._window or np.inf) * self._token_us
        least = read + np.minimum(read / 2, self.waited_keys * self._token_us)
        lanes = []
        for i in kept:
            at = self.contexts[known[i]]
            lane = np.interp(self.contexts, at, us[i][known[i]])
            beyond = np.maximum(0.0, read - read[known[i]][-1])
            lanes.append(np.maximum(lane + counts[i] * beyond, self.launch_us + counts[i] * least))
        return counts[kept], monotone(monotone(np.array(lanes), 1), 0)

    def row_us(self, context: float) -> float:
        """One decode row alone."""
        return float(Curve(self.contexts, self.decode_us[0]).at([context])[0])

    def added_us(self, new: int, history: int) -> float:
        """What a chunk adds to a step that keeps the accelerator busy."""
        behind = attended_pairs(new, history, self._window) - attended_pairs(new, 0, self._window)
        own = float(self._prompt.at([new])[0])
        computed = own + behind * self.pair_us * self.filling(new)
        return max(computed, self.read(new, history) * self._token_us)

    def read(self, new: int, history: int) -> int:
        """Tokens of KV a chunk reads."""
        return new + (history if self._window is None else min(history, self._window))

    @abstractmethod
    def filling(self, new: int) -> float:
        """Queries computed, padding included, for each of a chunk."""

    @abstractmethod
    def alone_us(self, new: int, history: int) -> float:
        """A chunk alone, launch included."""

    def beside_us(self, new: int, history: int, rows: int) -> Array | None:
        """A chunk, so many decode rows and the launch, by context; None if a row costs what it costs alone,
        less `merged_us`."""
        return None

    @property
    def merged_us(self) -> float:
        """What is saved if chunks and decode rows run in one kernel."""
        return 0.0


class Splitting(Kernel):
    """FlashAttention-3: packs the heads of a group, cuts long KV. `launches` 2: TensorRT-LLM's kernels, one
    for chunks and one for decode rows."""

    tile = 128

    def __init__(self, points: Points, shape: Heads, accelerator: Accelerator, launches: int = 1) -> None:
        super().__init__(points, shape, accelerator)
        self._launches = launches

    def filling(self, new: int) -> float:
        """Queries computed for each of a chunk: tiles hold those of all heads of a group."""
        group = max(1, self.shape.heads // self.shape.kv_heads)
        return ceil(new * group / self.tile) * self.tile / (new * group)

    def alone_us(self, new: int, history: int) -> float:
        """A chunk alone: no sooner than a decode row reads the same KV."""
        return max(self.launch_us + self.added_us(new, history), self.row_us(new + history))

    @property
    def merged_us(self) -> float:
        """A launch, if there is only one."""
        return self.launch_us if self._launches == 1 else 0.0


class Tiled(Kernel):
    """FlashAttention-2. A tile costs half a launch and, for each key, what it takes at full load."""

    waited_keys = 128

    def __init__(self, points: Points, shape: Heads, accelerator: Accelerator, tile: int) -> None:
        super().__init__(points, shape, accelerator)
        self.tile = tile
        self._tile_us = self.launch_us / 2
        self._key_us = self.pair_us * tile / shape.heads * accelerator.multiprocessors

    def filling(self, new: int) -> float:
        """Queries computed for each of a chunk: tiles hold those of one head."""
        return ceil(new / self.tile) * self.tile / new

    def alone_us(self, new: int, history: int) -> float:
        """A chunk alone: its tiles run in waves, each as long as its longest tile."""
        waves = ceil(self.shape.heads * ceil(new / self.tile) / self._on.multiprocessors)
        mean = attended_pairs(new, history, self._window) / new
        path = (self.read(new, history) + (waves - 1) * mean) * self._key_us if history else 0.0
        return self.launch_us + max(self.added_us(new, history), path)

    def beside_us(self, new: int, history: int, rows: int) -> Array:
        """A chunk and decode rows. Rows are in the grid before heads, so that heads that share KV run
        together only if there are few rows; else what of it does not fit the cache is read for each."""
        tiles = rows * self.shape.heads / self._on.multiprocessors
        keys = np.minimum(self.contexts, self._window or np.inf)
        head_bytes = rows * keys * 2 * self.shape.head_dim * self.shape.kv_bytes
        group = self.shape.heads / self.shape.kv_heads
        together = max(1, self._on.multiprocessors // rows)
        missed = 1.0 - np.minimum(1.0, _CACHED * self._on.l2_bytes / head_bytes)
        read = rows * keys * self._token_us * (1.0 + missed * max(0.0, group / together - 1.0))
        work = np.maximum(tiles * (self._tile_us + keys * self._key_us), read)
        alone = self.alone_us(new, history)
        path = self.launch_us + keys * self._key_us
        return monotone(np.maximum(alone + work, path))


class Latent(Splitting):
    """Multi-head latent attention: decode rows attend to latents, chunks to plain heads, for which the keys
    and values of the history are made again from its latents, `up_us` microseconds a token."""

    def __init__(self, points: Points, shape: Heads, accelerator: Accelerator, up_us: float) -> None:
        super().__init__(points, shape, accelerator, launches=2)
        self._up_us = up_us

    def filling(self, new: int) -> float:
        """Queries computed for each of a chunk: tiles hold those of one head."""
        return ceil(new / self.tile) * self.tile / new

    def added_us(self, new: int, history: int) -> float:
        """What a chunk adds, and the history made again."""
        return super().added_us(new, history) + history * self._up_us


def kernel(measured: Measured, shape: Heads, accelerator: Accelerator) -> Kernel:
    """The attention kernel that was measured for a shape."""
    points = Points(*measured.decode(shape), *measured.prompts(shape))
    name = measured.about["kernels"][str(shape.kv_bytes)]
    if name in ("vllm_flash_attn", "vllm_flash_attn_fa2"):
        wide = name == "vllm_flash_attn" or shape.head_dim <= 64
        return Tiled(points, shape, accelerator, 128 if wide else 64)
    return Splitting(points, shape, accelerator, 1 if "fa3" in name else 2)


def _token_us(points: Points) -> float:
    """What a token of context adds where memory is busy: the slope of the last doubling, the median over
    numbers of rows."""
    rows, contexts, us = points.rows, points.contexts, points.decode
    slopes = []
    for count, lane in zip(rows, us, strict=True):
        at = np.flatnonzero(~np.isnan(lane))
        if count >= _FULL and len(at) > 1 and contexts[at[-1]] >= 1024:
            rise = (lane[at[-1]] - lane[at[-2]]) / (contexts[at[-1]] - contexts[at[-2]])
            slopes.append(rise / count)
    return float(median(slopes)) if slopes else 0.0

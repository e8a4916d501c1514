"""The contract between the engine and the step-time models.

Time is integer picoseconds. Inside one context cell (between two `knots`) the time of a decode
step is an affine function of the rows' contexts with integer coefficients, so the sum over a leap
of n steps is a closed form in integers: `n * first + growth * n * (n - 1) / 2`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from agentservesim.model import PS_PER_S


@dataclass(slots=True)
class Batch:
    """All rows of one step.

    chunks: prefill rows as (new tokens, history tokens already in the KV cache).
    rows: number of decode rows; each computes one token.
    counts, contexts: the decode rows as a histogram over `StepTime.knots`: in cell j (context >=
        knots[j] and < knots[j+1]) there are counts[j] rows whose contexts sum to contexts[j].
        A row's context is the number of tokens it attends to, the new one included.
    sampled: sequences that sample a token in this step (decode rows, and chunks that end a prefill).
    longest: contexts of the longest decode rows, descending: at least as many as `StepTime.longest`, or all.
        Where none are named, nothing is waited for.
    """

    chunks: Sequence[tuple[int, int]]
    rows: int
    counts: Sequence[int]
    contexts: Sequence[int]
    sampled: int
    longest: Sequence[int] = ()

    @classmethod
    def of(
        cls,
        knots: Sequence[int],
        chunks: Iterable[tuple[int, int]] = (),
        contexts: Iterable[int] = (),
        sampled: int | None = None,
    ) -> Batch:
        """Build a batch from single rows; `sampled` defaults to every row."""
        chunk_rows, decode_rows = list(chunks), sorted(contexts, reverse=True)
        counts, sums = [0] * len(knots), [0] * len(knots)
        for context in decode_rows:
            cell = bisect_right(knots, context) - 1
            counts[cell] += 1
            sums[cell] += context
        every = len(chunk_rows) + len(decode_rows)
        sampling = every if sampled is None else sampled
        return cls(chunk_rows, len(decode_rows), counts, sums, sampling, decode_rows)


class StepTime(Protocol):
    """How long a step takes on the accelerators, host overhead included.

    `knots` ascend from 0. Two laws (tested for every backend): the time never falls when a row's
    context or the number of tokens grows; and for a batch of decode rows alone, as long as no row
    crosses a knot, adding one token to every context adds exactly `growth_ps(batch)`.
    """

    @property
    def knots(self) -> tuple[int, ...]:
        """Borders of the context cells."""

    @property
    def longest(self) -> int:
        """How many of the longest decode rows it looks at one by one."""

    def step_ps(self, batch: Batch) -> int:
        """Duration of one step in picoseconds, at least 1."""

    def growth_ps(self, batch: Batch) -> int:
        """Growth of a decode-only step's duration from one step to the next, in picoseconds."""


@runtime_checkable
class WaveTime(StepTime, Protocol):
    """How long the steps of engines last that go in step (`agentservesim.engine.wave`).

    A wave's step lasts as long as its slowest rank: `wave_ps` is the largest `rank_ps` and what all ranks
    share. `tokens` are those of each rank, 0 for a dummy batch. Laws: the step lasts no shorter than any
    rank alone needs; and it grows with the `rows_ps` of the slowest rank, picosecond for picosecond.
    """

    def rows_ps(self, batch: Batch) -> int:
        """What a rank's own rows add to a step: attention and head; grows by `growth_ps`."""

    def rank_ps(self, tokens: Sequence[int], rank: int, rows_ps: int) -> int:
        """What one rank computes by itself in a step, in picoseconds."""

    def wave_ps(self, tokens: Sequence[int], rows_ps: Sequence[int], prefill: bool) -> int:
        """Duration of a step of all ranks in picoseconds, at least 1; `prefill` if any has chunks."""


def decode_run(model: StepTime, batch: Batch, steps: int) -> NDArray[np.float64]:
    """Durations in seconds, shape (steps,), of `steps` decode steps of the same rows.

    The caller sees to it that no row crosses a knot meanwhile.
    """
    first, growth = model.step_ps(batch), model.growth_ps(batch)
    return (first + growth * np.arange(steps, dtype=np.int64)) / PS_PER_S

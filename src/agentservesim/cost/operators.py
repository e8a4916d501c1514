"""What every step-time model shares: a step is dense operators, head, attention and the host.

A backend says what these cost; this class keeps the prices of each token count, number of samples
and number of decode rows once asked for, so that a decode step is a handful of integer operations.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import mul
from typing import TypeVar

from agentservesim.cost.base import Batch
from agentservesim.cost.stragglers import Stragglers

Key = TypeVar("Key")
Value = TypeVar("Value")


class Memo(dict[Key, Value]):
    """A dict that computes what it does not hold."""

    def __init__(self, compute: Callable[[Key], Value]) -> None:
        super().__init__()
        self._compute = compute

    def __missing__(self, key: Key) -> Value:
        value = self[key] = self._compute(key)
        return value


CellPrices = tuple[list[int], list[int]]
"""Per context cell: picoseconds a decode row costs, and picoseconds each token of its context adds."""


@dataclass(frozen=True, slots=True)
class Host:
    """The engine's part of a step.

    step_ps: host time of every step that the accelerator waits for. prefill_ps: what a step with
    chunks adds. graphs: token counts with a captured CUDA graph, ascending; smaller batches are
    padded to them. scale: factor on the accelerator's part of every step; linear and attention: factors on
    its linear layers, experts and head, and on its attention, besides. engines: data-parallel engines
    that go in step with this one, itself included.

    work_ps and sequence_work_ps: the host's own work for a step and for each sequence in it (scheduling,
    inputs, outputs). With `overlapped` (asynchronous scheduling) it is done beside the accelerator's work of
    the step before, and seen only where it takes longer; else the accelerator waits for it.
    """

    step_ps: int = 0
    prefill_ps: int = 0
    graphs: tuple[int, ...] = ()
    scale: float = 1.0
    linear: float = 1.0
    attention: float = 1.0
    engines: int = 1
    work_ps: int = 0
    sequence_work_ps: int = 0
    overlapped: bool = True

    def beside(self, fixed_ps: int, sequences: int) -> int:
        """The part of a step that does not depend on contexts, with the host's work. What attention takes
        hides no host work here, so that a step's time goes on growing with its contexts token for token."""
        work_ps = self.work_ps + sequences * self.sequence_work_ps
        return max(fixed_ps, work_ps) if self.overlapped else fixed_ps + work_ps


class OperatorStepTime(ABC):
    """A `StepTime` and `WaveTime` made of operators. Subclasses price them; all prices are picoseconds.

    As a `StepTime` of one of several engines it takes the others to be as busy.
    """

    def __init__(self, knots: Sequence[int], host: Host, stragglers: Stragglers) -> None:
        self.knots = tuple(knots)
        self.longest = stragglers.rows
        self._stragglers = stragglers
        self._host = host
        self._graphs = host.graphs
        self._prefill_ps = host.prefill_ps
        self._base: Memo[int, int] = Memo(self._base_ps)
        self._dense: Memo[int, int] = Memo(self.dense_ps)
        self._shared: Memo[tuple[int, int], int] = Memo(lambda key: self.shared_ps(*key))
        self._head: Memo[int, int] = Memo(self.head_ps)
        self._decode: Memo[int, CellPrices] = Memo(self.decode_cells)
        self._uncut: Memo[int, bool] = Memo(self._is_uncut)
        self._alone: Memo[tuple[int, int], int] = Memo(lambda key: self._fixed_ps(key[0], key[1], key[0]))

    def step_ps(self, batch: Batch) -> int:
        """Duration of one step in picoseconds, at least 1."""
        rows = batch.rows
        if batch.chunks:
            tokens = rows + sum([chunk[0] for chunk in batch.chunks])
            fixed = self._fixed_ps(tokens, batch.sampled, rows + len(batch.chunks))
            return fixed + self._prefill_ps + self.mixed_ps(batch)
        return self._alone[rows, batch.sampled] + self._decode_ps(batch)

    def _fixed_ps(self, tokens: int, sampled: int, sequences: int) -> int:
        return self._host.beside(self._base[tokens] + self._head[sampled], sequences)

    def rows_ps(self, batch: Batch) -> int:
        """What a rank's own rows add to a step: attention and head."""
        if batch.chunks:
            return self._head[batch.sampled] + self.mixed_ps(batch)
        return self._head[batch.sampled] + self._decode_ps(batch)

    def _decode_ps(self, batch: Batch) -> int:
        """Attention of decode rows alone: each for itself, and the wait for the longest."""
        rows = batch.rows
        costs, slopes = self._decode[rows]
        attention: int = sum(map(mul, batch.counts, costs)) + sum(map(mul, batch.contexts, slopes))
        return attention + self._wait(batch)[0] if self._uncut[rows] else attention

    def _wait(self, batch: Batch) -> tuple[int, int]:
        """By how much the longest rows would take longer if all were as long as the longest of them, and its
        growth from one step to the next."""
        knots, (costs, slopes) = self.knots, self._decode[batch.rows]
        longest = batch.longest[: self.longest]
        if not longest:
            return 0, 0
        cell = bisect_right(knots, longest[0]) - 1
        wait_ps = growth_ps = 0
        most_ps, steepest_ps = costs[cell] + slopes[cell] * longest[0], slopes[cell]
        for context in longest:
            while context < knots[cell]:
                cell -= 1
            wait_ps += most_ps - costs[cell] - slopes[cell] * context
            growth_ps += steepest_ps - slopes[cell]
        return wait_ps, growth_ps

    def rank_ps(self, tokens: Sequence[int], rank: int, rows_ps: int) -> int:
        """What one rank computes by itself in a step, in picoseconds."""
        return self._dense[self._together(tokens)[rank]] + rows_ps

    def wave_ps(self, tokens: Sequence[int], rows_ps: Sequence[int], prefill: bool) -> int:
        """Duration of a step of all ranks in picoseconds, at least 1; `prefill` if any has chunks.

        Equal numbers of tokens are exchanged at once. Unequal ones are sent from one rank to all others after
        another, so that everyone waits for the tokens of all (vLLM, `PyNcclCommunicator.all_gatherv` and
        `reduce_scatterv`: a broadcast or a reduction for each rank).
        """
        padded = self._together(tokens)
        own = max([self._dense[count] + rows for count, rows in zip(padded, rows_ps, strict=True)])
        everyone = sum(padded)
        received = everyone - padded[0] if min(padded) == max(padded) else everyone
        shared = self._host.step_ps + self._shared[everyone, received]
        dense = self._dense[max(padded)]
        work = self._host.beside(shared + dense, 0 if prefill else max(tokens)) - dense
        return max(1, work + own + (self._prefill_ps if prefill else 0))

    def growth_ps(self, batch: Batch) -> int:
        """Growth of a decode-only step's duration from one step to the next, in picoseconds."""
        growth: int = sum(map(mul, batch.counts, self._decode[batch.rows][1]))
        return growth + self._wait(batch)[1] if self._uncut[batch.rows] else growth

    @abstractmethod
    def dense_ps(self, tokens: int) -> int:
        """All that depends only on how many tokens a rank computes, but the shared; never falls with them."""

    def shared_ps(self, tokens: int, received: int) -> int:
        """What the engines that go in step do together: experts, and the exchange of tokens for them.

        `tokens` are those of all engines, `received` those that one of them waits for.
        Never falls with either.
        """
        return 0

    @abstractmethod
    def head_ps(self, sampled: int) -> int:
        """Head and sampler for so many sequences; never falls with them."""

    @abstractmethod
    def decode_cells(self, rows: int) -> CellPrices:
        """Attention of a step of `rows` decode rows alone, shared out over the rows."""

    @abstractmethod
    def mixed_ps(self, batch: Batch) -> int:
        """Attention of a step with chunks."""

    def _base_ps(self, tokens: int) -> int:
        padded = self._padded(tokens)
        engines = self._host.engines
        shared = self.shared_ps(padded * engines, padded * (engines - 1))
        return max(1, self._host.step_ps + self.dense_ps(padded) + shared)

    def _is_uncut(self, rows: int) -> bool:
        """Whether so many decode rows alone wait for the longest of them."""
        return self.longest > 1 and self._padded(rows) >= self._stragglers.least

    def _padded(self, tokens: int) -> int:
        graphs = self._graphs
        if graphs and 0 < tokens <= graphs[-1]:
            return graphs[bisect_left(graphs, tokens)]
        return tokens

    def _together(self, tokens: Sequence[int]) -> list[int]:
        """Tokens of each rank of a wave: a dummy batch has one, and if all of them fit a CUDA graph they are
        padded to the largest (vLLM, `coordinate_batch_across_dp`)."""
        real = [count or 1 for count in tokens]
        most = max(real)
        if self._graphs and most <= self._graphs[-1]:
            return [self._padded(most)] * len(real)
        return real

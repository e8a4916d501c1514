"""Step time from measured operator tables, with physical floors.

- Dense operators: by token count, linear between measured counts, the last doubling's slope beyond.
- A chunk alone: by new tokens and history, each chunk on its own.
- Decode rows alone: the table has n rows of one context. A row of a batch of n costs an n-th of what n
  rows of its context cost, so that a uniform batch costs what was measured and any other the mean,
  and more where the kernel leaves long rows to themselves (`stragglers`).
- Rows beside chunks run in one kernel with them, where a decode row costs more than alone or, hidden
  behind a few long chunks, less: the extra over the chunks' own time is looked up by the step's new
  tokens, the chunks' own time, the number of rows and each row's context. Where long rows are left to
  themselves, it is no less than that of the longest row alone.
- Experts: by tokens and by the experts they are expected to wake.

No price is below its floor: FLOPs over peak, bytes over bandwidth. Laws: time never falls when a
chunk, a history or a context grows, nor when a row is added that is at least as long as the longest.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul

from agentservesim.cost.attention import ChunkPrices, RowPrices
from agentservesim.cost.base import Batch
from agentservesim.cost.collectives import Collectives
from agentservesim.cost.config import Efficiency
from agentservesim.cost.curves import Array, Curve
from agentservesim.cost.deployment import Deployment
from agentservesim.cost.operators import CellPrices, Host, OperatorStepTime
from agentservesim.cost.roofline import IDEAL, Roofline
from agentservesim.cost.stragglers import Stragglers
from agentservesim.model import PS_PER_S

_PS_PER_US = 1e6


@dataclass(frozen=True)
class StepTables:
    """What the operators of a step take, all layers together, in microseconds.

    source: where the times are from. dense: by tokens of a rank, linear layers and small kernels.
    head: head and sampler by sequences. experts: by the tokens of all engines that share them, or None.
    chunks: rows (new tokens, history, time alone, time added to a busy step).
    rows: (new tokens, history, decode rows, context, time) of rows alone (no new tokens) and beside chunks;
    where there are none beside chunks, they take there what they take alone, less `merged_us`.
    launch_us: what a step's attention takes before it does anything; it is in all times but those added.
    """

    source: str
    dense: Curve
    head: Curve
    experts: Curve | None
    chunks: Array
    rows: Array
    launch_us: float
    merged_us: float = 0.0


class Tables(OperatorStepTime):
    """Step time of a deployment from the tables of its operators."""

    def __init__(self, deployment: Deployment, tables: StepTables, host: Host) -> None:
        self._on = deployment
        self._scale, self._linear = host.scale, _PS_PER_US * host.linear
        self._tables = tables
        self._floor = Roofline(deployment, Efficiency(**IDEAL), Host(scale=host.scale))
        self._links = Collectives.of(deployment)
        unit = _PS_PER_US * host.scale * host.attention
        self._launch_ps = round(tables.launch_us * unit)
        self._merged_ps = round(tables.merged_us * unit)
        self._chunks = ChunkPrices(tables.chunks, unit, self._floor.chunk_ps)
        self._rows = RowPrices(tables.rows, self._chunks, unit)
        super().__init__(self._rows.knots, host, Stragglers.of(deployment))
        self._row_floor = _refined(self._floor.decode_cells(1), self._floor.knots, self.knots)

    def dense_ps(self, tokens: int) -> int:
        """Linear layers, small kernels and collectives of a step of so many tokens."""
        if not tokens:
            return 0
        us = float(self._tables.dense.at([tokens])[0])
        links_ps = self._links.layers_s(self._on.model, tokens) * PS_PER_S
        measured = round((us * self._linear + links_ps) * self._scale)
        return max(measured, self._floor.dense_ps(tokens))

    def shared_ps(self, tokens: int, received: int) -> int:
        """Experts, and the exchange of tokens for them."""
        if not tokens or self._tables.experts is None:
            return 0
        us = float(self._tables.experts.at([tokens])[0])
        links_ps = self._links.exchange_s(self._on.model, received) * PS_PER_S
        measured = round((us * self._linear + links_ps) * self._scale)
        return max(measured, self._floor.shared_ps(tokens, received))

    def head_ps(self, sampled: int) -> int:
        """Head and sampler for so many sequences."""
        if not sampled:
            return 0
        us = float(self._tables.head.at([sampled])[0])
        links_ps = self._links.gather_s(self._on.model, sampled) * PS_PER_S
        return max(round((us * self._linear + links_ps) * self._scale), self._floor.head_ps(sampled))

    def decode_cells(self, rows: int) -> CellPrices:
        """Attention of decode rows alone."""
        return self._rows.cells(rows, self._row_floor)

    def mixed_ps(self, batch: Batch) -> int:
        """Attention of chunks and the decode rows beside them: one launch for all chunks, over no sooner than
        the slowest would be alone, nor later than if they ran one by one."""
        slowest = apart = together = 0
        price = self._chunks.price
        for tokens, history in batch.chunks:
            alone, added = price(tokens, history)
            if alone > slowest:
                slowest = alone
            apart += alone
            together += added
        load = max(slowest, min(apart, self._launch_ps + together))
        rows = batch.rows
        if not rows:
            return load
        if self._rows.measured_beside:
            new = sum([tokens for tokens, _ in batch.chunks])
            longest = batch.longest[0] if self.longest and batch.longest and rows > 1 else 0
            extra = self._rows.extra_ps(rows, batch.counts, batch.contexts, new, load, longest)
            return max(load + extra, self._least_ps(batch))
        costs, slopes = self._decode[rows]
        own: int = sum(map(mul, batch.counts, costs)) + sum(map(mul, batch.contexts, slopes))
        return load + max(0, own - self._merged_ps)

    def _least_ps(self, batch: Batch) -> int:
        """The least time in which the KV of a step can be read."""
        costs, slopes = self._row_floor
        least: int = sum(map(mul, batch.counts, costs)) + sum(map(mul, batch.contexts, slopes))
        for tokens, history in batch.chunks:
            cell = bisect_right(self.knots, tokens + history) - 1
            least += costs[cell] + slopes[cell] * (tokens + history)
        return least


def _refined(prices: CellPrices, borders: Sequence[int], knots: Sequence[int]) -> CellPrices:
    """Prices by the cells of `borders` for the finer ones of `knots`."""
    cells = [bisect_right(borders, knot) - 1 for knot in knots]
    return [prices[0][cell] for cell in cells], [prices[1][cell] for cell in cells]

"""Step time from measured operator tables, with physical floors.

- Dense operators: by token count, linear between measured counts, the last doubling's slope beyond.
- A chunk alone: by new tokens and history, each chunk on its own.
- Decode rows alone: the table has n rows of one context. A row of a batch of n costs an n-th of what n
  rows of its context cost, so that a uniform batch costs what was measured and any other the mean.
- Rows beside chunks run in one kernel with them, where a decode row costs more than alone or, hidden
  behind a few long chunks, less: the extra over the chunks' own time is looked up by the step's new
  tokens, the chunks' own time, the number of rows and each row's context.
- Experts: by tokens and by the experts they are expected to wake.

No price is below its floor: FLOPs over peak, bytes over bandwidth. Laws: time never falls when a
chunk, a history or a context grows, nor when a row is added that is at least as long as the mean row.
"""

from __future__ import annotations

import numpy as np

from agentservesim.cost.attention import ChunkPrices, RowPrices
from agentservesim.cost.base import Batch
from agentservesim.cost.collectives import Collectives
from agentservesim.cost.curves import Array, monotone, resample
from agentservesim.cost.deployment import Deployment
from agentservesim.cost.operators import CellPrices, Host, OperatorStepTime
from agentservesim.cost.roofline import IDEAL, Efficiency, Roofline
from agentservesim.cost.tablefiles import TIMES_PER_LAYER, OperatorTables, Rows
from agentservesim.model import PS_PER_S, InputError

_PS_PER_US = 1e6


class Tables(OperatorStepTime):
    """Step time of a deployment from the measured tables of its model, accelerator and degree."""

    def __init__(
        self,
        deployment: Deployment,
        tables: OperatorTables,
        host: Host,
    ) -> None:
        _check(deployment, tables)
        self._on = deployment
        self._scale = host.scale
        self._floor = Roofline(deployment, Efficiency(**IDEAL), Host(scale=host.scale))
        self._links = Collectives.of(deployment)
        layers = deployment.model.layers
        self._dense_points = _by_tokens(tables.dense, layers)
        self._head_points = _total(tables.per_sequence, dict.fromkeys(tables.per_sequence, 1))
        self._experts = None if tables.moe is None else ExpertPrices(tables.moe, layers)
        unit = layers * _PS_PER_US * host.scale
        points = tables.attention
        self._token_floor_ps = self._floor.token_ps(deployment.groups[0])
        alone = points[points[:, 2] == 0][:, [0, 1, 4]]
        self._chunks = ChunkPrices(alone, unit, self._token_floor_ps, self._floor.pair_ps)
        self._rows = RowPrices(points[points[:, 2] > 0], self._chunks, unit)
        super().__init__(self._rows.knots, host)

    def dense_ps(self, tokens: int) -> int:
        """Linear layers, small kernels and collectives of a step of so many tokens."""
        if not tokens:
            return 0
        us = float(resample([tokens], *self._dense_points)[0])
        links_ps = self._links.layers_s(self._on.model, tokens) * PS_PER_S
        measured = round((us * _PS_PER_US + links_ps) * self._scale)
        return max(measured, self._floor.dense_ps(tokens))

    def shared_ps(self, tokens: int, received: int) -> int:
        """Experts, and the exchange of tokens for them."""
        if not tokens or self._experts is None:
            return 0
        mlp = self._on.groups[0].feed_forward
        us = self._experts.us(tokens / self._on.engines, self._on.awake_experts(mlp, tokens))
        links_ps = self._links.exchange_s(self._on.model, received) * PS_PER_S
        measured = round((us * _PS_PER_US + links_ps) * self._scale)
        return max(measured, self._floor.shared_ps(tokens, received))

    def head_ps(self, sampled: int) -> int:
        """Head and sampler for so many sequences."""
        if not sampled:
            return 0
        us = float(resample([sampled], *self._head_points)[0])
        links_ps = self._links.gather_s(self._on.model, sampled) * PS_PER_S
        return max(round((us * _PS_PER_US + links_ps) * self._scale), self._floor.head_ps(sampled))

    def decode_cells(self, rows: int) -> CellPrices:
        """Attention of decode rows alone."""
        return self._rows.cells(rows, self._token_floor_ps)

    def mixed_ps(self, batch: Batch) -> int:
        """Attention of chunks and the decode rows beside them."""
        load = new = kept = 0
        for tokens, history in batch.chunks:
            load += self._chunks.price(tokens, history)
            new += tokens
            kept += tokens + history
        if not batch.rows:
            return load
        extra = self._rows.extra_ps(batch.rows, batch.counts, batch.contexts, new, load)
        return max(load + extra, (kept + sum(batch.contexts)) * self._token_floor_ps)


class ExpertPrices:
    """Router and experts of all layers, by tokens and experts awake, in microseconds."""

    def __init__(self, points: Rows, layers: int) -> None:
        tokens, awake = np.unique(points[:, 0]), np.unique(points[:, 1])
        lanes = []
        for count in tokens:
            lane = points[points[:, 0] == count]
            lane = lane[np.argsort(lane[:, 1])]
            lanes.append(resample(awake, lane[:, 1], lane[:, 2] * layers))
        self._tokens, self._awake = tokens, awake
        self._table = monotone(monotone(np.array(lanes), 1), 0)

    def us(self, tokens: float, awake: float) -> float:
        """Microseconds of `tokens` tokens that wake `awake` experts."""
        lane = np.array([np.interp(awake, self._awake, row) for row in self._table])
        return float(resample([tokens], self._tokens, lane)[0])


def _check(deployment: Deployment, tables: OperatorTables) -> None:
    kinds = deployment.groups
    name, folder = deployment.model.name, tables.folder
    if len(kinds) != 1:
        raise InputError(
            f"tables: {name} has layers of {len(kinds)} kinds, tables know one; use the roofline"
        )
    mlp = kinds[0].feed_forward
    needed = ["qkv_proj", "o_proj"] + (["gate_up_proj", "down_proj"] if mlp.width else [])
    missing = [layer for layer in needed if layer not in tables.dense]
    if missing:
        raise InputError(f"{folder / 'dense.csv'}: holds no {', '.join(missing)}; {name} has them")
    if "lm_head" not in tables.per_sequence:
        raise InputError(f"{folder / 'per_sequence.csv'}: holds no lm_head; {name} has one")
    if mlp.experts and tables.moe is None:
        raise InputError(f"{folder / 'moe.csv'}: missing; {name} has experts")
    if not mlp.experts and tables.moe is not None:
        raise InputError(f"{folder / 'moe.csv'}: {name} has no experts; these are another model's tables")


def _by_tokens(dense: dict[str, Rows], layers: int) -> tuple[Array, Array]:
    """(tokens, microseconds) of all dense operators of a step."""
    times = {layer: layers * TIMES_PER_LAYER[layer] if layer in TIMES_PER_LAYER else 1 for layer in dense}
    return _total(dense, times)


def _total(tables: dict[str, Rows], times: dict[str, int]) -> tuple[Array, Array]:
    """(sizes, microseconds) of operators together, each so many times."""
    sizes = np.unique(np.concatenate([rows[:, 0] for rows in tables.values()]))
    total = sum(resample(sizes, rows[:, 0], rows[:, 1]) * times[name] for name, rows in tables.items())
    return sizes, monotone(np.asarray(total))

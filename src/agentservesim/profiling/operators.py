"""The operators of a model's layer on one tensor-parallel rank, and how long each takes.

Rows are those of the operator tables (`agentservesim.cost.tablefiles`): microseconds of one layer. Weights
are random. A decode row's query heads that share a key head are taken as one block of queries, as
flash-decoding does; a chunk and decode rows of one step run one behind the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from agentservesim.cost.layers import FeedForward, GroupedAttention
from agentservesim.cost.models import Model
from agentservesim.model import InputError
from agentservesim.profiling.devices import Array, Device

Work = Callable[[], object]
"""What is timed."""


@dataclass(frozen=True)
class Grid:
    """What is measured: powers of two up to these."""

    max_tokens: int = 8192
    max_context: int = 65536
    max_rows: int = 256

    @property
    def tokens(self) -> list[int]:
        """Tokens of a step."""
        return doublings(1, self.max_tokens)

    @property
    def chunks(self) -> list[int]:
        """New tokens of a chunk: short appends too."""
        return doublings(16, self.max_tokens)

    @property
    def contexts(self) -> list[int]:
        """Tokens that a decode row or a chunk finds."""
        return doublings(16, self.max_context)

    @property
    def rows(self) -> list[int]:
        """Decode rows of a step."""
        return doublings(1, self.max_rows)


def _one_by_one(works: Sequence[Work]) -> None:
    for work in works:
        work()


def doublings(first: int, last: int) -> list[int]:
    """`first`, doubled again and again, and `last`."""
    found = []
    while first < last:
        found.append(first)
        first *= 2
    return [*found, last]


class Profiler:
    """Times the operators of a model on a device.

    Raises InputError for a model whose layers differ or do not attend by groups of heads: the tables hold
    one kind of layer.
    """

    def __init__(self, model: Model, ranks: int, device: Device, grid: Grid) -> None:
        group = model.groups[0]
        if len(model.groups) > 1 or not isinstance(group.attention, GroupedAttention):
            raise InputError(
                f"profile: the layers of '{model.name}' are not all alike grouped attention; "
                "operator tables hold one kind of layer"
            )
        self._model, self._device, self._grid = model, device, grid
        self._attention: GroupedAttention = group.attention.shard(ranks)
        self._mlp: FeedForward = group.feed_forward.shard(ranks)
        self._vocabulary = -(-model.vocabulary // ranks)

    def dense(self) -> Iterator[tuple[str, int, float]]:
        """(layer, tokens, microseconds)."""
        device, hidden, heads = self._device, self._model.hidden, self._attention
        table = device.array(self._model.vocabulary, hidden)
        yield from self._by_tokens("embedding", lambda n: partial(device.look_up, table, n))
        for name in ("layernorm", "final_layernorm"):
            yield from self._over(name, hidden, device.norm)
        yield from self._linear("qkv_proj", hidden, heads.qkv_width)
        yield from self._linear("o_proj", heads.output_width, hidden)
        width = (heads.heads + heads.kv_heads) * heads.head_dim
        yield from self._by_tokens("rotary_emb", self._rotation)
        if heads.qk_norm:
            yield from self._over("qk_norm", width, device.norm)
        if self._mlp.width:
            yield from self._linear("gate_up_proj", hidden, 2 * self._mlp.width)
            yield from self._linear("down_proj", self._mlp.width, hidden)
            yield from self._over("act_fn", 2 * self._mlp.width, device.gate)

    def per_sequence(self) -> Iterator[tuple[str, int, float]]:
        """(layer, sequences, microseconds) of head and sampler."""
        device, hidden = self._device, self._model.hidden
        head = device.array(hidden, self._vocabulary)
        for rows in self._grid.rows:
            x = device.array(rows, hidden)
            logits = device.array(rows, self._vocabulary)
            yield "lm_head", rows, device.time_us(partial(device.matmul, x, head))
            yield "sampler", rows, device.time_us(partial(device.sample, logits))

    def attention(self) -> Iterator[tuple[int, int, int, int, float]]:
        """(chunk, history, decode rows, their context, microseconds): each alone, then together."""
        grid = self._grid
        for rows in grid.rows:
            for context in grid.contexts:
                if rows * context <= 16 * grid.max_context:
                    yield 0, 0, rows, context, self._device.time_us(self._decode(rows, context))
        for chunk in grid.chunks:
            for history in (0, *grid.contexts):
                if chunk + history <= grid.max_context:
                    yield chunk, history, 0, 0, self._device.time_us(self._chunk(chunk, history))
        for chunk, history, rows, context in self._mixtures():
            both = self._chunk(chunk, history), self._decode(rows, context)
            yield chunk, history, rows, context, self._device.time_us(partial(_one_by_one, both))

    def experts(self) -> Iterator[tuple[int, int, float]]:
        """(tokens, activated experts, microseconds) of the experts of a sparse layer."""
        device, mlp, hidden = self._device, self._mlp, self._model.hidden
        up = device.array(mlp.experts, hidden, 2 * mlp.expert_width)
        down = device.array(mlp.experts, mlp.expert_width, hidden)
        for tokens in self._grid.tokens:
            pairs = tokens * mlp.experts_per_token
            for active in doublings(mlp.experts_per_token, min(mlp.experts, pairs)):
                x = device.array(active, -(-pairs // active), hidden)
                work = partial(self._feed_forward, x, up[:active], down[:active])
                yield tokens, active, device.time_us(work)

    def copies(self, block_size: int = 16) -> Iterator[tuple[str, int, int, float]]:
        """(direction, bytes of a block, blocks, microseconds): KV blocks of a layer, and of all layers.

        Each block is a copy of its own, as blocks lie scattered.
        """
        device = self._device
        numbers = block_size * self._attention.kv_numbers()
        for size in (numbers, numbers * self._model.layers):
            for count in doublings(1, 64):
                ours, hosts = device.array(count, size), device.host_array(count, size)
                for name, source, target in (("down", ours, hosts), ("up", hosts, ours)):
                    took = device.time_us(partial(self._copy_all, source, target))
                    yield name, size * device.number_bytes, count, took

    def _feed_forward(self, x: Array, up: Array, down: Array) -> Array:
        return self._device.matmul(self._device.gate(self._device.matmul(x, up)), down)

    def _copy_all(self, source: Array, target: Array) -> None:
        for row in range(len(source)):
            self._device.copy(source[row], target[row])

    def _mixtures(self) -> Iterator[tuple[int, int, int, int]]:
        grid = self._grid
        for chunk in grid.chunks[::3]:
            for history in (0, *grid.contexts[-1:]):
                for rows in grid.rows[2::3]:
                    for context in grid.contexts[3::4]:
                        if chunk + history <= grid.max_context and rows * context <= 16 * grid.max_context:
                            yield chunk, history, rows, context

    def _decode(self, rows: int, context: int) -> Work:
        heads = self._attention
        shared = heads.heads // heads.kv_heads
        q = self._device.array(rows, heads.kv_heads, shared, heads.head_dim)
        k, v = (self._device.array(rows, heads.kv_heads, context, heads.head_dim) for _ in range(2))
        return lambda: self._device.attend(q, k, v, causal=False)

    def _chunk(self, new: int, history: int) -> Work:
        heads = self._attention
        q = self._device.array(1, heads.heads, new, heads.head_dim)
        k, v = (self._device.array(1, heads.kv_heads, new + history, heads.head_dim) for _ in range(2))
        return lambda: self._device.attend(q, k, v, causal=True)

    def _rotation(self, tokens: int) -> Work:
        heads = self._attention
        x = self._device.array(tokens, heads.heads + heads.kv_heads, heads.head_dim)
        angles = self._device.array(tokens, 1, heads.head_dim // 2)
        return lambda: self._device.rotate(x, angles)

    def _linear(self, name: str, inputs: int, outputs: int) -> Iterator[tuple[str, int, float]]:
        weights = self._device.array(inputs, outputs)
        return self._over(name, inputs, lambda x: self._device.matmul(x, weights))

    def _over(
        self, name: str, width: int, operator: Callable[[Array], Array]
    ) -> Iterator[tuple[str, int, float]]:
        def work(tokens: int) -> Work:
            x = self._device.array(tokens, width)
            return lambda: operator(x)

        return self._by_tokens(name, work)

    def _by_tokens(self, name: str, work: Callable[[int], Work]) -> Iterator[tuple[str, int, float]]:
        for tokens in self._grid.tokens:
            yield name, tokens, self._device.time_us(work(tokens))

"""A step's tables, composed from operators measured on an accelerator.

Linear layers, head and experts are looked up by shape; attention is what its kernel would take (see
`flash`). Between them run small kernels (norms, rotary embedding, KV write, activation), each priced by
the bytes it moves at a share of the bandwidth and a fixed time; both constants come with the measurements.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import product

import numpy as np

from agentservesim.cost.accelerators import Accelerator
from agentservesim.cost.clocks import sustained
from agentservesim.cost.config import Efficiency
from agentservesim.cost.curves import Array, Curve, thinned, total
from agentservesim.cost.deployment import Deployment
from agentservesim.cost.flash import Kernel, Latent, Points, kernel
from agentservesim.cost.layers import GroupedAttention, LatentAttention, LayerGroup, Mixer
from agentservesim.cost.measured import Experts, Heads, Measured, Unmeasured
from agentservesim.cost.models import DTYPE_BYTES
from agentservesim.cost.tables import StepTables

_US = 1e6
_NEW = (16, 128, 512, 2048, 8192)
_BESIDE = (1, 8, 32, 128, 512)
_TOLERANCE, _USUAL_ROWS, _HELD = 0.03, 512, 1_000_000
"""Contexts are left out as long as no step of so many decode rows, and of the tokens of KV that an
accelerator may hold, is off by more. The mean error is below 0.5 %."""

_HISTORY = (0, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
_SMALL_KERNELS = 6
"""Kernels of a layer besides linear layers and attention: two norms, rotary embedding, KV write, activation,
and one for what a model has more (norms of queries and keys, a router's choice)."""

_SAMPLER_S = 25e-6
_SAMPLER_BYTES = 8
"""Time of the sampler's kernels, and bytes each number of the logits moves: of its measurements on two
GPUs (RTX 4090, RTX PRO 6000) with 128,256 words, 25 us and about two passes over float32 logits."""


def compose(on: Deployment, measured: Measured) -> StepTables:
    """Tables of a deployment. Raises Unmeasured, saying which, for operators that were not measured."""
    return _Composer(on, measured).tables()


def unmeasured(on: Deployment, measured: Measured) -> str | None:
    """The first operator of a deployment that was not measured, without composing the others."""
    try:
        _Composer(on, measured).check()
    except Unmeasured as lacking:
        return str(lacking)
    return None


class _Composer:
    def __init__(self, on: Deployment, measured: Measured) -> None:
        self._on, self._from = on, measured
        self._rate = on.accelerator.memory_bytes_per_s
        self._fixed_us = measured.about["small_kernel_s"] * _US
        self._small_rate = self._rate * measured.about["small_kernel_bandwidth"]
        self._dtype = self._linear_type()
        if DTYPE_BYTES[on.model.dtype] != 2:
            raise Unmeasured(f"activations in {on.model.dtype}")

    def check(self) -> None:
        """Raise Unmeasured if `tables` would."""
        if f"gemm_{self._dtype}" not in self._from.arrays:
            raise Unmeasured(f"linear layers in {self._dtype}")
        for group in self._on.groups:
            kind = group.attention
            if isinstance(kind, LatentAttention):
                self._latent(kind)
            else:
                for table in ("decode", "prompt"):
                    self._from.alike(table, self._heads(kind))
            if group.feed_forward.experts:
                self._experts(group)

    def _linear_type(self) -> str:
        """Type of the linear layers; models with latent attention are quantised in blocks."""
        if self._on.model.quantization != "fp8":
            return "bfloat16"
        latent = any(isinstance(group.attention, LatentAttention) for group in self._on.groups)
        return "fp8_block" if latent else "fp8"

    def tables(self) -> StepTables:
        groups = self._on.groups
        experts = [(g.count, self._experts(g)) for g in groups if g.feed_forward.experts]
        kinds: Counter[Mixer] = Counter()
        for group in groups:
            kinds[group.attention] += group.count
        attention = _Attention([(count, self._kernel(kind)) for kind, count in kinds.items()])
        dense = self._dense(groups)
        return StepTables(
            source=f"operators measured on {self._from.name}: {self._from.source}",
            dense=dense,
            head=self._head(),
            experts=total(experts) if experts else None,
            chunks=attention.chunks(),
            rows=attention.rows(dense),
            launch_us=attention.launch_us,
            merged_us=attention.merged_us,
        )

    def _kernel(self, kind: Mixer) -> Kernel:
        if isinstance(kind, LatentAttention):
            return self._latent(kind)
        return kernel(self._from, self._heads(kind), self._on.accelerator)

    def _heads(self, kind: Mixer) -> Heads:
        if not isinstance(kind, GroupedAttention) or not kind.heads:
            raise Unmeasured(f"layers of {type(kind).__name__}")
        return Heads(kind.heads, kind.kv_heads, kind.head_dim, kind.window or 0, self._on.kv_number_bytes)

    def _latent(self, kind: LatentAttention) -> Kernel:
        """Latent attention was measured with its projections, which are taken off again."""
        projections = total([(1.0, c) for c in self._mixer(kind)])
        of = (kind.heads, self._on.kv_number_bytes, self._dtype != "bfloat16")
        rows, contexts, decode = self._from.latent("generation", *of)
        decode = np.maximum(decode - projections.at(rows)[:, None], self._fixed_us)
        prompts, tokens, context = self._from.latent("context", *of)
        context = context - np.array([projections.at(count * tokens) for count in prompts])
        known = ~np.isnan(context[0]) & ~np.isnan(context[1])
        more = np.maximum(context[1] - context[0], 0.0)[known]
        one = np.maximum(context[0], decode[0].min() + more[0])[known]
        points = Points(rows, contexts, decode, tokens[known], one, more)
        shape = Heads(kind.heads, 1, kind.kv_numbers() // 2, 0, self._on.kv_number_bytes)
        up = self._gemm(self._dtype, kind.latent, kind.up_width)
        return Latent(points, shape, self._on.accelerator, float(np.diff(up.at([4096, 8192]))[0]) / 4096)

    def _dense(self, groups: tuple[LayerGroup, ...]) -> Curve:
        hidden = self._on.model.hidden
        parts = [(1.0, self._small(hidden)), (1.0, self._small(4 * hidden))]
        for group in groups:
            parts += [(float(group.count), curve) for curve in self._layer(group)]
        return sustained(total(parts), self._from.arrays["gemm_m"], self._on.stages)

    def _layer(self, group: LayerGroup) -> list[Curve]:
        """A layer without attention and experts: norms of the residual, projections, MLP, router."""
        hidden, attention, mlp = self._on.model.hidden, group.attention, group.feed_forward
        curves = [self._small(4 * hidden)] * group.norms + self._mixer(attention)
        if mlp.width:
            curves += self._linear(hidden, (mlp.matrices - 1) * mlp.width) + self._linear(mlp.width, hidden)
            curves.append(self._small(mlp.matrices * mlp.width))
        if mlp.experts:
            curves += [self._gemm("bfloat16", hidden, mlp.experts), self._small(2 * mlp.experts)]
        return curves

    def _mixer(self, mixer: Mixer) -> list[Curve]:
        """Projections of a layer's attention and the small kernels between them: rotary embedding, KV write,
        norms of queries and keys, or of latents."""
        curves = [self._small(2 * mixer.kv_numbers())]
        for shape in mixer.projections(self._on.model.hidden):
            curves += self._linear(*shape)
        if isinstance(mixer, GroupedAttention):
            keyed = 2 * (mixer.heads + mixer.kv_heads) * mixer.head_dim
            curves += [self._small(keyed)] * (2 if mixer.qk_norm else 1)
        if isinstance(mixer, LatentAttention):
            queries = mixer.heads * (mixer.nope_dim + mixer.rope_dim)
            curves += [self._small(2 * queries), self._small(2 * (mixer.latent + mixer.query_latent))]
        return curves

    def _small(self, numbers: int) -> Curve:
        """A kernel that moves so many 16-bit numbers for each token."""
        tokens = np.array([1.0, 1e5])
        return Curve(tokens, self._fixed_us + tokens * numbers * 2 / self._small_rate * _US)

    def _linear(self, inputs: int, outputs: int) -> list[Curve]:
        gemm = self._gemm(self._dtype, inputs, outputs)
        return [gemm, self._from.quantize(inputs)] if self._dtype == "fp8" else [gemm]

    def _gemm(self, dtype: str, inputs: int, outputs: int) -> Curve:
        """A linear layer, as measured but no faster than the data sheet allows: small weights that stay
        in the cache from one repetition to the next are read from memory in a model."""
        tokens, us = self._from.gemm(dtype, inputs, outputs)
        flops = 2 * tokens * inputs * outputs / self._on.accelerator.peak_flops(dtype != "bfloat16")
        read = inputs * outputs * (2 if dtype == "bfloat16" else 1) / self._rate
        return Curve(tokens, np.maximum(us, np.maximum(flops, read) * _US))

    def _head(self) -> Curve:
        """Head and sampler."""
        model = self._on.model
        width = -(-model.vocabulary // self._on.ranks)
        sequences = np.array([1.0, 1e5])
        moved = sequences * model.vocabulary * _SAMPLER_BYTES / self._small_rate
        sampler = Curve(sequences, (_SAMPLER_S + moved) * _US)
        return total([(1.0, self._gemm("bfloat16", model.hidden, width)), (1.0, sampler)])

    def _experts(self, group: LayerGroup) -> Curve:
        """Experts of a layer, the fp8 ones quantised in blocks where that was measured, as published models
        are."""
        on, mlp = self._on, group.feed_forward
        cut = (1, on.expert_ways) if on.engines > 1 else (on.ranks, 1)
        types = {"none": ("bfloat16",), "fp8": ("fp8_block", "fp8"), "mxfp4": ("w4a16_mxfp4",)}
        shape = (on.model.hidden, mlp.expert_width, mlp.experts_per_token, mlp.experts, *cut)
        return self._from.experts([Experts(*shape, dtype) for dtype in types[on.model.quantization]])


class _Attention:
    """Attention of all layers: so many of each kind."""

    def __init__(self, kinds: Sequence[tuple[int, Kernel]]) -> None:
        self._kinds = kinds
        self.launch_us = sum(count * kind.launch_us for count, kind in kinds)
        self.merged_us = sum(count * kind.merged_us for count, kind in kinds)
        self._rows = self._shared([kind.rows for _, kind in kinds])
        self._contexts = np.concatenate([[0.0], kinds[0][1].contexts[1:]])

    @staticmethod
    def _shared(axes: Sequence[Array]) -> Array:
        shared: Array = reduce(np.intersect1d, axes)
        return shared

    def chunks(self) -> Array:
        """Rows (new tokens, history, time alone, time added)."""
        rows = []
        for new in self._shared([kind.tokens for _, kind in self._kinds]):
            for history in _HISTORY:
                alone = sum(count * kind.alone_us(int(new), history) for count, kind in self._kinds)
                added = sum(count * kind.added_us(int(new), history) for count, kind in self._kinds)
                rows.append((new, history, alone, added))
        return np.array(rows)

    def rows(self, dense: Curve) -> Array:
        """Rows (new tokens, history, decode rows, context, time): alone, without new tokens, and beside a
        chunk; at as many contexts as keep the interpolated time of a step within `_TOLERANCE`."""
        lanes = {(0, 0, int(rows)): self._alone(i) for i, rows in enumerate(self._rows)}
        for key in product(_NEW, _HISTORY[::3], _BESIDE):
            beside = [(count, kind.beside_us(*key)) for count, kind in self._kinds]
            known = [count * lane for count, lane in beside if lane is not None]
            if known:
                lanes[key] = np.array(known).sum(axis=0)
        kept = self._kept(lanes, dense)
        points = [(*key, self._contexts[i], lane[i]) for key, lane in lanes.items() for i in kept]
        return np.array(points, dtype=float)

    def _alone(self, index: int) -> Array:
        """Decode rows alone at all contexts."""
        lanes = [
            count * kind.decode_us[np.searchsorted(kind.rows, self._rows[index])]
            for count, kind in self._kinds
        ]
        together: Array = np.array(lanes).sum(axis=0)
        return together

    def _kept(self, lanes: Mapping[tuple[int, int, int], Array], dense: Curve) -> list[int]:
        """Indices of contexts that are enough for all lanes."""
        rows = np.array([count for _, _, count in lanes])[:, None]
        tokens = [new + count for new, _, count in lanes]
        times = np.array(list(lanes.values()))
        step = times + dense.at(np.array(tokens, dtype=float))[:, None]
        usual = (rows <= _USUAL_ROWS) & (rows * self._contexts <= _HELD)
        return thinned(self._contexts, times, np.where(usual, _TOLERANCE * step, np.inf))


def fitted_efficiency(measured: Measured, accelerator: Accelerator) -> Efficiency:
    """How much of the data sheet an accelerator's measured operators reach: medians over large GEMMs, GEMMs
    of few tokens, and long prompts; small kernels of a layer by their fixed time."""
    tokens, n, k = (measured.arrays[f"gemm_{name}"] for name in "mnk")
    seconds = measured.arrays["gemm_bfloat16"][:, (n >= 4096) & (n <= 16384)][
        :, :, (k >= 4096) & (k <= 16384)
    ]
    weights = np.outer(n[(n >= 4096) & (n <= 16384)], k[(k >= 4096) & (k <= 16384)])
    seconds = seconds / 1e3
    large, few = tokens >= 4096, tokens <= 16
    flops = 2 * tokens[large, None, None] * weights / seconds[large]
    read = 2 * weights / seconds[few]
    heads = Heads(32, 8, 128, 0, 2)
    prompts, _, more = measured.prompts(heads)
    long = prompts >= 4096
    attended = 4 * heads.heads * heads.head_dim * prompts[long] ** 2 / 2 / (more[long] / _US)
    return Efficiency(
        compute=_share(flops, accelerator.bf16_flops),
        attention_compute=_share(attended, accelerator.bf16_flops),
        bandwidth=_share(read, accelerator.memory_bytes_per_s),
        layer_s=_SMALL_KERNELS * measured.about["small_kernel_s"],
        sampler_s=_SAMPLER_S,
    )


def _share(reached: Array, peak: float) -> float:
    return min(1.0, round(float(np.nanmedian(reached)) / peak, 3))

"""Operators measured on an accelerator, as they ship with the package.

`data/<accelerator>.npz` is made by `scripts/make_tables.py`, which says what is in it; `NOTICE`
beside it says whose measurements they are. An operator of a model is looked up by its shape:
between measured shapes time is interpolated linearly (it is affine in each dimension where it counts),
beyond the largest it grows in proportion. What was not measured raises `Unmeasured`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agentservesim.cost.curves import Array, Curve, distinct, monotone

_FOLDER = resources.files("agentservesim.cost").joinpath("data")
_US = 1e3
"""Microseconds per unit of the files."""


class Unmeasured(Exception):  # noqa: N818
    """An operator that was not measured on an accelerator; says which."""


class Heads(NamedTuple):
    """Attention of one rank: `window` 0 means none, `kv_bytes` is the size of a number in the KV cache."""

    heads: int
    kv_heads: int
    head_dim: int
    window: int
    kv_bytes: int


class Experts(NamedTuple):
    """Experts of a layer: `width` and `experts` of the whole model, cut along the width into `tensor`
    parts or dealt out to `ranks`; `dtype` is that of the weights."""

    hidden: int
    width: int
    per_token: int
    experts: int
    tensor: int
    ranks: int
    dtype: str


@dataclass(frozen=True, eq=False)
class Measured:
    """Operators of one accelerator; times are microseconds."""

    name: str
    arrays: dict[str, Array]
    about: dict[str, Any]

    @property
    def engine(self) -> str:
        """The engine whose kernels were measured."""
        return str(self.about["tables"]["gemm_perf"])

    @property
    def source(self) -> str:
        """Where the measurements are from."""
        return f"{self.about['source']} ({self.engine})"

    def gemm(self, dtype: str, inputs: int, outputs: int) -> Curve:
        """A linear layer by tokens."""
        name = f"gemm_{dtype}"
        if name not in self.arrays:
            raise Unmeasured(f"linear layers in {dtype}")
        n, k = self.arrays["gemm_n"], self.arrays["gemm_k"]
        by_outputs = _along(_regular(self.arrays[name], n, 1, outputs), n, outputs, 1)
        us = _along(_regular(by_outputs, k, 1, inputs), k, inputs, 1) * _US
        return _curve(self.arrays["gemm_m"], us, f"a linear layer of {inputs} x {outputs} in {dtype}")

    def quantize(self, inputs: int) -> Curve:
        """Quantisation of a linear layer's inputs to fp8, by tokens."""
        if "quantize_fp8" not in self.arrays:
            raise Unmeasured("quantisation to fp8")
        us = _along(self.arrays["quantize_fp8"], self.arrays["gemm_k"], inputs, 1) * _US
        return _curve(self.arrays["gemm_m"], us, f"quantisation of {inputs} inputs to fp8")

    def decode(self, shape: Heads) -> tuple[Array, Array, Array]:
        """Attention of decode rows: (rows, contexts, microseconds [rows, contexts], NaN where unknown)."""
        us = self._attention("decode", shape)
        return self.arrays["decode_rows"], self.arrays["decode_context"], us

    def prompts(self, shape: Heads) -> tuple[Array, Array, Array]:
        """Attention of whole prompts by tokens: (tokens, microseconds of one, of each further one)."""
        tokens = self.arrays["prompt_tokens"]
        one, more = self._attention("prompt", shape), self._attention("prompt", shape, "prompt_more")
        known = ~np.isnan(one) & ~np.isnan(more)
        return tokens[known], one[known], more[known]

    def _attention(self, kind: str, shape: Heads, values: str | None = None) -> Array:
        """Values of a shape; other numbers of query heads on the same KV heads are interpolated."""
        alike = self.alike(kind, shape)
        heads = self.arrays[f"{kind}_shapes"][alike, 0]
        return _along(self.arrays[values or kind][alike], heads, shape.heads, 0) * _US

    def alike(self, kind: str, shape: Heads) -> NDArray[np.bool_]:
        """Which shapes of a `kind` (`decode`, `prompt`) are like this one, but for the query heads."""
        shapes = self.arrays[f"{kind}_shapes"]
        alike: NDArray[np.bool_] = (shapes[:, 1:] == shape[1:]).all(axis=1)
        heads = shapes[alike, 0]
        if not len(heads) or not heads[0] <= shape.heads <= heads[-1]:
            window = f", window {shape.window}" if shape.window else ""
            raise Unmeasured(
                f"attention of {shape.heads} heads on {shape.kv_heads} KV heads of {shape.head_dim}{window}"
            )
        return alike

    def latent(self, kind: str, heads: int, kv_bytes: int, fp8: bool) -> tuple[Array, Array, Array]:
        """Latent attention with its projections, `generation` (rows, contexts) or `context` (prompts, tokens
        of each): (numbers, sizes, microseconds [numbers, sizes], NaN where unknown)."""
        at = self.arrays.get(f"latent_{kind}_at")
        if at is None or not (alike := (at[:, :3] == (heads, kv_bytes, fp8)).all(axis=1)).any():
            raise Unmeasured(f"latent attention of {heads} heads")
        numbers, sizes = distinct(at[alike, 3]), distinct(at[alike, 4])
        us = np.full((len(numbers), len(sizes)), np.nan)
        us[np.searchsorted(numbers, at[alike, 3]), np.searchsorted(sizes, at[alike, 4])] = (
            self.arrays[f"latent_{kind}"][alike] * _US
        )
        return numbers, sizes, us

    def experts(self, shapes: Sequence[Experts]) -> Curve:
        """Experts of a layer with the choice among them, by the tokens of all ranks that share them: the
        first of several shapes that was measured."""
        known, types = self.arrays.get("experts_shapes"), self.about["types"]
        for shape in shapes:
            wanted = (*shape[:-1], types.index(shape.dtype))
            if known is not None and (alike := (known == wanted).all(axis=1)).any():
                us = self.arrays["experts"][alike][0] * _US
                return _curve(self.arrays["experts_tokens"], us, "experts")
        shape = shapes[-1]
        cut = f"{shape.tensor} tensor and {shape.ranks} expert ranks"
        raise Unmeasured(f"{shape.experts} experts of {shape.hidden} x {shape.width} in {shape.dtype}, {cut}")

    def collective(self, name: str, ranks: int) -> Curve | None:
        """`all_reduce`, `all_gather` or `reduce_scatter` among accelerators of a node, by the bytes of all
        together; None if it was not measured."""
        axis = name if name == "all_reduce" else "gathering"
        known = self.arrays.get(f"{axis}_ranks")
        if known is None or ranks not in known:
            return None
        us = self.arrays[name][list(known).index(ranks)] * _US
        sizes, times = _curve(self.arrays[f"{axis}_bytes"], us, name)
        return Curve(sizes, monotone(times))


@cache
def load_measured(gpu: str) -> Measured | None:
    """The measurements of an accelerator, if any ship with the package."""
    file = _FOLDER.joinpath(f"{gpu}.npz")
    if not file.is_file():
        return None
    with file.open("rb") as stream, np.load(stream) as archive:
        arrays = {name: archive[name] for name in archive.files}
    about = json.loads(arrays.pop("about").tobytes())
    return Measured(gpu, {name: array.astype(float) for name, array in arrays.items()}, about)


def _along(values: Array, points: Array, at: float, axis: int) -> Array:
    """Values at a place on one axis: linear between points, in proportion beyond the last."""
    if at >= points[-1]:
        grown: Array = values.take(-1, axis) * (at / points[-1])
        return grown
    cell = max(0, int(np.searchsorted(points, at, "right")) - 1)
    share = max(0.0, (at - points[cell]) / (points[cell + 1] - points[cell]))
    low, high = np.asarray(values.take(cell, axis)), np.asarray(values.take(cell + 1, axis))
    return low if share == 0.0 else low + (high - low) * share


_OUTLIER = 1.1


def _regular(values: Array, points: Array, axis: int, at: float) -> Array:
    """Values without those that say nothing about their neighbours: a shape for which the library chose a
    kernel so bad that it takes a tenth more than the line through the shapes on either side. They are
    replaced by that line, unless it is the shape `at` that is asked for."""
    last = np.moveaxis(values, axis, -1)
    share = (points[1:-1] - points[:-2]) / (points[2:] - points[:-2])
    line = last[..., :-2] + (last[..., 2:] - last[..., :-2]) * share
    inner = last[..., 1:-1]
    bad = (inner > _OUTLIER * line) & (points[1:-1] != at)
    kept = last.copy()
    kept[..., 1:-1] = np.where(bad, line, inner)
    return np.moveaxis(kept, -1, axis)


def _curve(points: Array, values: Array, what: str) -> Curve:
    known = ~np.isnan(values)
    if known.sum() < 2:
        raise Unmeasured(what)
    return Curve(points[known], values[known])

"""Operator-table folders: CSV files of kernel times in microseconds, per layer and rank.

A folder holds one model on one accelerator at one tensor-parallel degree:

- `dense.csv`: layer, tokens, time_us: operators whose time depends on the number of tokens;
- `per_sequence.csv`: layer, sequences, time_us: head and sampler;
- `attention.csv`: prefill_chunk, kv_prefill, n_decode, kv_decode, time_us: one chunk on its history
  (or none: 0, 0) together with n decode rows of one context (or none: 0, 0);
- `moe.csv` (sparse models): tokens, activated_experts, time_us: router and experts of a layer.

A folder of such folders named `tp1`, `tp2`, ... is accepted where the degree picks one. Experts that were not
measured at a degree are those of `tp1`: ranks hold whole ones, and each has its share of the tokens.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agentservesim.cost.clocks import sustained
from agentservesim.cost.config import Efficiency
from agentservesim.cost.curves import Curve, distinct, monotone, total
from agentservesim.cost.deployment import Deployment
from agentservesim.cost.layers import FeedForward
from agentservesim.cost.modelnames import FP8_FORM, catalogued_model
from agentservesim.cost.models import DTYPE_BYTES
from agentservesim.cost.tables import StepTables
from agentservesim.lookup import did_you_mean
from agentservesim.model import InputError
from agentservesim.settings import read_text

Rows = NDArray[np.float64]

TIMES_PER_LAYER = {
    "qkv_proj": 1,
    "o_proj": 1,
    "gate_up_proj": 1,
    "down_proj": 1,
    "act_fn": 1,
    "layernorm": 2,
    "rotary_emb": 2,
    "qk_norm": 1,
}
"""Dense operators of a layer and how often it has them: a norm before attention and one before the MLP; the
rotary embedding twice, for the KV write, as small a kernel, which profiles leave out."""

ONCE = ("embedding", "final_layernorm")
"""Dense operators of a step."""

GAP_US = 0.1
"""From one kernel of a CUDA graph to the next; profiles time each by itself. Of two recorded servers."""

_EXPERT_KERNELS = 8
"""Kernels of a layer's experts, which a profile has as one: the router, its choice, two that sort by experts,
two grouped GEMMs, activation and sum (vLLM, `fused_experts`)."""

_POINTS = 200
"""Points of the experts' curve."""

PER_SEQUENCE = ("lm_head", "sampler")


@dataclass(frozen=True)
class OperatorTables:
    """Contents of a folder. Named tables have rows (size, microseconds), ascending in size.

    attention: rows (prefill_chunk, kv_prefill, n_decode, kv_decode, microseconds).
    moe: rows (tokens, activated_experts, microseconds), or None. moe_ranks: tensor-parallel ranks that they
        were measured on.
    """

    folder: Path
    dense: dict[str, Rows]
    per_sequence: dict[str, Rows]
    attention: Rows
    moe: Rows | None
    moe_ranks: int = 1


def read_tables(folder: Path, ranks: int) -> OperatorTables:
    """Read the tables for `ranks` tensor-parallel ranks.

    Raises InputError for a folder without tables of that degree and for malformed files, with the line.
    """
    folder = _degree(folder, ranks)
    whole = folder.parent / "tp1" / "moe.csv"
    moe, moe_ranks = folder / "moe.csv", ranks
    if not moe.is_file() and whole.is_file():
        moe, moe_ranks = whole, 1
    attention = _numbers(
        folder / "attention.csv", ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "time_us")
    )
    _check_attention(folder / "attention.csv", attention)
    return OperatorTables(
        folder=folder,
        dense=_named(folder / "dense.csv", "tokens", (*TIMES_PER_LAYER, *ONCE)),
        per_sequence=_named(folder / "per_sequence.csv", "sequences", PER_SEQUENCE),
        attention=attention,
        moe=_numbers(moe, ("tokens", "activated_experts", "time_us")) if moe.exists() else None,
        moe_ranks=moe_ranks,
    )


def step_tables(on: Deployment, files: OperatorTables) -> StepTables:
    """The tables of a step, from those of its operators.

    Raises InputError where they are another model's.
    """
    _check_model(on, files)
    layers, points = on.model.layers, files.attention
    alone = points[points[:, 2] == 0][:, [0, 1, 4]] * [1, 1, layers]
    launch = alone[:, 2].min()
    times = {layer: layers * TIMES_PER_LAYER.get(layer, 1 / layers) for layer in files.dense}
    kernels = 1 + sum(TIMES_PER_LAYER.get(layer, 0) for layer in files.dense)
    dense = total((times[layer], Curve(*rows.T)) for layer, rows in files.dense.items())
    elsewhere = f", experts in tp{files.moe_ranks}" if files.moe_ranks != on.ranks else ""
    return StepTables(
        source=f"measured operators in {files.folder}{elsewhere}",
        dense=sustained(
            Curve(dense.points, dense.values + layers * kernels * GAP_US), dense.points, on.stages
        ),
        head=total((1, Curve(*rows.T)) for rows in files.per_sequence.values()),
        experts=None if files.moe is None else _experts(on, files.moe, files.moe_ranks),
        chunks=np.column_stack([alone, alone[:, 2] - launch]),
        rows=points[points[:, 2] > 0] * [1, 1, 1, 1, layers],
        launch_us=float(launch),
    )


def _experts(on: Deployment, points: Rows, ranks: int) -> Curve:
    """Router and experts of all layers by the tokens of all engines, of which each accelerator has its share
    and wakes the experts that are expected; `points` are of one of `ranks` ranks that share the experts.

    Fewer tokens than needed to wake so many experts, which no point has, are priced as the fewest that do.
    """
    tokens, awake = distinct(points[:, 0]), distinct(points[:, 1])
    lanes: list[NDArray[np.float64]] = []
    for count in tokens[::-1]:
        lane = points[points[:, 0] == count]
        lane = lane[np.argsort(lane[:, 1])]
        known = np.interp(awake, lane[:, 1], lane[:, 2])
        lanes.append(np.where(awake > lane[-1, 1], lanes[-1], known) if lanes else known)
    table = monotone(monotone(np.array(lanes[::-1]), 1), 0)
    own = distinct(np.rint(np.geomspace(1, tokens[-1], _POINTS)))
    mlp = on.groups[0].feed_forward
    everyone = own * (on.expert_ways // ranks)
    values = []
    for count, together in zip(own, everyone, strict=True):
        lane = [np.interp(count, tokens, column) for column in table.T]
        values.append(np.interp(on.awake_experts(mlp, int(together)), awake, lane))
    layer_us = monotone(np.array(values)) + everyone * _foreign_us(on, mlp)
    layer_us += _EXPERT_KERNELS * GAP_US
    return Curve(everyone, on.model.layers * layer_us)


def _foreign_us(on: Deployment, mlp: FeedForward) -> float:
    """Microseconds that a token adds to a layer for the experts it chose on other ranks: their places in the
    intermediate results are written as zeros, activated, written again and summed with the rest (vLLM,
    `TritonExperts.apply`)."""
    if on.engines == 1:
        return 0.0
    foreign = mlp.experts_per_token * (1 - 1 / on.expert_ways)
    numbers = foreign * (5 * mlp.expert_width + 2 * on.model.hidden)
    rate = on.accelerator.memory_bytes_per_s * Efficiency().bandwidth
    return numbers * DTYPE_BYTES[on.model.dtype] / rate * 1e6


def _check_model(on: Deployment, tables: OperatorTables) -> None:
    kinds = on.groups
    name, folder = on.model.name, tables.folder
    other = _measured_model(folder)
    if other is not None and _shape(name) not in (None, other):
        raise InputError(f"tables: {folder} was measured on {other}, the model is {name}")
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


def _measured_model(folder: Path) -> str | None:
    """The model that `meta.json` in the folder, or in that of all degrees, names; None if none known does."""
    for path in (folder / "meta.json", folder.parent / "meta.json"):
        if path.is_file():
            try:
                about = json.loads(read_text(path))
            except json.JSONDecodeError as error:
                raise InputError(f"{path}:{error.lineno}: not JSON ({error.msg})") from None
            model = about.get("model") if isinstance(about, dict) else None
            return _shape(model) if isinstance(model, str) else None
    return None


def _shape(model: str) -> str | None:
    """The catalogue's name of a model, in whatever type it is; None if it is not there."""
    name = catalogued_model(model)
    return None if name is None else name.removesuffix(FP8_FORM)


def _degree(folder: Path, ranks: int) -> Path:
    if not folder.is_dir():
        raise InputError(f"tables: {folder} is not a folder; give one that holds dense.csv and attention.csv")
    found = re.fullmatch(r"tp(\d+)", folder.resolve().name)
    if found and int(found[1]) != ranks:
        raise InputError(
            f"tables: {folder} is of tensor parallelism {found[1]}, tensor_parallel_size is {ranks}"
        )
    if (folder / "dense.csv").exists():
        return folder
    if (folder / f"tp{ranks}").is_dir():
        return folder / f"tp{ranks}"
    held = sorted(path.name for path in folder.glob("tp*") if path.is_dir())
    have = f"it holds {', '.join(held)}" if held else "it holds no tables"
    raise InputError(f"tables: {folder} has no dense.csv and no folder tp{ranks}; {have}")


def _lines(path: Path, header: Sequence[str]) -> list[str]:
    lines = read_text(path).splitlines()
    if not lines or lines[0].split(",") != list(header):
        raise InputError(f"{path}:1: the header must be '{','.join(header)}'")
    if len(lines) < 2:
        raise InputError(f"{path}: holds no rows")
    return lines[1:]


def _numbers(path: Path, header: Sequence[str]) -> Rows:
    lines = _lines(path, header)
    try:
        rows = np.loadtxt(lines, delimiter=",", ndmin=2, comments=None)
        if rows.shape[1] == len(header) and len(rows) == len(lines) and _sane(rows):
            return rows
    except ValueError:
        pass
    for number, line in enumerate(lines, 2):
        _parse(path, number, line.split(","), header)
    raise InputError(f"{path}: cannot be read as a table of {len(header)} columns")


def _sane(rows: Rows) -> bool:
    return bool(np.isfinite(rows).all() and (rows >= 0).all() and (rows[:, :-1] % 1 == 0).all())


def _parse(path: Path, number: int, cells: Sequence[str], header: Sequence[str]) -> list[float]:
    if len(cells) != len(header):
        raise InputError(f"{path}:{number}: {len(cells)} columns; there must be {len(header)}")
    values = []
    for name, cell in zip(header, cells, strict=True):
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= 0) or (name != "time_us" and value % 1):
            kind = "finite number" if name == "time_us" else "whole number"
            raise InputError(f"{path}:{number}: {name} is '{cell}'; it must be a {kind}, 0 or more")
        values.append(value)
    return values


def _named(path: Path, size: str, known: Sequence[str]) -> dict[str, Rows]:
    tables: dict[str, dict[float, float]] = {}
    for number, line in enumerate(_lines(path, ("layer", size, "time_us")), 2):
        layer, _, rest = line.partition(",")
        if layer not in known:
            raise InputError(f"{path}:{number}: layer '{layer}' is unknown{did_you_mean(layer, known)}")
        tokens, time_us = _parse(path, number, rest.split(","), (size, "time_us"))
        if tokens in tables.setdefault(layer, {}):
            raise InputError(f"{path}:{number}: {layer} at {tokens:.0f} {size} is there twice")
        tables[layer][tokens] = time_us
    return {layer: np.array(sorted(points.items())) for layer, points in tables.items()}


def _check_attention(path: Path, rows: Rows) -> None:
    alone = (rows[:, 0] == 0) & (rows[:, 2] > 0)
    chunks = (rows[:, 0] > 0) & (rows[:, 2] == 0)
    for kind, mask in (("decode rows alone (prefill_chunk 0)", alone), ("chunks alone (n_decode 0)", chunks)):
        if not mask.any():
            raise InputError(f"{path}: holds no {kind}; both are needed")

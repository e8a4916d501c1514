"""Make the operator measurements that ship with the package, from those of aiconfigurator-core.

    python -m pip install -e '.[tables]'
    python scripts/make_tables.py            # writes src/agentservesim/cost/data/*.npz

aiconfigurator-core (NVIDIA, Apache-2.0) carries kernel times as files of rows, one folder for each
accelerator, operator and engine version. This script takes vLLM's rows,
brings each operator into one dense array, and keeps what a step's price needs: everything of GEMMs,
generation attention, experts and all-reduces; of context attention, which is measured for whole prompts
only, the time of one prompt and what each further one adds. Times are milliseconds in half precision
(error at most 0.05 %). The same input gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml
from numpy.typing import NDArray

OUT = Path(__file__).resolve().parent.parent / "src/agentservesim/cost/data"

SYSTEMS = {
    "a100-sxm": "a100_sxm",
    "h100-sxm": "h100_sxm",
    "h200-sxm": "h200_sxm",
    "b200": "b200_sxm",
    "gb200": "gb200",
    "l40s": "l40s",
    "rtx-pro-6000": "rtx_pro_6000_server",
}
"""Our name of an accelerator: theirs."""

DTYPES = ("bfloat16", "fp8", "fp8_block")
EXPERT_DTYPES = (*DTYPES, "w4a16_mxfp4")
ROUTING = ("balanced", "power_law_1.01")
"""Routing of tokens to experts: dealt out evenly, and shares that fall off as a power of rank, the milder of
two that were measured. What a text does lies between; the mean is taken where both were measured."""

GATHERING = ("all_gather", "reduce_scatter")
"""Collectives that exchange tokens for experts."""

WINDOWS = (0, 128)
HEAD_DIMS = (64, 128, 192, 256)

Rows = pl.DataFrame
Arrays = dict[str, NDArray[Any]]


class Source:
    """Files of one accelerator, and notes: which were read; the attention kernel by bytes of a KV number."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.used: dict[str, str] = {}
        self.kernels: dict[str, str] = {}

    def rows(self, family: str, maker: str, table: str) -> Rows | None:
        """The newest version's rows of a table, with milliseconds in `latency`; None if there is none."""
        found = sorted(
            self._root.glob(f"{family}/{maker}/*/{table}.parquet"), key=lambda path: _number(path.parent.name)
        )
        if not found:
            return None
        self.used[table] = f"{maker} {found[-1].parent.name}"
        return pl.read_parquet(found[-1]).filter(pl.col("latency") > 0)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def grid(rows: Rows, columns: Sequence[str], axes: Sequence[Sequence[int]]) -> NDArray[np.float16]:
    """Latency by the values of `columns`, each along its axis; NaN where nothing was measured."""
    cells = np.full([len(axis) for axis in axes], np.nan)
    at = tuple(
        np.searchsorted(axis, rows[column].to_numpy()) for column, axis in zip(columns, axes, strict=True)
    )
    cells[at] = rows["latency"].to_numpy()
    return cells.astype(np.float16)


def axis(rows: Rows, column: str) -> list[int]:
    """Sorted values of a column."""
    return sorted(rows[column].unique().to_list())


def linear_layers(source: Source) -> Arrays:
    """GEMMs [tokens, outputs, inputs] of each type; fp8 quantisation of their inputs [tokens, inputs]."""
    rows = source.rows("gemm", "vllm", "gemm_perf")
    assert rows is not None, "no GEMMs"
    axes = [axis(rows, name) for name in "mnk"]
    arrays: Arrays = {f"gemm_{name}": np.array(at, np.int32) for name, at in zip("mnk", axes, strict=True)}
    for dtype in DTYPES:
        of_type = rows.filter(pl.col("gemm_dtype") == dtype)
        if of_type["n"].n_unique() > 3:
            arrays[f"gemm_{dtype}"] = grid(of_type, "mnk", axes)
    parts = [source.rows("quantize", "vllm", name) for name in ("computescale_perf", "scale_matrix_perf")]
    known = [grid(part, "mk", (axes[0], axes[2])).astype(float) for part in parts if part is not None]
    if known:
        arrays["quantize_fp8"] = sum(known[1:], known[0]).astype(np.float16)
    return arrays


SHAPE = ("num_heads", "num_key_value_heads", "head_dim", "window_size", "kv_bytes")


def _attention(rows: Rows) -> tuple[Rows, Rows]:
    """Rows with the columns of `SHAPE`, and the shapes there are."""
    if "window_size" not in rows.columns:
        rows = rows.with_columns(pl.lit(0).alias("window_size"))
    rows = rows.with_columns(
        pl.when(pl.col("kv_cache_dtype") == "fp8").then(1).otherwise(2).alias("kv_bytes")
    )
    rows = rows.filter(pl.col("head_dim").is_in(HEAD_DIMS), pl.col("window_size").is_in(WINDOWS))
    shapes = rows.select(SHAPE).unique().sort(SHAPE).with_row_index("shape")
    return rows.join(shapes, on=SHAPE, maintain_order="left"), shapes


def attention(source: Source) -> Arrays:
    """Generation attention [shape, rows, context]; context attention of one prompt [shape, tokens] and of
    each further one [shape, tokens]."""
    arrays: Arrays = {}
    rows = source.rows("attention", "vllm", "generation_attention_perf")
    assert rows is not None, "no generation attention"
    rows, shapes = _attention(rows.with_columns(pl.col("step") + 1))
    axes = [axis(rows, name) for name in ("shape", "batch_size", "step")]
    arrays["decode_shapes"] = shapes.select(SHAPE).to_numpy().astype(np.int32)
    arrays["decode_rows"], arrays["decode_context"] = (np.array(at, np.int32) for at in axes[1:])
    arrays["decode"] = grid(rows, ("shape", "batch_size", "step"), axes)
    rows = source.rows("attention", "vllm", "context_attention_perf")
    assert rows is not None, "no context attention"
    kernels = (
        rows.filter(pl.col("head_dim") == 128)
        .group_by("kv_cache_dtype")
        .agg(pl.col("kernel_source").mode().sort().first())
    )
    source.kernels = {"1" if kv == "fp8" else "2": name for kv, name in kernels.rows()}
    rows, shapes = _attention(rows)
    axes = [axis(rows, name) for name in ("shape", "batch_size", "isl")]
    arrays["prompt_shapes"] = shapes.select(SHAPE).to_numpy().astype(np.int32)
    arrays["prompt_tokens"] = np.array(axes[2], np.int32)
    times = grid(rows, ("shape", "batch_size", "isl"), axes).astype(float)
    arrays["prompt"] = times[:, 0].astype(np.float16)
    arrays["prompt_more"] = more(times, np.array(axes[1])).astype(np.float16)
    return arrays


def more(times: NDArray[np.float64], prompts: NDArray[np.int64]) -> NDArray[np.float64]:
    """What each further prompt adds: the slope between the two largest numbers of prompts measured."""
    slopes = np.diff(times, axis=1) / np.diff(prompts)[None, :, None]
    last = np.full((len(times), times.shape[2]), np.nan)
    for i in range(slopes.shape[1]):
        last = np.where(np.isnan(slopes[:, i]), last, slopes[:, i])
    return last


EXPERTS = ("hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size", "dtype")


def experts(source: Source) -> Arrays:
    """Router and experts of a layer [shape, tokens]; tokens are those of all ranks that share the experts."""
    rows = source.rows("moe", "vllm", "moe_perf")
    if rows is None:
        return {}
    rows = rows.filter(pl.col("distribution").is_in(ROUTING), pl.col("moe_dtype").is_in(EXPERT_DTYPES))
    number = {dtype: index for index, dtype in enumerate(EXPERT_DTYPES)}
    rows = rows.with_columns(pl.col("moe_dtype").replace_strict(number, return_dtype=pl.Int64).alias("dtype"))
    rows = rows.filter((pl.col("moe_tp_size") <= 16) & (pl.col("moe_ep_size") <= 64))
    rows = rows.group_by(*EXPERTS, "num_tokens", maintain_order=True).agg(
        pl.col("latency").mean(), pl.col("distribution").n_unique().alias("routings")
    )
    rows = rows.filter(pl.col("routings") == pl.col("routings").max().over(EXPERTS))
    shapes = rows.select(EXPERTS).unique().sort(EXPERTS).with_row_index("shape")
    rows = rows.join(shapes, on=EXPERTS, maintain_order="left")
    axes = [axis(rows, "shape"), axis(rows, "num_tokens")]
    return {
        "experts_shapes": shapes.select(EXPERTS).to_numpy().astype(np.int32),
        "experts_tokens": np.array(axes[1], np.int32),
        "experts": grid(rows, ("shape", "num_tokens"), axes),
    }


def all_reduce(source: Source) -> Arrays:
    """All-reduce [ranks, bytes] as vLLM does it within a CUDA graph: with a kernel of its own, large messages
    with NCCL. Sizes are counted in numbers of two bytes."""
    rows = source.rows("comm", "vllm", "custom_allreduce_perf")
    if rows is None:
        return {}
    rows = rows.filter(pl.col("kernel_source") == "vLLM_custom_graph")
    axes = [axis(rows, "num_gpus"), axis(rows, "message_size")]
    return {
        "all_reduce_ranks": np.array(axes[0], np.int32),
        "all_reduce_bytes": np.array(axes[1], np.int64) * 2,
        "all_reduce": grid(rows, ("num_gpus", "message_size"), axes),
    }


def gathering(source: Source) -> Arrays:
    """NCCL's all-gather and reduce-scatter [ranks, bytes]; bytes are those of all ranks together. Sizes are
    counted in numbers of two bytes."""
    rows = source.rows("comm", "nccl", "nccl_perf")
    if rows is None:
        return {}
    rows = rows.filter(pl.col("nccl_dtype") == "half", pl.col("op_name").is_in(GATHERING))
    axes = [axis(rows, "num_gpus"), axis(rows, "message_size")]
    arrays: Arrays = {
        "gathering_ranks": np.array(axes[0], np.int32),
        "gathering_bytes": np.array(axes[1], np.int64) * 2,
    }
    for name in GATHERING:
        arrays[name] = grid(rows.filter(pl.col("op_name") == name), ("num_gpus", "message_size"), axes)
    return arrays


def latent_attention(source: Source) -> Arrays:
    """Multi-head latent attention with its projections: rows of (heads, KV bytes, fp8 projections,
    prompts, tokens a prompt, ms) and (heads, KV bytes, fp8 projections, rows, context, ms)."""
    arrays: Arrays = {}
    for name, size in (("context", "isl"), ("generation", "step")):
        rows = source.rows("mla", "vllm", f"mla_{name}_module_perf")
        if rows is None:
            continue
        rows = rows.with_columns(
            pl.when(pl.col("kv_cache_dtype") == "fp8").then(1).otherwise(2).alias("kv_bytes"),
            (pl.col("gemm_type") == "fp8_block").cast(pl.Int64).alias("fp8"),
        )
        keys = ["num_heads", "kv_bytes", "fp8", "batch_size", size]
        rows = rows.group_by(keys).agg(pl.col("latency").min()).sort(keys)
        arrays[f"latent_{name}_at"] = rows.select(keys).to_numpy().astype(np.int32)
        arrays[f"latent_{name}"] = rows["latency"].to_numpy().astype(np.float16)
    return arrays


def make(gpu: str, system: str, root: Path, version: str) -> Arrays:
    """All arrays of one accelerator."""
    source = Source(root / "systems/data" / system)
    arrays: Arrays = {}
    for part in (linear_layers, attention, experts, all_reduce, gathering, latent_attention):
        arrays |= part(source)
    system_spec = yaml.safe_load((root / f"systems/{system}.yaml").read_text())["gpu"]
    about = {
        "gpu": gpu,
        "source": f"aiconfigurator-core {version}, {system}",
        "licence": "Apache-2.0, Copyright NVIDIA Corporation & affiliates",
        "tables": source.used,
        "kernels": source.kernels,
        "small_kernel_s": system_spec["mem_empirical_constant_latency"],
        "small_kernel_bandwidth": system_spec["mem_bw_empirical_scaling_factor"],
        "routing": ROUTING,
        "types": list(EXPERT_DTYPES),
    }
    arrays["about"] = np.frombuffer(json.dumps(about, sort_keys=True).encode(), np.uint8)
    return arrays


def main() -> None:
    """Write one file for each accelerator."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT, help="folder to write to")
    parser.add_argument("--only", choices=SYSTEMS, action="append", help="accelerators to write (all)")
    chosen = parser.parse_args()
    root = Path(str(resources.files("aiconfigurator_core")))
    version = metadata.version("aiconfigurator-core")
    chosen.out.mkdir(parents=True, exist_ok=True)
    for gpu in chosen.only or SYSTEMS:
        path = chosen.out / f"{gpu}.npz"
        np.savez_compressed(path, **make(gpu, SYSTEMS[gpu], root, version))  # type: ignore[arg-type]
        print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()

"""Pictures of memory and load over time: KV by tier and state, queues and KV per instance, transfers."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from agentservesim.report.html.series import Floats, bins, interval_average, rounded, step_average
from agentservesim.report.saved_run import SavedRun, by_instance

STATES = ("pinned", "active", "in_flight", "cached")
"""From the axis up; what is left of a tier is free. Pinned is the KV of sessions in their gap."""

TIME_BINS = 300
HEAT_BINS = 120
MAX_ROWS = 32
MAX_INSTANCES = 8
UNRECORDED = (
    "This run has no tiers and no pins, so what is cached was not recorded; shown is the context of the "
    "turns that were running, shared prefixes counted for each of them."
)


def kv_over_time(run: SavedRun) -> dict[str, Any]:
    """Bytes of each tier in each state, averaged over bins of time: of the fleet, of its first instances."""
    edges = bins(run.end_s, TIME_BINS)
    names = run.instance_names()
    choices = [("the whole fleet", range(len(names)))]
    if len(names) > 1:
        choices += [(name, range(i, i + 1)) for i, name in enumerate(names[:MAX_INSTANCES])]
    source = _recorded if run.has("residency") else _running
    views = [{"label": label, "tiers": source(run, instances, edges)} for label, instances in choices]
    note = "" if run.has("residency") else UNRECORDED
    if len(names) > MAX_INSTANCES:
        note = f"{note} Of {len(names):,} instances the first {MAX_INSTANCES} can be looked at alone.".strip()
    return {"edges_s": rounded(edges), "states": STATES, "views": views, "note": note}


def _recorded(run: SavedRun, instances: range, edges: Floats) -> list[dict[str, Any]]:
    """The tiers as `residency.parquet` has them, over the pools that these instances see."""
    table = run.table("residency")
    scopes = {tier["name"]: tier["scope"] for tier in run.summary["scenario"]["memory"]["tiers"]}
    per_node = run.summary["scenario"]["memory"]["instances_per_node"]
    owner = {"instance": pl.col("instance"), "node": pl.col("instance") // per_node, "fleet": pl.lit(0)}
    tiers = []
    for name in ("hbm", *scopes):
        pool = owner[scopes.get(name, "instance")]
        seen = pl.DataFrame({"instance": instances}).select(pool).to_series().to_list()
        rows = table.filter(pl.col("tier") == name).with_columns(pool=pool).filter(pl.col("pool").is_in(seen))
        levels, size = np.zeros((len(edges) - 1, len(STATES))), 0.0
        for own in rows.partition_by("pool"):
            states = own.select(f"{state}_bytes" for state in STATES).to_numpy()
            levels += step_average(own["time_s"], states, edges)
            size += float(states[0].sum() + own["free_bytes"][0])
        bytes_ = {state: rounded(levels[:, i]) for i, state in enumerate(STATES)}
        tiers.append({"name": name, "size_bytes": size, "bytes": bytes_})
    return tiers


def _running(run: SavedRun, instances: range, edges: Floats) -> list[dict[str, Any]]:
    """HBM alone, with the context of the turns that were running."""
    pools = _pool_bytes(run)
    turns = run.table("turns").filter(pl.col("instance").is_in(list(instances)))
    held = _context_bytes(run, turns)
    active = interval_average(turns["scheduled_s"], turns["finish_s"], held, edges)
    size = float(sum(pools[i] for i in instances))
    return [{"name": "hbm", "size_bytes": size, "bytes": {"active": rounded(active)}}]


def _context_bytes(run: SavedRun, turns: pl.DataFrame) -> Floats:
    per_token = np.array([engine["kv_bytes_per_token"] for engine in run.engines()])
    tokens = (turns["prompt_tokens"] + turns["output_tokens"] / 2).to_numpy()
    return np.asarray(tokens * per_token[turns["instance"].to_numpy()], float)


def _pool_bytes(run: SavedRun) -> list[int]:
    """The size of each instance's HBM pool."""
    return [
        (engine["num_gpu_blocks"] - 1) * engine["block_size"] * engine["kv_bytes_per_token"]
        for engine in run.engines()
    ]


def heat(run: SavedRun) -> dict[str, Any]:
    """For bins of time and each instance (or as many as MAX_ROWS rows hold): turns waiting, HBM in use.

    In use is what is active, pinned or in flight, as a share of the pool.
    """
    edges = bins(run.end_s, HEAT_BINS)
    names = run.instance_names()
    groups = np.array_split(np.arange(len(names)), min(len(names), MAX_ROWS))
    labels = [names[g[0]] if len(g) == 1 else f"no. {g[0]} to {g[-1]}" for g in groups]
    waiting, used = _waiting(run, edges), _used(run, edges)
    nothing = np.zeros(HEAT_BINS)

    def over(values: dict[int, Floats]) -> list[list[float]]:
        return [rounded(np.mean([values.get(int(i), nothing) for i in group], axis=0)) for group in groups]

    return {
        "edges_s": rounded(edges),
        "instances": labels,
        "waiting": over(waiting),
        "kv": over(used),
        "note": "" if run.has("residency") else UNRECORDED,
    }


def _waiting(run: SavedRun, edges: Floats) -> dict[int, Floats]:
    """Turns that wait, for each instance that served any."""
    return {
        instance: interval_average(turns["ready_s"], turns["scheduled_s"], 1.0, edges)
        for instance, turns in by_instance(run.table("turns")).items()
    }


def _used(run: SavedRun, edges: Floats) -> dict[int, Floats]:
    """The share of HBM in use, for each instance of which something is known."""
    pools = _pool_bytes(run)
    if not run.has("residency"):
        return {
            instance: interval_average(
                turns["scheduled_s"], turns["finish_s"], _context_bytes(run, turns) / pools[instance], edges
            )
            for instance, turns in by_instance(run.table("turns")).items()
        }
    used = pl.col("active_bytes") + pl.col("pinned_bytes") + pl.col("in_flight_bytes")
    rows = run.table("residency").filter(pl.col("tier") == "hbm").select("instance", "time_s", used=used)
    return {
        instance: step_average(own["time_s"], own["used"] / pools[instance], edges)
        for instance, own in by_instance(rows).items()
    }


def transfers(run: SavedRun) -> dict[str, Any]:
    """For each link and direction the bytes per second sent, averaged over bins of time, and its totals."""
    if not run.has("transfers"):
        return {"edges_s": [], "links": []}
    edges = bins(run.end_s, TIME_BINS)
    table = run.table("transfers")
    way = pl.when(pl.col("verb") == "promote").then(pl.lit("up")).otherwise(pl.lit("down"))
    links = []
    for row in run.table("links").iter_rows(named=True):
        rows = table.filter((pl.col("link") == row["link"]) & (way == row["direction"]))
        lasted = (rows["end_s"] - rows["start_s"]).clip(lower_bound=1e-9)
        rate = interval_average(rows["start_s"], rows["start_s"] + lasted, rows["bytes"] / lasted, edges)
        waited = (rows["start_s"] - rows["asked_s"]).mean()
        links.append(
            {
                "link": row["link"],
                "direction": row["direction"],
                "bytes": row["bytes"],
                "busy": row["busy_s"] / row["open_s"] if row["open_s"] else 0.0,
                "copies": rows.height,
                "waited_s": waited,
                "rate": rounded(rate),
            }
        )
    return {"edges_s": rounded(edges), "links": links}

"""The picture of gaps: what became of a session's KV while its tools ran, by the length of the gap."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from agentservesim.model import InputError
from agentservesim.policies import load_policy
from agentservesim.report.html.series import rounded

OUTCOMES = ("kept", "reloaded", "demoted", "dropped")
"""Kept in HBM; demoted and reloaded; demoted and computed again all the same; dropped and computed again."""

PER_DECADE = 3


def gap_table(turns: pl.DataFrame, transfers: pl.DataFrame | None) -> pl.DataFrame:
    """A row for each gap after which a turn could reuse KV: length, outcome, tokens kept, loaded, computed.

    Reusable are the prompt tokens that were not new. The outcome is that of most of them; whether KV that was
    computed again had been sent to a tier is what the transfers of the session say; a spill is nobody's.
    """
    loaded = [name for name in turns.columns if name.startswith("cached_") and name.endswith("_tokens")]
    loaded = [name for name in loaded if name not in ("cached_tokens", "cached_hbm_tokens")]
    kept = pl.col("cached_hbm_tokens" if loaded else "cached_tokens")
    reloaded = pl.sum_horizontal(*loaded) if loaded else pl.lit(0, pl.Int64)
    reusable = pl.col("prompt_tokens") - pl.col("new_tokens")
    before = pl.col("scheduled_s").shift(1).over("program_id", "session_id", order_by="index")
    known = turns.with_columns(before.fill_null(0.0).alias("turn_before_s"))
    gaps = known.filter((pl.col("gap_s") > 0) & (reusable > 0)).select(
        "program_id",
        "session_id",
        "turn_before_s",
        "ready_s",
        "gap_s",
        pl.min_horizontal(kept, reusable).alias("kept_tokens"),
        pl.min_horizontal(reloaded, reusable).alias("reloaded_tokens"),
        (reusable - kept - reloaded).clip(lower_bound=0).alias("computed_tokens"),
    )
    most = pl.max_horizontal("kept_tokens", "reloaded_tokens", "computed_tokens")
    outcome = (
        pl.when(pl.col("kept_tokens") == most)
        .then(pl.lit("kept"))
        .when(pl.col("reloaded_tokens") == most)
        .then(pl.lit("reloaded"))
        .when(pl.col("sent"))
        .then(pl.lit("demoted"))
        .otherwise(pl.lit("dropped"))
    )
    return _sent_down(gaps, transfers).with_columns(outcome.alias("outcome"))


def _sent_down(gaps: pl.DataFrame, transfers: pl.DataFrame | None) -> pl.DataFrame:
    """The gaps with a column `sent`: whether KV of the session was copied down since its turn before."""
    if transfers is None or not transfers.height:
        return gaps.with_columns(sent=pl.lit(False))
    down = transfers.filter(pl.col("verb") != "promote").select("program_id", "session_id", "asked_s")
    joined = gaps.sort("ready_s").join_asof(
        down.sort("asked_s"),
        left_on="ready_s",
        right_on="asked_s",
        by=["program_id", "session_id"],
        check_sortedness=False,
    )
    sent = (pl.col("asked_s") >= pl.col("turn_before_s")).fill_null(False)
    return joined.with_columns(sent=sent).drop("asked_s")


def outcomes(gaps: pl.DataFrame) -> dict[str, Any]:
    """Gaps, and tokens that could be reused after them, by length (logarithmic bins) and outcome."""
    decade = pl.col("gap_s").log10()
    numbered = gaps.with_columns(bin=(decade * PER_DECADE).floor().cast(pl.Int64))
    if not numbered.height:
        return {"edges_s": [], "gaps": {}, "tokens": {}, "cut": None}
    low, high = numbered.select(pl.col("bin").min(), pl.col("bin").max().alias("max")).row(0)
    width = high - low + 1
    tokens = pl.sum_horizontal("kept_tokens", "reloaded_tokens", "computed_tokens")
    counted = numbered.group_by("bin", "outcome").agg(pl.len().alias("gaps"), tokens.sum().alias("tokens"))
    found: dict[str, dict[str, list[int]]] = {}
    for what in ("gaps", "tokens"):
        found[what] = {outcome: [0] * width for outcome in OUTCOMES}
        for number, outcome, count in counted.select("bin", "outcome", what).iter_rows():
            found[what][outcome][number - low] = count
    edges = 10.0 ** (np.arange(low, high + 2) / PER_DECADE)
    return {"edges_s": rounded(edges), **found, "cut": best_cut(gaps)}


def best_cut(gaps: pl.DataFrame) -> dict[str, float] | None:
    """The length that best tells the gaps whose KV stayed in HBM from the others, and how often it is right.

    None if no length tells them better than to say the same of all.
    """
    ordered = gaps.sort("gap_s")
    lengths, kept = ordered["gap_s"].to_numpy(), (ordered["outcome"] == "kept").to_numpy()
    if not kept.size:
        return None
    right = np.cumsum(kept) + (~kept).sum() - np.cumsum(~kept)  # kept up to here, not kept after
    last = np.append(lengths[1:] != lengths[:-1], True)
    best = int(np.argmax(np.where(last, right, -1)))
    if right[best] <= max(kept.sum(), (~kept).sum()):
        return None
    return {"gap_s": float(lengths[best]), "right": float(right[best] / kept.size)}


def policy_ttl_s(spec: str) -> float | None:
    """How long a residency policy holds KV in HBM before it lets go, if it has one such time."""
    try:
        ttl = getattr(load_policy("residency", spec), "ttl_s", None)
    except InputError:  # a module of the user's that is not here now
        return None
    return float(ttl) if isinstance(ttl, int | float) else None

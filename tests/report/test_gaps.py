"""What became of KV in gaps: cases by hand, and the best cut against trying them all."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentservesim.report.html.gaps import OUTCOMES, best_cut, gap_table, outcomes, policy_ttl_s
from agentservesim.report.saved_run import read_run


def turns_of(*rows: tuple[float, int, int, int, int]) -> pl.DataFrame:
    """Turns of one session, a second each: gap, prompt, new, cached in HBM and in DRAM."""
    table = pl.DataFrame(
        rows,
        schema=["gap_s", "prompt_tokens", "new_tokens", "cached_hbm_tokens", "cached_dram_tokens"],
        orient="row",
    )
    finish = (pl.col("gap_s") + 1.0).cum_sum()
    return table.with_columns(
        program_id=pl.lit("p"),
        session_id=pl.lit("s"),
        index=pl.int_range(pl.len()),
        ready_s=finish - 1.0,
        scheduled_s=finish - 0.9,
        finish_s=finish,
        cached_tokens=pl.col("cached_hbm_tokens") + pl.col("cached_dram_tokens"),
    )


def copies_of(*asked_s: float, verb: str = "demote") -> pl.DataFrame:
    return pl.DataFrame({"asked_s": list(asked_s)}).with_columns(
        program_id=pl.lit("p"), session_id=pl.lit("s"), verb=pl.lit(verb)
    )


TURNS = turns_of(
    (0.0, 100, 100, 0, 0),  # the first turn has no gap
    (2.0, 200, 40, 160, 0),  # all that could be reused was in HBM
    (20.0, 300, 100, 0, 192),  # most of it came from DRAM
    (200.0, 400, 100, 100, 0),  # two thirds were computed again
    (3.0, 500, 500, 0, 0),  # nothing could be reused: not a gap that matters
)


def test_a_gap_counts_as_what_became_of_most_tokens() -> None:
    gaps = gap_table(TURNS, None)
    assert gaps["outcome"].to_list() == ["kept", "reloaded", "dropped"]
    tokens = gaps.select("kept_tokens", "reloaded_tokens", "computed_tokens").rows()
    assert tokens == [(160, 0, 0), (0, 192, 8), (100, 0, 200)]


def test_kv_that_was_sent_down_in_the_gap_and_not_found_was_demoted() -> None:
    asked_s = float(TURNS["finish_s"][2])  # when the third turn ended
    assert gap_table(TURNS, copies_of(asked_s))["outcome"].to_list() == ["kept", "reloaded", "demoted"]
    assert gap_table(TURNS, copies_of(1.0))["outcome"].to_list()[2] == "dropped", "an earlier gap's copy"
    assert gap_table(TURNS, copies_of(asked_s, verb="promote"))["outcome"].to_list()[2] == "dropped"


def test_gaps_are_counted_by_length_and_none_is_lost() -> None:
    gaps = gap_table(TURNS, None)
    data = outcomes(gaps)
    assert {name: sum(counts) for name, counts in data["gaps"].items()} == {
        "kept": 1,
        "reloaded": 1,
        "demoted": 0,
        "dropped": 1,
    }
    assert sum(map(sum, data["tokens"].values())) == 160 + 200 + 300
    for gap_s, outcome in zip(gaps["gap_s"], gaps["outcome"], strict=True):
        (at,) = [i for i, count in enumerate(data["gaps"][outcome]) if count]
        assert data["edges_s"][at] <= gap_s * 1.0001
        assert gap_s < data["edges_s"][at + 1] * 1.0001


def test_without_gaps_there_is_nothing() -> None:
    assert outcomes(gap_table(TURNS.head(1), None)) == {"edges_s": [], "gaps": {}, "tokens": {}, "cut": None}


@given(st.lists(st.tuples(st.integers(1, 30), st.booleans()), min_size=1, max_size=30))
def test_the_best_cut_is_the_best(drawn: list[tuple[int, bool]]) -> None:
    gaps = pl.DataFrame(
        {"gap_s": [float(s) for s, _ in drawn], "outcome": ["kept" if k else "dropped" for _, k in drawn]}
    )
    cut = best_cut(gaps)
    best = max(sum((s <= at) == kept for s, kept in drawn) for at, _ in drawn)
    if best <= max(sum(kept for _, kept in drawn), sum(not kept for _, kept in drawn)):
        assert cut is None
        return
    assert cut is not None
    assert sum((s <= cut["gap_s"]) == kept for s, kept in drawn) == best
    assert cut["right"] * len(drawn) == pytest.approx(best)


def test_a_policy_with_one_ttl_says_it() -> None:
    assert policy_ttl_s("ttl,ttl_s=7") == 7.0
    assert policy_ttl_s("lru") is None
    assert policy_ttl_s("not_here:Policy") is None


def test_every_gap_of_a_run_is_in_the_picture(tiered: Path) -> None:
    run = read_run(tiered)
    turns = run.table("turns")
    data = outcomes(gap_table(turns, run.table("transfers")))
    reusable = turns.filter((pl.col("gap_s") > 0) & (pl.col("prompt_tokens") > pl.col("new_tokens")))
    assert sum(map(sum, data["gaps"].values())) == reusable.height
    assert set(data["gaps"]) == set(OUTCOMES)
    assert sum(data["gaps"]["reloaded"]) > 0

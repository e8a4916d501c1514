"""What holds of every run of any trace."""

from __future__ import annotations

import polars as pl
import pytest

from agentservesim.model import Workload, to_s
from agentservesim.results import Result

CLOCK_S = 1e-6
"""Seconds in tables are floats: at 41 days they resolve half a microsecond."""


def check(result: Result, workload: Workload) -> None:
    """Every turn is served once, in order, and all tokens and seconds are accounted for."""
    asked = {(p.id, t.id): t for p in workload.programs for t in p.turns}
    turns = result.turns
    assert turns.height == len(asked) == result.summary["counts"]["turns"]
    assert result.programs.height == len(workload.programs) == result.summary["counts"]["programs"]
    times: dict[tuple[str, str], tuple[float, float]] = {}
    columns = ("program_id", "turn_id", "ready_s", "finish_s", "prompt_tokens", "output_tokens")
    for program, turn, ready, finish, prompt, output in turns.select(columns).iter_rows():
        assert (asked[program, turn].prompt_tokens, asked[program, turn].output_tokens) == (prompt, output)
        times[program, turn] = ready, finish
    assert times.keys() == asked.keys()
    for p in workload.programs:
        for t in p.turns:
            for d in t.dependencies:
                ready, finish = times[p.id, p.turns[d.turn].id]
                since = ready if d.trigger == "dispatch" else finish
                wait = to_s(d.delay_ps + (d.tools_ps or 0))
                assert times[p.id, t.id][0] >= since + wait - CLOCK_S, (p.id, t.id)
    parts = pl.sum_horizontal("queue_s", "prefill_s", "decode_s", "transfer_s")
    assert turns.select((parts - (pl.col("finish_s") - pl.col("ready_s"))).abs().max()).item() < CLOCK_S
    assert (turns["cached_tokens"] + turns["computed_tokens"] == turns["prompt_tokens"]).all()
    assert (turns["cached_tokens"] < turns["prompt_tokens"]).all()
    assert (turns["cached_tokens"] % 16 == 0).all()
    assert sum(result.summary["program"]["time_share"].values()) == pytest.approx(1)

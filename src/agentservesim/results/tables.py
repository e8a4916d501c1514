"""The tables of turns, programs, tenants and (on request) steps; those of memory are in `memory_tables`.

Inside, times are integer picoseconds (`*_ps`), so that differences are exact; `published` turns a
table into what users see: seconds as floats (`*_s`), with the metrics of each row beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from re import fullmatch

import numpy as np
import polars as pl

from agentservesim.model import PS_PER_S, Program
from agentservesim.results.metric import Subject, column_part, expression
from agentservesim.results.metrics import ROW_METRICS, SERVED
from agentservesim.results.recorder import Recorder

_SUMS = ("gap_ps", "queue_ps", "requeue_ps", "hold_ps", "prefill_ps", "decode_ps", "transfer_ps", "alone_ps")
_COUNTS = (
    "prompt_tokens",
    "output_tokens",
    "cached_tokens",
    "computed_tokens",
    "new_tokens",
    "recomputed_tokens",
    "preemptions",
)

COLUMNS: dict[str, str] = {
    "program_id": "the program",
    "status": "done, or rejected by the admission policy",
    "kind": "what the trace calls this kind of program",
    "tenant": "on whose behalf the program ran; empty if the trace does not say",
    "turn_id": "the turn",
    "index": "place of the turn in its program",
    "session_id": "the session: the program's root agent or one of its sub-agents",
    "instance": "index of the instance, in the fleet",
    "arrival_s": "the program started",
    "ready_s": "the client sent the turn: what it waits for was done",
    "scheduled_s": "the engine first admitted it",
    "first_token_s": "the first token reached the client",
    "finish_s": "the last token reached the client",
    "gap_s": "time outside the engine before the turn: tool calls and think time",
    "tool_s": "sum of gap_s over the turns",
    "queue_s": "waiting to be scheduled: held by admission, on the way in, queueing, also after preemptions",
    "requeue_s": "the part of queue_s that lies behind preemptions",
    "hold_s": "the part of queue_s in which the admission policy held the turn",
    "prefill_s": "admitted, until the first token",
    "decode_s": "from the first token to the last",
    "transfer_s": "waiting for KV to be moved",
    "alone_s": "what it would take by itself on an idle instance with all that was sent before cached",
    "served_s": "from being sent to the last token, summed over turns",
    "programs": "programs",
    "turns": "turns",
    "sessions": "sessions of the program: 1 and its sub-agents",
    "instances": "different instances that served the program",
    "prompt_tokens": "prompt tokens",
    "output_tokens": "tokens of the reply",
    "cached_tokens": "prompt tokens found in the prefix cache when first admitted",
    "computed_tokens": "prompt tokens computed: prompt_tokens - cached_tokens",
    "new_tokens": "prompt tokens that no turn before had, programs taken one after the other",
    "recomputed_tokens": "tokens computed again after preemptions",
    "route_scores": "the router's figure for each instance, by index; its page says what it is",
    "preemptions": "times the request was put back in the queue to free KV blocks",
    "good": "inside every limit of --goodput, a program with all its turns",
    "good_turns": "turns that were inside every limit",
    "start_s": "the step began",
    "end_s": "the step ended",
    "prefill_tokens": "prompt tokens computed in the step",
    "decode_rows": "requests that decoded one token in the step; none, and no prompt, in a dummy batch",
    "running": "requests running after the step was scheduled",
    "waiting": "requests waiting after the step was scheduled",
    "free_blocks": "KV blocks free after the step was scheduled",
}
"""What each column of these tables holds; metrics are described in `metrics`."""


def turn_table(
    recorder: Recorder, programs: Sequence[Program], known: Mapping[str, Sequence[int]]
) -> pl.DataFrame:
    """One row per turn, by program (in order of arrival) and index; times in picoseconds.

    `known` has the columns of which every turn's value is known before the run, in that order.
    """
    ends = accumulate(len(program.turns) for program in programs)
    first = {p.id: end - len(p.turns) for p, end in zip(programs, ends, strict=True)}
    loaded = {
        f"cached_{column_part(tier)}_tokens": tokens for tier, tokens in recorder.loaded_tokens().items()
    }
    names = recorder.turn_names()
    texts = dict.fromkeys(names, pl.String)
    frame = pl.DataFrame({**names, **recorder.turn_numbers(), **loaded}, schema_overrides=texts)
    scored, scores = recorder.scores()
    if scored.size:
        places = np.full(frame.height, -1)
        places[scored] = np.arange(scored.size)
        known_scores = pl.Series("route_scores", scores).cast(pl.List(pl.Float64))
        frame = frame.with_columns(known_scores.gather(pl.Series(places).replace(-1, None)))
    begin = pl.Series("place", [first[name] for name in frame["program_id"]], dtype=pl.Int64)
    frame = frame.with_columns(place=begin + frame["index"]).sort("place")
    before = [pl.Series(name, v, dtype=pl.Int64).gather(frame["place"]) for name, v in known.items()]
    if loaded:
        in_hbm = pl.col("cached_tokens") - pl.sum_horizontal(*loaded)
        frame = frame.with_columns(in_hbm.alias("cached_hbm_tokens"))
    return frame.with_columns(before).drop("place")


def program_table(
    turns: pl.DataFrame, programs: Sequence[Program], rejected: Mapping[str, int]
) -> pl.DataFrame:
    """One row per program in order of arrival; times in picoseconds.

    Times outgrow 64 bits when they are summed over programs, hence Int128. A program arrives when
    its first turn's gap began: at its recorded arrival, or, in a closed loop, when it was let in.
    `rejected` has the arrivals of programs that were rejected; they have no end.
    """
    names = {"program_id": "id", "kind": "kind", "tenant": "tenant"}
    told = pl.DataFrame(
        {column: [getattr(p, name) for p in programs] for column, name in names.items()},
        schema=dict.fromkeys(names, pl.String),
    )
    rows = turns.group_by("program_id", maintain_order=True).agg(
        (pl.col("ready_ps") - pl.col("gap_ps")).min().alias("arrival_ps"),
        pl.col("finish_ps").max(),
        pl.len().cast(pl.Int64).alias("turns"),
        pl.col("session_id").n_unique().cast(pl.Int64).alias("sessions"),
        pl.col("instance").n_unique().cast(pl.Int64).alias("instances"),
        *(pl.col(name).cast(pl.Int128).sum() for name in _SUMS),
        *(pl.col(name).sum() for name in (*_COUNTS, *_tier_columns(turns))),
    )
    if rejected:
        rows = _with_rejected(rows, rejected)
    status = pl.when(pl.col("finish_ps").is_null()).then(pl.lit("rejected")).otherwise(pl.lit("done"))
    joined = told.join(rows, on="program_id", how="inner", maintain_order="left").with_columns(status=status)
    return joined.rename({"gap_ps": "tool_ps"}).select(*names, "status", pl.exclude(*names, "status"))


def _with_rejected(rows: pl.DataFrame, rejected: Mapping[str, int]) -> pl.DataFrame:
    """The table with rejected programs: none has an end. Those without a turn are added, without times."""
    seen = set(rows["program_id"])
    unseen = {name: arrival_ps for name, arrival_ps in rejected.items() if name not in seen}
    added = pl.DataFrame(
        {"program_id": list(unseen), "arrival_ps": list(unseen.values())},
        schema={"program_id": pl.String, "arrival_ps": rows.schema["arrival_ps"]},
    )
    whole = pl.concat([rows, added], how="diagonal").with_columns(
        pl.exclude("program_id", "^.*_ps$").fill_null(0)
    )
    ended = ~pl.col("program_id").is_in(list(rejected))
    return whole.with_columns(pl.when(ended).then("finish_ps").alias("finish_ps"))


def tenant_table(programs: pl.DataFrame) -> pl.DataFrame:
    """One row per tenant in order of name; times in picoseconds."""
    served = pl.sql_expr(SERVED.replace("_s", "_ps")).alias("served_ps")
    sums = ("turns", "prompt_tokens", "output_tokens", "cached_tokens", "queue_ps", "alone_ps")
    return (
        programs.with_columns(served)
        .group_by("tenant")
        .agg(
            pl.len().cast(pl.Int64).alias("programs"), *(pl.col(name).sum() for name in (*sums, "served_ps"))
        )
        .sort("tenant")
    )


def _tier_columns(turns: pl.DataFrame) -> list[str]:
    return [name for name in turns.columns if fullmatch(r"cached_.+_tokens", name)]


def step_table(recorder: Recorder) -> pl.DataFrame:
    """One row per step, by instance and start; times in picoseconds."""
    return pl.DataFrame(recorder.step_numbers()).sort("instance", "start_ps", maintain_order=True)


def published(table: pl.DataFrame, subject: Subject | None = None) -> pl.DataFrame:
    """The table as users see it: `*_ps` columns become `*_s`, and the subject's metrics are added."""
    columns = []
    for name in table.columns:
        seconds = name.removesuffix("_ps") + "_s"
        columns.append((pl.col(name) / PS_PER_S).alias(seconds) if name.endswith("_ps") else pl.col(name))
    known = {column.meta.output_name() for column in columns}
    for metric in ROW_METRICS:
        column = metric.name.partition(".")[2]
        if metric.subject == subject and column not in known:
            columns.append(expression(metric).alias(column))
    return table.select(columns)

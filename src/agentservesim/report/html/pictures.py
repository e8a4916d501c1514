"""All pictures of a run: the question that each answers, the answer in a sentence, and its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from agentservesim.report.html.gaps import gap_table, outcomes, policy_ttl_s
from agentservesim.report.html.latencies import distributions
from agentservesim.report.html.memory import heat, kv_over_time, transfers
from agentservesim.report.html.programs import MAX_SEGMENTS, program_classes, slowest, time_parts
from agentservesim.report.html.series import QUANTILES, rounded
from agentservesim.report.html.verdict import verdict
from agentservesim.report.html.wording import amount, number, seconds, share
from agentservesim.report.saved_run import SavedRun

Sources = dict[str, tuple[str, ...]]
"""The tables behind a picture, and their columns."""

Groups = list[tuple[pl.DataFrame, pl.DataFrame]]
"""For each class of programs its programs and turns."""


@dataclass(frozen=True)
class Picture:
    """A picture: what it is asked, what it answers, and the columns it is made of.

    `data` is one object, or, for a picture that is `by_class`, one for each class of programs.
    """

    id: str
    question: str
    answer: str
    sources: Sources
    data: Any
    by_class: bool = False
    note: str = ""


def report_data(run: SavedRun) -> dict[str, Any]:
    """Everything that the page shows, ready for JSON."""
    programs = run.table("programs").filter(pl.col("finish_s").is_not_null())
    classes = program_classes(programs)
    groups = []
    for group in classes:
        chosen = group.programs(programs)
        groups.append((chosen, group.turns(run.table("turns"), programs)))
    pictures = [
        _time(run, groups),
        _kv(run),
        _gaps(run, groups),
        _latency(run, groups),
        _load(run),
        _links(run),
        _slowest(run, groups),
    ]
    return {
        "name": run.name,
        "verdict": verdict(run.summary),
        "classes": [
            {"label": group.label, "programs": chosen.height}
            for group, (chosen, _) in zip(classes, groups, strict=True)
        ],
        "quantiles": rounded(QUANTILES),
        "pictures": [vars(picture) for picture in pictures],
    }


def _time(run: SavedRun, groups: Groups) -> Picture:
    shares = run.summary["program"]["time_share"]
    serving = {part: value for part, value in shares.items() if part != "tool"}
    answer = "No program came to its end."
    if shares["tool"] is not None and any(serving.values()):
        worst = max(serving, key=lambda part: serving[part])
        answer = (
            f"{share(shares['tool'])} is outside the engine (tools, think time). Of the time in serving, "
            f"most is {worst}: {share(serving[worst] / sum(serving.values()))}."
        )
    return Picture(
        "time",
        "Where does a program's time go?",
        answer,
        {"programs": ("latency_s", "tool_s", "queue_s", "transfer_s", "prefill_s", "decode_s")},
        [time_parts(programs) for programs, _ in groups],
        by_class=True,
        note="Each bar is one program, the one at that percentile of latency. Times are summed over turns, "
        "so a program whose sub-agents run side by side has more of it than its latency.",
    )


def _kv(run: SavedRun) -> Picture:
    data = kv_over_time(run)
    hbm = data["views"][0]["tiers"][0]
    means = {
        state: float(np.mean(values)) / (hbm["size_bytes"] or 1) for state, values in hbm["bytes"].items()
    }
    if run.has("residency"):
        answer = (
            f"Of HBM, {share(means['pinned'])} was held for programs in their gap, {share(means['active'])} "
            f"by running turns, and {share(means['cached'])} was cached, on average."
        )
        states = tuple(f"{state}_bytes" for state in data["states"])
        sources = {"residency": ("time_s", "tier", "instance", *states)}
    else:
        answer = f"The context of running turns took {share(means['active'])} of HBM's KV space on average."
        sources = {"turns": ("scheduled_s", "finish_s", "prompt_tokens", "output_tokens", "instance")}
    return Picture("kv", "What is the KV memory full of?", answer, sources, data, note=data["note"])


def _gaps(run: SavedRun, groups: Groups) -> Picture:
    copies = run.table("transfers") if run.has("transfers") else None
    policy = run.summary["scenario"]["residency"]
    held = {"policy": policy, "ttl_s": policy_ttl_s(policy)}
    data = [{**outcomes(gap_table(turns, copies)), **held} for _, turns in groups]
    counts = {outcome: sum(values) for outcome, values in data[0]["gaps"].items()}
    total = sum(counts.values())
    answer = "No gap was followed by a turn that could reuse KV."
    if total:
        again = counts["demoted"] + counts["dropped"]
        answer = (
            f"After {share(counts['kept'] / total)} of {total:,} gaps the KV was still in HBM, after "
            f"{share(counts['reloaded'] / total)} it was loaded from a tier, after {share(again / total)} "
            "it was computed again."
        )
    loaded = [name for name in run.table("turns").columns if name.startswith("cached_")]
    sources: Sources = {"turns": ("gap_s", "prompt_tokens", "new_tokens", *loaded)}
    if copies is not None:
        sources["transfers"] = ("verb", "session_id", "asked_s")
    return Picture(
        "gaps",
        "What became of the KV while tools ran?",
        answer,
        sources,
        data,
        by_class=True,
        note="A gap counts as what became of most of the tokens that the next turn could reuse. Demoted and "
        "computed again: it was sent to a tier, and not found there or slower to load. KV that was spilled "
        "on eviction and lost there counts as dropped. The best cut is the length that best tells the gaps "
        "whose KV stayed in HBM from the others: the break-even at which the policy acted.",
    )


def _latency(run: SavedRun, groups: Groups) -> Picture:
    ttft = run.summary["turn"]["ttft_s"]
    answer = f"The first token takes {seconds(ttft['p50'])} at p50 and {seconds(ttft['p99'])} at p99."
    return Picture(
        "latency",
        "How long do users wait?",
        answer,
        {"turns": ("ttft_s", "tpot_s"), "programs": ("latency_s",)},
        [distributions(programs, turns) for programs, turns in groups],
        by_class=True,
    )


def _load(run: SavedRun) -> Picture:
    data = heat(run)
    waiting = np.array(data["waiting"])
    row, column = np.unravel_index(int(np.argmax(waiting)), waiting.shape)
    when = seconds(data["edges_s"][int(column)])
    answer = f"The longest queue, {waiting.max():.3g} turns, was on {data['instances'][int(row)]} at {when}."
    if waiting.max() < 0.5:
        answer = "Hardly a turn ever waited for another."
    sources: Sources = {"turns": ("instance", "ready_s", "scheduled_s")}
    if run.has("residency"):
        sources["residency"] = ("time_s", "active_bytes", "pinned_bytes", "in_flight_bytes")
    return Picture(
        "load",
        "Is the load spread evenly?",
        answer,
        sources,
        data,
        note=data["note"],
    )


def _links(run: SavedRun) -> Picture:
    data = transfers(run)
    answer = "This run has no tiers below HBM." if not data["links"] else "Nothing was moved."
    if any(link["bytes"] for link in data["links"]):
        shown = sorted(data["links"], key=lambda link: -link["busy"])[:2]
        said = (
            f"{link['link']} {link['direction']} moved {amount(link['bytes'])} and was busy for "
            f"{share(link['busy'])} of the time"
            for link in shown
        )
        answer = "; ".join(said) + "."
    sources = {
        "transfers": ("link", "verb", "bytes", "start_s", "end_s"),
        "links": ("bytes", "busy_s", "open_s"),
    }
    return Picture("links", "Are the links busy?", answer, sources if data["links"] else {}, data)


def _slowest(run: SavedRun, groups: Groups) -> Picture:
    data = [slowest(programs, turns) for programs, turns in groups]
    answer = "No program came to its end."
    if data[0]["rows"]:
        first, median = data[0]["rows"][0], run.summary["program"]["latency_s"]["p50"]
        times = first["latency_s"] / median if median else 1.0
        answer = (
            f"The slowest, {first['program']}, took {seconds(first['latency_s'])} for {first['turns']:,} "
            f"turns, {number(times)} times the median."
        )
    return Picture(
        "slowest",
        "What did the slowest programs do?",
        answer,
        {
            "turns": (
                "program_id",
                "session_id",
                "ready_s",
                "gap_s",
                "queue_s",
                "transfer_s",
                "prefill_s",
                "decode_s",
            ),
            "programs": ("arrival_s", "latency_s"),
        },
        data,
        by_class=True,
        note="From each program's arrival. Sub-agents have lanes of their own below the program's. Long "
        f"histories are drawn in {MAX_SEGMENTS:,} stretches, each as the part that prevails in it.",
    )

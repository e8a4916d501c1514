"""Our step records against vLLM's."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

from agentservesim.testing.replay import engine_config, limit_parser, replay
from agentservesim.testing.traced import AffineStepTime
from tests.oracle.generate import Case

Record = dict[str, Any]

TIMES = ("t0", "t1", "t2", "t3")
LABELLED = ("evicted",)
TOLERANCE_S = 1e-9


def ours(case: Case, *, at_once: bool = False) -> list[Record]:
    """The product's step records of a case."""
    limits = limit_parser().parse_args(case.flags)
    step_time = AffineStepTime(float(factor) for factor in case.step_time.split(","))
    return replay(
        case.requests,
        engine_config(limits),
        limits.num_blocks,
        step_time,
        policy=limits.policy,
        at_once=at_once,
    )


def differences(theirs: list[Record], mine: list[Record], *, labels: bool = True, most: int = 3) -> list[str]:
    """The first differences, in words; none if every key of every step is equal.

    Times may differ by a rounding error. Without `labels` evicted blocks are compared in order by their
    index in the sequence alone: whose copy was named when depends on how lazily blocks are hashed.
    """
    found: list[str] = []
    if len(theirs) != len(mine):
        found.append(f"{len(theirs)} steps, ours has {len(mine)}")
    for number, (record, other) in enumerate(zip(theirs, mine, strict=False)):
        if record.keys() != other.keys():
            found.append(f"step {number}: keys {sorted(record.keys() ^ other.keys())}")
        for key in record.keys() & other.keys():
            one, two = record[key], other[key]
            if key in LABELLED and not labels:
                one, two = ([label.rsplit(":", 1)[-1] for label in evicted] for evicted in (one, two))
            same = abs(one - two) <= TOLERANCE_S if key in TIMES else one == two
            if not same:
                found.append(f"step {number} {key}: vLLM {one}, ours {two}")
        if len(found) >= most:
            break
    return found[:most]


def verdict(case: Case, theirs: list[Record]) -> list[str]:
    """Differences of a case in both ways of taking decode rows, one by one and all at once."""
    one_by_one = differences(theirs, ours(case))
    at_once = differences(theirs, ours(case, at_once=True), labels=False)
    return [f"{case.name}: {text}" for text in one_by_one] + [f"{case.name}, at once: {t}" for t in at_once]


def tally(steps: list[Record]) -> Counter[str]:
    """What happened in a case."""
    seen: Counter[str] = Counter(steps=len(steps))
    for step in steps:
        seen["hits"] += step["h"] + step["ph"]
        seen["preemptions"] += len(step["preempted"])
        seen["evictions"] += len(step["evicted"])
        seen["resumed"] += sum(how == "resumed" for _, _, how in step["admitted"])
        seen["turns"] += len(step["finished"])
        seen["chunks"] += sum(new > 1 and start > 0 for _, start, new in step["sched"])
        seen["held back"] += step["waiting"] > 0
    return seen


def rounding_decides(case: Case, steps: list[Record]) -> bool:
    """Whether two requests are due at one instant but for the rounding of floats, which then orders them."""
    ends = {name: step["t3"] for step in steps for name in step["finished"]}
    due = sorted(
        ends[spec["after"]] + spec.get("delay", 0.0) if "after" in spec else spec.get("arrival_time", 0.0)
        for spec in case.requests
        if "after" not in spec or spec["after"] in ends
    )
    return any(0 < later - sooner < 1e-12 for sooner, later in pairwise(due))

"""vLLM's own decisions, recorded, against ours: no difference in any key of any step."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.oracle.comparison import differences, ours
from tests.oracle.generate import FAMILIES, STEP_TIME, case

RECORDED = Path(__file__).parent / "recorded"


def cases(family: str) -> list[dict[str, Any]]:
    """The recorded cases of a family."""
    with gzip.open(RECORDED / f"{family}.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("at_once", [False, True], ids=["one by one", "at once"])
def test_no_difference_from_vllm(family: str, at_once: bool) -> None:
    for recorded in cases(family):
        mine = ours(recorded["limits"], recorded["specs"], recorded["step_time"], at_once=at_once)
        found = differences(recorded["records"], mine, owners=not at_once)
        assert not found, (family, recorded["number"], found[:3])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_recorded_cases_are_those_that_are_generated(family: str) -> None:
    for recorded in cases(family):
        limits, specs = case(family, recorded["number"])
        assert (limits, specs, STEP_TIME) == (recorded["limits"], recorded["specs"], recorded["step_time"])


def tally(family: str, asynchronous: bool) -> Counter[str]:
    """What happens in a family's cases."""
    count: Counter[str] = Counter()
    for recorded in cases(family):
        if recorded["limits"]["async_scheduling"] != asynchronous:
            continue
        count["cases"] += 1
        prompts = {spec["request_id"]: spec.get("prompt_len", 0) for spec in recorded["specs"]}
        for step in recorded["records"]:
            count["hits"] += step["h"]
            count["preempted"] += len(step["preempted"])
            count["resumed hits"] += step["ph"]
            count["evicted"] += len(step["evicted"])
            count["waited"] += step["waiting"] > 0
            count["chunks"] += sum(1 < new < prompts[name] - start for name, start, new in step["sched"])
    return count


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(
    ("family", "events"),
    [
        ("turns", ["hits"]),
        ("shared", ["hits"]),
        ("forks", ["hits"]),
        ("clones", ["hits", "evicted"]),
        ("chunks", ["chunks"]),
        ("preemption", ["preempted", "resumed hits"]),
        ("priority", ["preempted", "waited"]),
        ("eviction", ["evicted", "hits"]),
        ("watermark", ["waited"]),
        ("no-reserve", ["preempted"]),
    ],
)
def test_each_family_presses_on_its_rule(family: str, events: list[str], asynchronous: bool) -> None:
    count = tally(family, asynchronous)
    assert count["cases"] >= 4
    for event in events:
        assert count[event] > 0, (event, count)


def test_there_are_enough_cases() -> None:
    assert sum(len(cases(family)) for family in FAMILIES) >= 100


def test_without_caching_nothing_hits_and_without_chunks_prompts_stay_whole() -> None:
    assert tally("no-caching", False)["hits"] == tally("no-caching", True)["hits"] == 0
    assert tally("no-chunks", False)["chunks"] == tally("no-chunks", True)["chunks"] == 0


def test_a_difference_would_be_seen() -> None:
    recorded = cases("eviction")[0]
    mine = ours({**recorded["limits"], "num_blocks": 40}, recorded["specs"], STEP_TIME, at_once=False)
    assert differences(recorded["records"], mine)

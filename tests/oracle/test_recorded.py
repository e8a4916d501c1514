"""The product replays what vLLM's own scheduler did in recorded cases: no difference in any key."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.oracle.compare import differences, ours, tally
from tests.oracle.generate import FAMILIES, MODES, Case, draw
from tests.oracle.record import FEATURES, PER_MODE, RECORDED, SWITCHES, read, without

FILES = {family: read(RECORDED / f"{family}.jsonl.gz") for family in FAMILIES}
CASES = [entry for _, cases in FILES.values() for entry in cases]
each_case = pytest.mark.parametrize(("case", "steps"), CASES, ids=[case.name for case, _ in CASES])
Steps = list[dict[str, Any]]


@each_case
def test_every_key_of_every_step_is_vllms(case: Case, steps: Steps) -> None:
    assert differences(steps, ours(case)) == []


@each_case
def test_rows_taken_at_once_decide_as_rows_taken_one_by_one(case: Case, steps: Steps) -> None:
    assert differences(steps, ours(case, at_once=True), labels=False) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_the_recorded_cases_show_what_they_are_for(family: str) -> None:
    head, cases = FILES[family]
    assert head["vllm"] == "0.32.0"
    assert len(cases) >= PER_MODE * len(MODES)
    for mode in MODES:
        mine = [entry for entry in cases if entry[0].name.split("/")[1] == mode]
        assert len(mine) >= PER_MODE
        seen: Counter[str] = sum((tally(steps) for _, steps in mine), Counter())
        assert all(seen[feature] > 0 for feature in FEATURES[family]), seen
    switch = SWITCHES.get(family)
    for case, steps in cases:
        if switch is not None:
            assert differences(steps, ours(without(case, switch))), f"{case.name}: {switch} changes nothing"
        if "--async-scheduling" in case.flags:
            assert differences(steps, ours(without(case, ("--async-scheduling",))))


def test_the_recorded_set_as_a_whole() -> None:
    seen: Counter[str] = sum((tally(steps) for _, steps in CASES), Counter())
    assert len(CASES) >= 80
    assert len({case.name for case, _ in CASES}) == len(CASES)
    assert min(seen[what] for what in ("hits", "preemptions", "evictions", "chunks", "resumed")) > 100
    assert sum(path.stat().st_size for path in RECORDED.iterdir()) < 1_000_000


@pytest.mark.parametrize(("case", "steps"), CASES[::9], ids=[case.name for case, _ in CASES[::9]])
def test_the_recorded_cases_are_those_of_the_generator(case: Case, steps: Steps) -> None:
    """Or else `record` would make others than those that are here."""
    family, mode, seed = case.name.split("/")
    assert draw(family, mode, int(seed)) == case


def test_a_difference_would_be_seen() -> None:
    _, [(case, steps), *_] = FILES["evict"]
    flags = [*case.flags, "--num-blocks", "99"]
    assert differences(steps, ours(Case(case.name, flags, case.step_time, case.requests)))
    other = [{**step, "t3": step["t3"] + 1e-6} for step in steps]
    assert differences(other, ours(case))
    assert differences(steps[:-1], ours(case))


def test_without_caching_nothing_hits_and_without_chunks_prompts_stay_whole() -> None:
    assert not any(tally(steps)["hits"] for _, steps in FILES["no-caching"][1])
    for case, steps in FILES["no-chunks"][1]:
        admitted = {name: cached for step in steps for name, cached, _ in step["admitted"]}
        prompts = {name: start + new for step in steps for name, start, new in step["sched"] if new > 1}
        starts = {name: start for step in steps for name, start, new in step["sched"] if new > 1}
        assert all(start == admitted[name] for name, start in starts.items()), case.name
        assert prompts

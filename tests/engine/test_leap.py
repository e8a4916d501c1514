"""Leap equals step: a run that leaps over decode steps gives, byte for byte, what stepping gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agentservesim.engine.config import EngineConfig
from tests.engine.fleets import draw_fleet
from tests.engine.runs import InstanceRun
from tests.engine.scenarios import Arrival, InstanceScenario, KnottedStepTime, draw_instances
from tests.paths import longer, root, turn

SEEDS = st.integers(0, 1 << 40)


def compare(scenario: InstanceScenario) -> Counter[str]:
    leapt = InstanceRun(scenario, leap=True).run()
    stepped = InstanceRun(scenario, leap=False).run()
    for index in range(len(scenario.configs)):
        mine, theirs = leapt.tape.steps.get(index, []), stepped.tape.steps.get(index, [])
        assert mine == theirs, f"steps of instance {index}"
    assert leapt.turns() == stepped.turns()
    assert leapt.kernel.now == stepped.kernel.now
    tally, reference = leapt.tally(), stepped.tally()
    assert reference["leaps"] == 0
    assert tally - Counter(leaps=tally["leaps"]) == reference
    return tally


def compare_instances(seed: int) -> Counter[str]:
    return compare(draw_instances(seed))


def compare_fleets(seed: int) -> Counter[str]:
    scenario = draw_fleet(seed)
    leapt, counts, now = scenario.run(leap=True)
    stepped, their_counts, their_now = scenario.run(leap=False)
    for index in range(len(scenario.instances)):
        assert leapt.steps.get(index) == stepped.steps.get(index), f"steps of instance {index}"
    assert leapt.turns == stepped.turns
    assert now == their_now
    assert their_counts.leaps == 0
    assert (counts.steps, counts.preemptions) == (their_counts.steps, their_counts.preemptions)
    return Counter(
        steps=counts.steps,
        leaps=counts.leaps,
        preemptions=counts.preemptions,
        cached=sum(record.cached_tokens for record in leapt.turns),
        gaps=sum(record.gap_ps > 0 for record in leapt.turns),
        turns=len(leapt.turns),
    )


@settings(max_examples=400)
@given(SEEDS)
def test_instances(seed: int) -> None:
    compare_instances(seed)


@settings(max_examples=400)
@given(SEEDS)
def test_fleets(seed: int) -> None:
    compare_fleets(seed)


@settings(max_examples=150)
@given(SEEDS, st.sampled_from([1, 2, 3, 5, 8]))
@example(145, 5)  # a prompt and the row behind it write the same content in one step
@example(90, 2)  # nobody is promised room for a prompt that is done
def test_instances_that_ration_prompts(seed: int, tokens: int) -> None:
    compare(replace(draw_instances(seed), policy=f"tests.engine.rationed:Rationed,tokens={tokens}"))


@settings(max_examples=150)
@given(SEEDS, st.sampled_from([1, 2, 3, 5]))
def test_instances_whose_longest_rows_count(seed: int, longest: int) -> None:
    scenario = draw_instances(seed)
    times = [replace(time, longest=longest) for time in scenario.step_times]
    compare(replace(scenario, step_times=times))


@pytest.mark.slow
@settings(max_examples=10_000)
@given(SEEDS)
def test_many_instances(seed: int) -> None:
    compare_instances(seed)


@pytest.mark.slow
@settings(max_examples=10_000)
@given(SEEDS)
def test_many_fleets(seed: int) -> None:
    compare_fleets(seed)


@pytest.mark.parametrize("run", [compare_instances, compare_fleets])
def test_the_scenarios_contain_what_they_are_for(run: Callable[[int], Counter[str]]) -> None:
    tally = sum((run(seed) for seed in range(200)), Counter[str]())
    assert tally["leaps"] > 0.02 * tally["steps"]
    for what in ("preemptions", "cached", "turns"):
        assert tally[what] > 40, (what, tally)


@pytest.mark.parametrize("arrival", [25, 35, 45])
def test_a_request_may_wait_for_what_another_is_writing(arrival: int) -> None:
    """Whoever waits for room fits at the step in which a block that it would hit becomes full."""
    config = EngineConfig(block_size=4, async_scheduling=False)
    written = root(60)
    reader = longer(written, 64)
    arrivals = [
        Arrival(turn("writer", written, 10), 0, 0),
        Arrival(turn("reader", reader, 62), 0, arrival),
    ]
    # The reader needs 16 blocks in all, and the writer holds one that is not full, but for one step in four.
    scenario = InstanceScenario([config], [17], [KnottedStepTime()], arrivals)
    compare(scenario)
    _, last = InstanceRun(scenario, leap=True).run().turns()
    assert (last["id"], last["scheduled_ps"], last["cached_tokens"]) == ("reader", 60, 16)

"""Pipelines: micro-batches in flight, bubbles in closed form, and laws of random runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentservesim.engine.config import EngineConfig
from agentservesim.engine.instance import Instance
from agentservesim.engine.request import Request
from agentservesim.engine.wave import Wave
from agentservesim.kernel import Kernel
from agentservesim.model import InputError
from agentservesim.testing.audit import audit_pool
from tests.engine.runs import InstanceRun, Tape
from tests.engine.scenarios import InstanceScenario, KnottedStepTime, draw_instances
from tests.engine.test_wave import KnottedWaveTime
from tests.paths import root, turn

SEEDS = st.integers(0, 1 << 40)
PART = 20
"""Time of a chunk of 16 tokens, or of a decode step, in each of four stages."""


class Pipeline:
    """An instance of four stages."""

    def __init__(self, *, asynchronous: bool = False, stages: int = 4, base: int = 4 * PART) -> None:
        self.kernel = Kernel()
        self.tape = Tape()
        config = EngineConfig(
            max_num_batched_tokens=16, pipeline_parallel_size=stages, async_scheduling=asynchronous
        )
        time = KnottedStepTime(base=base)
        self.instance = Instance(0, self.kernel, config, 1000, time, lambda request: None, listener=self.tape)

    def arrive(self, at: int, prompt: int, output: int) -> Request:
        request = Request(turn(f"r{at}", root(prompt + output), prompt), at)
        self.kernel.at(at, self.instance.submit, request)
        return request


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("chunks", [1, 2, 3, 8])
def test_chunks_of_a_prompt_follow_one_another_through_the_stages(chunks: int, asynchronous: bool) -> None:
    """m micro-batches of equal parts t take (m + p - 1) t in p stages: a bubble of (p - 1) t."""
    run = Pipeline(asynchronous=asynchronous)
    request = run.arrive(0, 16 * chunks, 1)
    run.kernel.run()
    assert request.first_token_ps == (chunks + 4 - 1) * PART


def test_a_lone_row_waits_for_its_token() -> None:
    run = Pipeline()
    request = run.arrive(0, 16, 11)
    run.kernel.run()
    assert request.finish_ps == 11 * 4 * PART


def test_rows_of_other_micro_batches_cost_nothing_until_the_pipeline_is_full() -> None:
    """Four requests whose prompts fill a step each are in a stage each at any time: four tokens in the
    time of one. A fifth shares the micro-batch of one of them."""
    run = Pipeline()
    requests = [run.arrive(0, 16, 41) for _ in range(4)]
    run.kernel.run()
    for place, request in enumerate(requests):
        assert request.finish_ps == (place + 41 * 4) * PART


def test_one_stage_is_no_pipeline() -> None:
    one, none = Pipeline(stages=1), Pipeline(stages=1)
    assert one.arrive(0, 40, 9).finish_ps == none.arrive(0, 40, 9).finish_ps
    one.kernel.run()
    assert one.instance.leaps > 0


def test_engines_in_step_have_one_stage() -> None:
    config = EngineConfig(pipeline_parallel_size=2)
    with pytest.raises(InputError, match="pipeline_parallel_size"):
        Wave(0, Kernel(), [config] * 2, [100] * 2, KnottedWaveTime(), lambda request: None)


def draw_pipelines(seed: int) -> InstanceScenario:
    """Any instances, of two to four stages."""
    random, scenario = Random(seed), draw_instances(seed)
    configs = [
        config.model_copy(update={"pipeline_parallel_size": random.choice([2, 2, 3, 4])})
        for config in scenario.configs
    ]
    return replace(scenario, configs=configs)


def tally(seed: int) -> Counter[str]:
    scenario = draw_pipelines(seed)
    at_once, one_by_one = InstanceRun(scenario, leap=True).run(), InstanceRun(scenario, leap=False).run()
    assert at_once.turns() == one_by_one.turns()
    assert at_once.tape.steps == one_by_one.tape.steps
    return at_once.tally()


@settings(max_examples=80)
@given(SEEDS)
def test_rows_taken_at_once_equal_rows_taken_one_by_one(seed: int) -> None:
    tally(seed)


def test_the_comparison_sees_preemptions() -> None:
    assert sum((tally(seed) for seed in range(40)), Counter[str]())["preemptions"] > 10


@settings(max_examples=40)
@given(SEEDS)
def test_conservation(seed: int) -> None:
    """Blocks balance at every event; all tokens are computed; steps leave in order, and no more are in
    flight than there are places."""
    scenario = draw_pipelines(seed)
    run = InstanceRun(scenario, leap=True)
    while run.kernel.step():
        for index, instance in enumerate(run.instances):
            audit_pool(instance.scheduler.pool, run.holdings(index))
    assert len(run.finished) == len(scenario.arrivals)
    for index, config in enumerate(scenario.configs):
        steps = run.tape.steps.get(index, [])
        served = [request for request in run.finished if request.instance == index]
        assert sum(s.prefill_tokens + s.decode_rows for s in steps) == sum(
            r.total - 1 - r.cached_tokens + r.recomputed_tokens for r in served
        )
        for step, after in pairwise(steps):
            assert step.start_ps < step.end_ps <= after.end_ps
            assert step.start_ps <= after.start_ps
        for step, later in zip(steps, steps[config.pipeline_parallel_size :], strict=False):
            assert step.end_ps <= later.start_ps + (later.end_ps - later.start_ps)

"""Waves: data-parallel engines in step, by hand, by law, and leapt over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentservesim.cost import CostConfig, build_cost
from agentservesim.cost.base import Batch, WaveTime
from agentservesim.engine.config import EngineConfig
from agentservesim.engine.instance import Instance
from agentservesim.engine.request import Request
from agentservesim.engine.wave import Wave
from agentservesim.fleet import Fleet, InstanceSpec
from agentservesim.fleet.config import ToolsConfig
from agentservesim.kernel import Kernel
from agentservesim.model import InputError, Program, Workload
from agentservesim.policies.routing import RoundRobin
from tests.engine.fleets import FleetScenario, draw_fleet
from tests.engine.runs import TIMES, Tape
from tests.engine.scenarios import KnottedStepTime, draw_step_time
from tests.paths import root, turn

SEEDS = st.integers(0, 1 << 40)


@dataclass(frozen=True)
class KnottedWaveTime(KnottedStepTime):
    """`base` is shared, each rank computes its tokens (`each` ticks) and rows by itself, and all wait for
    the tokens of them all (`all` ticks). `pad`: token counts are padded to the largest up to this."""

    each: int = 0
    all: int = 0
    prefill: int = 0
    pad: int = 0

    def rows_ps(self, batch: Batch) -> int:
        return super().step_ps(batch) - self.base

    def _padded(self, tokens: Sequence[int]) -> list[int]:
        real = [count or 1 for count in tokens]
        return [max(real)] * len(real) if max(real) <= self.pad else real

    def rank_ps(self, tokens: Sequence[int], rank: int, rows_ps: int) -> int:
        return self.each * self._padded(tokens)[rank] + rows_ps

    def wave_ps(self, tokens: Sequence[int], rows_ps: Sequence[int], prefill: bool) -> int:
        own = max(self.rank_ps(tokens, rank, rows) for rank, rows in enumerate(rows_ps))
        return self.base + own + self.all * sum(self._padded(tokens)) + self.prefill * prefill


def draw_wave_time(random: Random) -> KnottedWaveTime:
    return KnottedWaveTime(
        **vars(draw_step_time(random)),
        each=random.choice([0, 0, 1, 5]),
        all=random.choice([0, 1]),
        prefill=random.choice([0, 10]),
        pad=random.choice([0, 4, 16]),
    )


def draw_waves(seed: int) -> FleetScenario:
    """A wave of two to four engines, sometimes with a lone instance beside it, and any programs."""
    random = Random(seed)
    scenario = draw_fleet(seed)
    ranks = [random.choice(scenario.instances) for _ in range(random.choice([2, 2, 3, 4]))]
    asynchronous, time = random.random() < 0.6, draw_wave_time(random)
    wave = [
        replace(
            spec,
            step_time=time,
            engine=spec.engine.model_copy(update={"async_scheduling": asynchronous}),
            wave="w",
        )
        for spec in ranks
    ]
    return replace(scenario, instances=[*scenario.instances[:1], *wave] if seed % 3 == 0 else wave)


def compare(scenario: FleetScenario) -> Counter[str]:
    leapt, counts, now = scenario.run(leap=True)
    stepped, their_counts, their_now = scenario.run(leap=False)
    for index in range(len(scenario.instances)):
        assert leapt.steps.get(index) == stepped.steps.get(index), f"steps of rank {index}"
    assert leapt.turns == stepped.turns
    assert now == their_now
    assert their_counts.leaps == 0
    assert (counts.steps, counts.preemptions) == (their_counts.steps, their_counts.preemptions)
    return Counter(leaps=counts.leaps, steps=counts.steps, preemptions=counts.preemptions)


@settings(max_examples=100)
@given(SEEDS)
def test_leap_equals_step(seed: int) -> None:
    compare(draw_waves(seed))


def test_the_comparison_sees_leaps_and_preemptions() -> None:
    tally = sum((compare(draw_waves(seed)) for seed in range(50)), Counter[str]())
    assert tally["leaps"] > 50
    assert tally["preemptions"] > 3


@settings(max_examples=100)
@given(SEEDS)
def test_steps_of_a_wave_start_and_end_together(seed: int) -> None:
    """No two ranks are ever in different steps."""
    scenario = draw_waves(seed)
    tape, _, _ = scenario.run(leap=False)
    first = 0 if scenario.instances[0].wave else 1
    spans = {
        (step.start_ps, step.end_ps)
        for index in range(first, len(scenario.instances))
        for step in tape.steps.get(index, [])
    }
    ordered = sorted(spans)
    assert all(before[1] <= after[0] for before, after in pairwise(ordered))


@settings(max_examples=30)
@given(SEEDS, st.booleans())
def test_every_step_that_is_counted_is_told(seed: int, leap: bool) -> None:
    """Those with a dummy batch too."""
    tape, counts, _ = draw_waves(seed).run(leap=leap)
    assert sum(map(len, tape.steps.values())) == counts.steps


class Ranks:
    """A wave and what became of its requests."""

    def __init__(self, count: int, time: WaveTime, *, leap: bool = True, **settings: object) -> None:
        self.kernel = Kernel()
        self.tape = Tape()
        self.finished: list[Request] = []
        config = EngineConfig(block_size=4, max_num_batched_tokens=64, **settings)
        self.wave = Wave(
            0,
            self.kernel,
            [config] * count,
            [1000] * count,
            time,
            self.finished.append,
            leap=leap,
            listener=self.tape,
        )

    def arrive(self, rank: int, at: int, prompt: int, output: int) -> Request:
        path = root(prompt + output)
        request = Request(turn(f"r{rank}@{at}", path, prompt), at)
        self.kernel.at(at, self.wave.ranks[rank].submit, request)
        return request


HAND = KnottedWaveTime(base=10, token=1, row=2, each=0, all=0)


def test_a_step_lasts_as_long_as_the_slowest_rank_needs() -> None:
    """Rank 0 prefills 20 tokens (10 + 20), rank 1 five; both then decode one row (10 + 2)."""
    run = Ranks(2, HAND, async_scheduling=False)
    slow, quick = run.arrive(0, 0, 20, 3), run.arrive(1, 0, 5, 3)
    run.kernel.run()
    assert slow.first_token_ps == quick.first_token_ps == 30
    assert slow.finish_ps == quick.finish_ps == 30 + 12 + 12


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_idle_rank_is_bound_to_its_dummy(asynchronous: bool) -> None:
    """Rank 0 decodes from 21 on (a prompt of 11 tokens takes 10 + 11), in steps of 12. At 23, in the
    second step, five tokens arrive. A rank that decodes takes them in with the next step (the one after
    that if a step is always scheduled ahead), which then lasts 10 + 5 + 2 beside its own row, or 10 + 5
    beside the other's. A rank that is idle takes them in one step later."""
    for rank in (0, 1):
        run = Ranks(2, HAND, async_scheduling=asynchronous)
        run.arrive(0, 0, 11, 50)
        late = run.arrive(rank, 23, 5, 1)
        run.kernel.run()
        step = 10 + 5 + (2 if rank == 0 else 0)
        starts = 21 + 12 + (12 if asynchronous else 0) + (12 if rank else 0)
        assert late.first_token_ps == starts + step


def test_a_new_wave_waits_for_nobody() -> None:
    run = Ranks(3, HAND)
    late = run.arrive(2, 100, 5, 1)
    run.kernel.run()
    assert late.first_token_ps == 100 + 15
    assert [step.prefill_tokens for step in run.tape.steps[2]] == [5]
    assert [(step.prefill_tokens, step.decode_rows) for step in run.tape.steps[0]] == [(0, 0)]


def test_a_leap_ends_where_another_rank_becomes_the_slowest() -> None:
    """Rank 0 has one long row that grows by 1 a step; rank 1 three short ones that grow by 3."""
    time = KnottedWaveTime(base=10, slopes=(1,), row=0)
    runs = []
    for leap in (True, False):
        run = Ranks(2, time, leap=leap, async_scheduling=True)
        run.arrive(0, 0, 60, 200)
        for at in range(3):
            run.arrive(1, at, 5, 200)
        run.kernel.run()
        runs.append(run)
    leapt, stepped = runs
    assert [vars_of(r) for r in leapt.finished] == [vars_of(r) for r in stepped.finished]
    assert leapt.tape.steps == stepped.tape.steps
    assert 1 < leapt.wave.leaps < 12
    assert stepped.wave.leaps == 0


def vars_of(request: Request) -> list[int]:
    return [getattr(request, name) for name in TIMES]


def test_ranks_with_equal_loads_are_as_fast_as_one_that_takes_the_others_to_be_busy() -> None:
    """The step time of one engine assumes that the others are as busy. In a wave they can be."""
    config = CostConfig(model="qwen3-30b-a3b", gpu="h100-sxm", data_parallel_size=3)
    cost = build_cost(config, block_size=16, max_num_batched_tokens=512, max_num_seqs=32)
    assert isinstance(cost.step_time, WaveTime)
    engine = EngineConfig(max_num_batched_tokens=512, max_num_seqs=32)
    programs = [(n * 4_000_000_000, 50 + 37 * n, 20 + 9 * n) for n in range(12)]

    def requests() -> list[Request]:
        return [Request(turn(f"{n}", root(p + o), p), at) for n, (at, p, o) in enumerate(programs)]

    kernel, alone = Kernel(), requests()
    instance = Instance(0, kernel, engine, 3000, cost.step_time, lambda request: None)
    for request in alone:
        kernel.at(request.arrival_ps, instance.submit, request)
    kernel.run()
    kernel, together = Kernel(), [requests() for _ in range(3)]
    wave = Wave(0, kernel, [engine] * 3, [3000] * 3, cost.step_time, lambda request: None)
    for rank, mine in zip(wave.ranks, together, strict=True):
        for request in mine:
            kernel.at(request.arrival_ps, rank.submit, request)
    kernel.run()
    for mine in together:
        assert [vars_of(request) for request in mine] == [vars_of(request) for request in alone]


def test_a_step_time_that_knows_no_waves_is_refused() -> None:
    spec = InstanceSpec("i", EngineConfig(), KnottedStepTime(), 100, wave="w")
    one = Program("p", 0, (turn("t", root(5), 3),))
    with pytest.raises(InputError, match="data_parallel_size"):
        Fleet(
            Workload((one,)), [spec, spec], router=RoundRobin(), tools=ToolsConfig(), seed=0, listener=Tape()
        )

"""Arrivals and other changes to a workload."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from pydantic import ValidationError

from agentservesim.model import Dependency, Program, Segment, ToolCall, Turn, Workload, to_ps, to_s
from agentservesim.workload import WorkloadConfig, load_workload, synthesise
from agentservesim.workload.transforms import (
    arriving_at_once,
    arriving_at_rate,
    capped_gaps,
    first_programs,
)


def programs(count: int) -> Workload:
    turn = Turn("t", 0, "s", 1, 1, ((Segment(), 2),))
    return Workload(tuple(Program(f"p{i}", i, (replace(turn, id=f"t{i}"),)) for i in range(count)))


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_gaps_are_gamma_with_the_stated_rate_and_burstiness(burstiness: float) -> None:
    """Mean 1 / rate and CV burstiness ** -0.5; sampling errors of 20,000 gaps are below 3 %."""
    rate = 0.5
    arrivals = [to_s(p.arrival_ps) for p in arriving_at_rate(programs(20_001), rate, burstiness, 5).programs]
    gaps = [b - a for a, b in pairwise(arrivals)]
    mean = sum(gaps) / len(gaps)
    cv = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) / mean
    assert arrivals[0] == 0
    assert min(gaps) >= 0
    assert mean == pytest.approx(1 / rate, rel=0.05)
    assert cv == pytest.approx(burstiness**-0.5, rel=0.05)


def test_arrivals_depend_on_the_seed_only() -> None:
    few, many = programs(10), programs(30)
    drawn = [p.arrival_ps for p in arriving_at_rate(many, 2.0, 1.0, 1).programs]
    assert [p.arrival_ps for p in arriving_at_rate(few, 2.0, 1.0, 1).programs] == drawn[:10]
    assert [p.arrival_ps for p in arriving_at_rate(many, 2.0, 1.0, 2).programs] != drawn
    assert [p.id for p in arriving_at_rate(many, 2.0, 1.0, 1).programs] == [p.id for p in many.programs]


def test_caps_apply_to_think_time_recorded_tool_time_and_calls() -> None:
    turns = (
        Turn(
            "a",
            0,
            "s",
            1,
            1,
            ((Segment(), 2),),
            tools=(ToolCall("x", to_ps(9)), ToolCall("y", None, to_ps(7))),
        ),
        Turn("b", 1, "s", 1, 1, ((Segment(), 2),), (Dependency(0, "completion", to_ps(8), to_ps(3)),)),
        Turn("c", 2, "s", 1, 1, ((Segment(), 2),), (Dependency(1, "dispatch", to_ps(2), None),)),
    )
    a, b, c = capped_gaps(Workload((Program("p", 0, turns),)), 5.0).programs[0].turns
    assert a.tools == (ToolCall("x", to_ps(5)), ToolCall("y", None, to_ps(5)))
    assert b.dependencies == (Dependency(0, "completion", to_ps(5), to_ps(3)),)
    assert c.dependencies == (Dependency(1, "dispatch", to_ps(2), None),)


def test_config_is_applied_in_order() -> None:
    def load(**fields: Any) -> Workload:
        return load_workload(WorkloadConfig(**fields), seed=3)

    demo = load()
    assert (demo.source, demo.synthetic) == ("demo", True)
    few = load(max_programs=7)
    assert [p.id for p in few.programs] == [p.id for p in demo.programs[:7]]
    assert {p.arrival_ps for p in load(max_concurrency=4).programs} == {0}
    rated = load(max_concurrency=4, program_rate=0.1, max_programs=9)
    assert len({p.arrival_ps for p in rated.programs}) == 9
    assert [p.arrival_ps for p in rated.programs] == [
        p.arrival_ps for p in load(program_rate=0.1).programs[:9]
    ]
    delays = [d.delay_ps for p in load(max_gap_s=1.5).programs for t in p.turns for d in t.dependencies]
    assert max(delays) == to_ps(1.5)


def test_pure_functions_leave_their_input_alone() -> None:
    workload = synthesise("claude-code", 3, 0)
    before = workload.programs
    assert first_programs(workload, 2).programs == before[:2]
    assert {p.arrival_ps for p in arriving_at_once(workload).programs} == {0}
    capped_gaps(workload, 0.0)
    assert workload.programs is before


@pytest.mark.parametrize(
    "field",
    [
        {"program_rate": 0},
        {"program_rate": float("nan")},
        {"program_rate": float("inf")},
        {"burstiness": -1},
        {"max_concurrency": 0},
        {"max_programs": 0},
        {"max_gap_s": -1},
        {"max_gap_s": float("nan")},
        {"trace_block_size": 0},
        {"lengths": "both"},
        {"format": "csv"},
        {"trace": ""},
        {"typo": 1},
    ],
)
def test_config_is_bounded(field: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        WorkloadConfig(**field)

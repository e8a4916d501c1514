"""Watts, joules and dollars, by hand."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from agentservesim import Scenario, WorkloadConfig, simulate
from agentservesim.cost.accelerators import list_gpus, load_accelerator
from agentservesim.cost.config import CostConfig
from agentservesim.cost.power import Power, power_of
from agentservesim.model import to_ps
from agentservesim.results.expenses import Use, expenses

PLAIN = Power(idle_w=100.0, decode_w=300.0, prefill_w=600.0, usd_per_hour=3.6)


def test_energy_by_hand() -> None:
    """10 s, of which 2 s prefill and 3 s decode: 2 x 600 + 3 x 300 + 5 x 100 = 2,600 J."""
    assert PLAIN.energy_j(to_ps(10), to_ps(3), to_ps(2)) == pytest.approx(2600)
    assert PLAIN.usd(to_ps(10)) == pytest.approx(0.01)


def test_expenses_by_hand() -> None:
    """Two instances of two accelerators for 10 s: one as above, one idle: 2 x 2,600 + 2 x 1,000 = 7,200 J."""
    uses = [Use(2, PLAIN, to_ps(2), to_ps(3)), Use(2, PLAIN, 0, 0)]
    found = expenses(uses, to_ps(10), programs=4, output_tokens=2000)
    assert found["energy_j"] == pytest.approx(7200)
    assert found["energy_per_program_j"] == pytest.approx(1800)
    assert found["energy_per_million_output_tokens_j"] == pytest.approx(3.6e6)
    assert found["usd"] == pytest.approx(0.04)
    assert found["usd_per_program"] == pytest.approx(0.01)
    assert found["usd_per_million_output_tokens"] == pytest.approx(20)


def test_no_price_no_dollars() -> None:
    unpriced = Power(1.0, 1.0, 1.0, None)
    found = expenses([Use(1, PLAIN, 0, 0), Use(1, unpriced, 0, 0)], to_ps(1), 1, 1)
    assert found["usd"] is None
    assert found["usd_per_program"] is None
    assert expenses([Use(1, PLAIN, 0, 0)], to_ps(1), 0, 0)["energy_per_program_j"] is None


def test_what_the_user_says_goes_first() -> None:
    h100 = load_accelerator("h100-sxm")
    default = power_of(CostConfig(), h100)
    assert default.idle_w == pytest.approx(80)
    assert default.prefill_w <= h100.max_w == 700
    assert default.usd_per_hour == 3.0
    given = power_of(CostConfig(gpu_idle_w=50, gpu_usd_per_hour=0.0), h100)
    assert (given.idle_w, given.usd_per_hour, given.decode_w) == (50, 0.0, default.decode_w)
    unknown = replace(h100, usd_per_hour=None)
    assert power_of(CostConfig(), unknown).usd_per_hour is None
    assert power_of(CostConfig(gpu_usd_per_hour=2.0), unknown).usd_per_hour == 2.0


@pytest.mark.parametrize("name", list(list_gpus()))
def test_every_price_has_a_source_with_a_date(name: str) -> None:
    gpu = load_accelerator(name)
    assert gpu.usd_per_hour is None or 0.1 < gpu.usd_per_hour < 20
    assert ("none" in gpu.price_source) == (gpu.usd_per_hour is None)
    assert gpu.usd_per_hour is None or re.search(r"\b202\d\b", gpu.price_source)


@pytest.mark.parametrize("settings", [{}, {"pipeline_parallel_size": 2}, {"data_parallel_size": 2}])
def test_leaps_are_as_busy_as_their_steps(settings: dict[str, int]) -> None:
    workload = WorkloadConfig(trace="demo", max_programs=4, max_gap_s=5)
    summaries = [
        simulate(
            Scenario.model_validate(
                {
                    "workload": workload,
                    "instances": [{"model": "qwen3-30b-a3b", "num_gpu_blocks": 20000, **settings}],
                    "leap": leap,
                }
            )
        ).summary
        for leap in (True, False)
    ]
    assert summaries[0]["cost"] == summaries[1]["cost"]
    assert summaries[0]["cost"]["energy_j"] > 0


def test_twice_the_accelerators_cost_twice_the_rent() -> None:
    workload = WorkloadConfig(trace="demo", max_programs=3)
    rents = []
    for ranks in (1, 2):
        scenario = Scenario.model_validate(
            {"workload": workload, "instances": [{"tensor_parallel_size": ranks, "step_time": "roofline"}]}
        )
        result = simulate(scenario)
        hours = result.summary["simulated_s"] / 3600
        rents.append(result.summary["cost"]["usd"] / hours)
    assert rents == pytest.approx([3.0, 6.0])

"""Bundles: equal to their parts, parts that are given win, one object where families agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentservesim.model import InputError
from agentservesim.policies import FAMILIES, load_policies
from agentservesim.policies.bundles import BUNDLES, list_bundles
from agentservesim.results import Result, comparable
from agentservesim.scenario import Scenario, simulate
from agentservesim.settings import Settings, validate

MEMORY = {
    "tiers": [{"name": "dram", "capacity_bytes": 20e9}],
    "links": [{"between": ("hbm", "dram"), "kind": "pcie5-x16"}],
}
SMALL: dict[str, Any] = {
    "workload": {"trace": "demo", "max_programs": 3, "program_rate": 0.5, "max_gap_s": 20},
    "instances": [{"count": 2, "num_gpu_blocks": 10500}],
    "memory": MEMORY,
}


def run(**changes: Any) -> Result:
    return simulate(Scenario.model_validate({**SMALL, **changes}))


def same(one: Result, other: Result) -> bool:
    """Whether two runs are the same, but for what the scenario is called."""
    summaries = [comparable(result.summary) for result in (one, other)]
    for summary in summaries:
        summary["scenario"].pop("policy")
    tables = one.turns.equals(other.turns) and one.programs.equals(other.programs)
    return tables and summaries[0] == summaries[1]


@pytest.mark.parametrize("name", BUNDLES)
def test_a_bundle_is_its_parts(name: str) -> None:
    whole = run(policy=name)
    assert {family: whole.summary["scenario"][family] for family in BUNDLES[name].parts} == BUNDLES[
        name
    ].parts
    assert same(whole, run(**BUNDLES[name].parts))


@pytest.mark.parametrize("name", BUNDLES)
def test_leaping_equals_stepping_with_a_bundle(name: str) -> None:
    def brief(leap: bool) -> Result:
        traces = Path(__file__).parents[2] / "examples" / "traces"
        workload = {"trace": str(traces / "fork-join.jsonl"), "program_rate": 2.0}
        return run(workload=workload, instances=[{"count": 2, "num_gpu_blocks": 900}], policy=name, leap=leap)

    leapt = brief(True)
    assert leapt.summary["counts"]["leaps"]
    assert same(leapt, brief(False))


def test_families_are_all_there() -> None:
    assert {family for bundle in BUNDLES.values() for family in bundle.parts} == {*FAMILIES}
    assert list_bundles().keys() == BUNDLES.keys()


def test_parts_that_are_given_win() -> None:
    scenario = Scenario(policy="continuum", residency="ttl,ttl_s=3")
    assert (scenario.scheduler, scenario.residency) == ("continuum", "ttl,ttl_s=3")
    assert (scenario.router, scenario.admission) == ("session-affinity", "always")


def test_an_unknown_one_is_refused_in_one_line() -> None:
    settings = Settings({"policy": "continum"}, source="x.toml")
    with pytest.raises(
        InputError, match=r"^x.toml: policy: unknown policy 'continum'; did you mean 'continuum'\?$"
    ):
        validate(Scenario, settings)


def test_one_object_serves_the_families_that_agree() -> None:
    specs = {"scheduler": "fcfs", "residency": "mori,window=3", "router": "thunderagent"}
    apart = load_policies({**specs, "admission": "thunderagent,tick_s=1"})
    assert len({id(policy) for policy in apart.values()}) == 4
    together = load_policies({**specs, "admission": "thunderagent"})
    assert together["admission"] is together["router"]
    mori = load_policies({**specs, "admission": "mori,window=3"})
    assert mori["admission"] is mori["residency"]
    # The same name, but nobody can do both.
    saga = load_policies({"scheduler": "saga", "residency": "saga"})
    assert saga["scheduler"] is not saga["residency"]


def test_a_bundle_may_stand_in_a_file_and_be_overridden_by_a_flag(tmp_path: Path) -> None:
    from agentservesim.flags import source_settings

    (tmp_path / "s.toml").write_text('policy = "saga"\n')
    settings = source_settings(str(tmp_path / "s.toml"), {"router": "random"})
    scenario = validate(Scenario, settings)
    assert (scenario.scheduler, scenario.router, scenario.residency) == ("saga", "random", "saga")

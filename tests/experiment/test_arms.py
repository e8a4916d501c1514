"""Arms: names, values with parameters, and what cannot be compared."""

from __future__ import annotations

import pytest

from agentservesim.experiment import Arm, compare, split_values, sweep
from agentservesim.experiment.arms import check_comparable
from agentservesim.model import InputError
from agentservesim.scenario import Scenario
from agentservesim.workload.config import WorkloadConfig


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("lru", ["lru"]),
        ("lru,demote", ["lru", "demote"]),
        ("lru,ttl,ttl_s=30,continuum", ["lru", "ttl,ttl_s=30", "continuum"]),
        ("mine:Policy,a=1,b=2,lru", ["mine:Policy,a=1,b=2", "lru"]),
        ("0.5,1,2", ["0.5", "1", "2"]),
        ("lru,", ["lru", ""]),
    ],
)
def test_a_part_with_an_equals_sign_is_a_parameter(text: str, values: list[str]) -> None:
    assert split_values(text) == values


def test_one_arm_is_nothing_to_compare() -> None:
    with pytest.raises(InputError, match="cannot be compared with itself; give several, or --vary"):
        compare([Arm("a", Scenario())])


@pytest.mark.parametrize("experiment", [compare, sweep])
def test_names_are_different(experiment: object) -> None:
    assert callable(experiment)
    with pytest.raises(InputError, match="two arms are called 'a'"):
        experiment([Arm("a", Scenario()), Arm("a", Scenario(residency="demote"))])


def test_arms_serve_the_same_programs() -> None:
    loads = [Arm(f"at {rate}", Scenario(workload=WorkloadConfig(program_rate=rate))) for rate in (1.0, 2.0)]
    with pytest.raises(InputError) as fault:
        compare(loads)
    assert str(fault.value) == (
        "'at 1.0' and 'at 2.0' do not serve the same workload: program_rate is 1.0 and 2.0; "
        "agentservesim sweep takes different workloads"
    )


def test_arms_have_the_same_tool_times() -> None:
    def arm(**tools: object) -> Arm:
        return Arm(str(tools), Scenario.model_validate({"tools": tools}))

    for tools, said in (
        ({"durations": "drawn"}, "tools.durations is recorded and drawn"),
        ({"default": {"median_s": 2.0}}, "tools.default is "),
        ({"by_tool": {"ls": {}}}, "tools.by_tool is "),
    ):
        with pytest.raises(InputError, match=f"do not serve the same workload: {said}"):
            check_comparable([arm(), arm(**tools)])
    check_comparable([arm(), arm(max_workers=1)])


def test_an_arm_at_a_seed_differs_in_nothing_else() -> None:
    arm = Arm("one", Scenario(seed=3, router="round-robin"))
    assert arm.at(7).model_dump() == arm.scenario.model_dump() | {"seed": 7, "name": "one"}

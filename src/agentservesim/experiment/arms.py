"""What is compared: arms, each a scenario with a name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from agentservesim.model import InputError
from agentservesim.scenario import Scenario


@dataclass(frozen=True)
class Arm:
    """One of the alternatives."""

    name: str
    scenario: Scenario

    def at(self, seed: int) -> Scenario:
        """The scenario with a seed: every arm has the same arrivals and tool times at the same seed."""
        return self.scenario.model_copy(update={"seed": seed, "name": self.name})


def check_comparable(arms: Sequence[Arm]) -> None:
    """Raise InputError unless there are several arms that serve the same programs."""
    check_names(arms)
    if len(arms) < 2:
        raise InputError(
            "one scenario cannot be compared with itself; give several, or --vary residency=lru,ttl"
        )
    for one, other in pairwise(arms):
        left, right = _served(one.scenario), _served(other.scenario)
        for field in left:
            if left[field] != right[field]:
                raise InputError(
                    f"'{one.name}' and '{other.name}' do not serve the same workload: {field} is "
                    f"{left[field]} and {right[field]}; agentservesim sweep takes different workloads"
                )


def _served(scenario: Scenario) -> dict[str, object]:
    """What decides the programs, their arrivals and their tool times; how many tools run at once does not."""
    tools = scenario.tools.model_dump(exclude={"max_workers"})
    return scenario.workload.model_dump() | {f"tools.{field}": value for field, value in tools.items()}


def check_names(arms: Sequence[Arm]) -> None:
    """Raise InputError if two arms have one name."""
    names = [arm.name for arm in arms]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"two arms are called '{twice}'; give each scenario its own name")


def split_values(text: str) -> list[str]:
    """The values of `lru,ttl,ttl_s=30,continuum`: a part with `=` is a parameter of the one before it."""
    values: list[str] = []
    for part in text.split(","):
        if "=" in part and values:
            values[-1] += f",{part}"
        else:
            values.append(part)
    return values

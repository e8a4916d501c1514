"""What holds for every policy that is installed, and for every bundle: all that the registry names."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentservesim.policies import FAMILIES, list_policies, load_policies, load_policy
from agentservesim.policies.bundles import BUNDLES
from agentservesim.testing.playing import Outcome, play
from agentservesim.testing.policy_laws import PolicyLaws
from agentservesim.testing.residency_cases import Case, draw_case
from agentservesim.testing.router_laws import draw_fleet

PLAIN = {"router": "session-affinity", "admission": "always", "scheduler": "fcfs", "residency": "lru"}
LAWS = [name for name in dir(PolicyLaws) if name.startswith("test_")]


def everybody() -> dict[str, Mapping[str, str]]:
    """The parts of every policy and bundle; one that routes what it admits does both."""
    admissions = list_policies("admission")
    found: dict[str, Mapping[str, str]] = {f"bundle {name}": BUNDLES[name].parts for name in BUNDLES}
    for family in FAMILIES:
        for name in list_policies(family):
            both = family == "router" and name in admissions
            found[f"{family} {name}"] = {family: name} | ({"admission": name} if both else {})
    return found


def played(case: Case, parts: Mapping[str, str], leap: bool = True) -> Outcome:
    policies = load_policies({**PLAIN, **parts})
    return play(case, policies.pop("residency"), leap=leap, **policies)


def digests() -> dict[str, str]:
    """What each of them makes of three cases, byte by byte."""
    cases = [replace(draw_case(seed, needs=("dram",), size=6), instances=2) for seed in (3, 14, 15)]
    return {
        name: hashlib.sha256(repr([played(case, parts) for case in cases]).encode()).hexdigest()
        for name, parts in everybody().items()
    }


def digests_elsewhere(hash_seed: str) -> dict[str, str]:
    """The same in a process that orders its sets and hashes its texts in its own way."""
    program = f"import json; from {__name__} import digests; print(json.dumps(digests()))"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    told: dict[str, str] = json.loads(done.stdout)
    return told


def test_the_same_seed_gives_the_same_bytes_with_every_policy_in_any_process() -> None:
    here = digests()
    assert len(set(here.values())) > len(here) / 3, "they do differ from one another"
    assert here == digests_elsewhere("1")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_policy_is_made_in_a_test_of_its_own_rule(family: str) -> None:
    """In the tests by hand, beside those that go through the registry."""
    told = "\n".join(file.read_text() for file in Path(__file__).parent.glob("*/test_*.py"))
    kinds = {name: type(load_policy(family, name)).__name__ for name in list_policies(family)}
    assert [name for name, kind in kinds.items() if not re.search(rf"\b{kind}\(", told)] == []


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("bundle", BUNDLES)
def test_bundles_keep_the_laws_of_all_policies(bundle: str, law: str) -> None:
    class Laws(PolicyLaws):
        seeds = range(3)

        def draw(self, seed: int, cramped: bool = False) -> Case:
            return draw_fleet(seed, cramped)

        def play(self, case: Case, leap: bool = True) -> Outcome:
            return played(case, BUNDLES[bundle].parts, leap)

        def make_policy(self) -> Any:
            return None

    getattr(Laws(), law)()

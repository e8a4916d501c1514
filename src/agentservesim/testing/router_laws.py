"""Laws that every routing policy must keep, as tests that a policy's author inherits.

    from agentservesim.testing import RouterLaws

    class TestMyRouter(RouterLaws):
        def make_policy(self):
            return MyRouter(weight=2.0)

`pytest` then plays random programs on random fleets (see `testing.residency_cases`) under the router: with
views of all ages, with and without a network between the instances.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from agentservesim.fleet.config import NetworkConfig, RoutingConfig
from agentservesim.policies import load_policy
from agentservesim.policies.protocols import Pause
from agentservesim.policies.routing import RoundRobin
from agentservesim.testing.playing import Outcome, play
from agentservesim.testing.policy_laws import PolicyLaws
from agentservesim.testing.residency_cases import Case, draw_case

RESIDENCIES = ("lru", "lru", "ttl,ttl_s=0.5", "pin-always")
"""What is done with KV meanwhile, case by case."""

NETWORKS = [NetworkConfig(kind="rdma-200g", bytes_per_s=speed) for speed in (0.0, 2e5, 3e6)]
"""As fast as they are, and so slow that turns have to wait."""


def draw_fleet(seed: int, cramped: bool = False) -> Case:
    """A case with two to four instances, views of any age, and maybe a network."""
    random = Random(f"router/{seed}")
    return replace(
        draw_case(seed, cramped),
        instances=random.choice([2, 2, 3, 4]),
        wanders=0.0,
        routing=RoutingConfig(
            snapshot_interval_s=random.choice([0.0, 0.0, 0.05, 1.0]),
            event_lag_s=random.choice([0.0, 0.0, 0.02, 0.5]),
        ),
        network=random.choice([None, *NETWORKS]),
    )


def pauses_or_looks_ahead(outcome: Outcome) -> bool:
    """Whether the router did what has effects on one instance too."""
    answers = [answer for _, call, answer in outcome.decisions if call in ("rebalance", "looks_ahead")]
    parts = [part for answer in answers if isinstance(answer, (list, tuple)) for part in answer]
    return any(part is True or isinstance(part, Pause) for part in parts)


class RouterLaws(PolicyLaws):
    """Inherit, give `make_policy`, and run pytest. `seeds` are the cases that are played."""

    def draw(self, seed: int, cramped: bool = False) -> Case:
        """The case of a seed, with a fleet."""
        return draw_fleet(seed, cramped)

    def play(self, case: Case, leap: bool = True, audit_every: int = 0, router: Any = None) -> Outcome:
        """Play a case with a new policy object, or with another `router`."""
        residency = load_policy("residency", RESIDENCIES[case.seed % len(RESIDENCIES)])
        router = self.make_policy() if router is None else router
        return play(case, residency, router=router, leap=leap, audit_every=audit_every)

    def test_every_turn_completes(self) -> None:
        """Every turn is served once, no byte is lost, and every block is held by somebody who is known."""
        for seed in self.seeds:
            for cramped in (False, True):
                case = self.draw(seed, cramped)
                outcome = self.play(case, audit_every=7)
                served = {(turn.program_id, turn.index) for turn in outcome.turns}
                turns = sum(len(program.turns) for program in case.programs)
                assert len(served) == len(outcome.turns) == turns, f"case {seed}"
                assert outcome.bytes_arrived == outcome.bytes_sent, f"case {seed}"

    def test_with_one_instance_it_is_like_any_other(self) -> None:
        """There is nothing to choose, so nothing differs, however old the views are.

        What pauses programs, or looks ahead, does what others do not: such cases are left out.
        """
        for seed in self.seeds:
            case = replace(self.draw(seed), instances=1)
            here, there = self.play(case), self.play(case, router=RoundRobin())
            if pauses_or_looks_ahead(here):
                continue
            assert (here.turns, here.transfers) == (there.turns, there.transfers), f"case {seed}"

"""Laws that every scheduling policy must keep, as tests that a policy's author inherits.

    from agentservesim.testing import SchedulerLaws

    class TestMyPolicy(SchedulerLaws):
        def make_policy(self):
            return MyPolicy(weight=3.0)

`pytest` then plays random programs on random memory (see `testing.residency_cases`) under the policy.
"""

from __future__ import annotations

from agentservesim.engine.order import Order
from agentservesim.policies import load_policy
from agentservesim.testing.playing import Outcome, play
from agentservesim.testing.policy_laws import PolicyLaws
from agentservesim.testing.residency_cases import Case

RESIDENCIES = ("lru", "pin-always", "ttl,ttl_s=0.5", "lru", "continuum-preview")
"""What is done with KV meanwhile, case by case: pins stand in the way, and are broken."""


class SchedulerLaws(PolicyLaws):
    """Inherit, give `make_policy`, and run pytest. `seeds` are the cases that are played."""

    def play(self, case: Case, leap: bool = True, audit_every: int = 0) -> Outcome:
        """Play a case with a new policy object."""
        residency = load_policy("residency", RESIDENCIES[case.seed % len(RESIDENCIES)])
        return play(case, residency, scheduler=self.make_policy(), leap=leap, audit_every=audit_every)

    def test_it_is_a_policy(self) -> None:
        """It says when its keys change, and how often it wants to be asked."""
        Order(self.make_policy())

    def test_every_turn_completes(self) -> None:
        """Nobody waits for ever, and every block is free or held by somebody who is known, all the time."""
        for seed in self.seeds:
            case = self.draw(seed)
            outcome = self.play(case, audit_every=7)
            assert len(outcome.turns) == sum(len(p.turns) for p in case.programs), f"case {seed}"

    def test_it_manages_with_next_to_nothing(self) -> None:
        """A pool for one program is no reason to raise, or to stop."""
        for seed in self.seeds:
            case = self.draw(seed, cramped=True)
            assert len(self.play(case).turns) == sum(len(p.turns) for p in case.programs), f"case {seed}"

"""Laws that every admission policy must keep, as tests that a policy's author inherits.

    from agentservesim.testing import AdmissionLaws

    class TestMyPolicy(AdmissionLaws):
        def make_policy(self):
            return MyPolicy(limit=3)

`pytest` then plays random programs on random memory (see `testing.residency_cases`) under the policy. One
that routes as well is the router too.
"""

from __future__ import annotations

from agentservesim.policies import load_policy
from agentservesim.testing.playing import Outcome, play
from agentservesim.testing.policy_laws import PolicyLaws
from agentservesim.testing.residency_cases import Case

RESIDENCIES = ("lru", "ttl,ttl_s=0.5", "pin-always", "lru")
"""What is done with KV meanwhile, case by case: held turns may have pins."""


class AdmissionLaws(PolicyLaws):
    """Inherit, give `make_policy`, and run pytest. `seeds` are the cases that are played."""

    def play(self, case: Case, leap: bool = True, audit_every: int = 0) -> Outcome:
        """Play a case with a new policy object."""
        residency = load_policy("residency", RESIDENCIES[case.seed % len(RESIDENCIES)])
        return play(case, residency, admission=self.make_policy(), leap=leap, audit_every=audit_every)

    def test_every_turn_is_served_or_its_program_rejected(self) -> None:
        """Nobody is held for good, however small the memory; every block is accounted for all the time."""
        for seed in self.seeds:
            for cramped in (False, True):
                case = self.draw(seed, cramped)
                outcome = self.play(case, audit_every=7)
                served = {(turn.program_id, turn.index) for turn in outcome.turns}
                assert len(served) == len(outcome.turns), f"case {seed}: a turn was served twice"
                for program in case.programs:
                    whole = all((program.id, turn.index) in served for turn in program.turns)
                    assert whole != (program.id in outcome.rejected), f"case {seed}: program {program.id}"

    def test_holding_is_queueing(self) -> None:
        """The parts of a turn's latency sum to it, and the hold is a part of the queueing."""
        for seed in self.seeds:
            for turn in self.play(self.draw(seed)).turns:
                parts = turn.queue_ps + turn.prefill_ps + turn.decode_ps + turn.transfer_ps
                assert parts == turn.finish_ps - turn.ready_ps, f"case {seed}"
                assert 0 <= turn.hold_ps <= turn.queue_ps - turn.requeue_ps, f"case {seed}"

"""What the laws of all policy families have in common."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest import SkipTest

from agentservesim.policies.protocols import OraclePolicy
from agentservesim.testing.playing import Outcome, most_telling_s, other_future, other_replies
from agentservesim.testing.residency_cases import Case, draw_case
from agentservesim.testing.salted import hashed_anew


class PolicyLaws:
    """Laws of every policy, whatever its family; families add their own.

    `seeds` are the cases that are played.
    """

    seeds: range = range(12)

    def __init_subclass__(cls) -> None:
        if not cls.seeds:
            raise ValueError(f"{cls.__name__}: seeds is empty, so that no law would be tried")

    def make_policy(self) -> Any:
        """A new policy object; called once for each run."""
        raise NotImplementedError

    def draw(self, seed: int, cramped: bool = False) -> Case:
        """The case of a seed."""
        return draw_case(seed, cramped)

    def play(self, case: Case, leap: bool = True) -> Outcome:
        """Play a case with a new policy object."""
        raise NotImplementedError

    def test_it_is_deterministic(self) -> None:
        """The same programs meet the same decisions and the same times."""
        for seed in self.seeds:
            case = self.draw(seed)
            assert self.play(case) == self.play(case), f"case {seed}"

    def test_it_does_not_go_by_hashes(self) -> None:
        """`hash(program_id)`, or the order of a set of ids, is another one in each process of Python."""
        for seed in self.seeds:
            case = self.draw(seed)
            here, there = (self.play(hashed_anew(case, salt)) for salt in (1, 2))
            assert here == there, f"case {seed}: ids of the same text, but with other hashes"

    def test_leaping_equals_stepping(self) -> None:
        """Neither the policy nor its result notices whether the engine leaps."""
        for seed in self.seeds:
            case = self.draw(seed)
            assert self.play(case, leap=True) == self.play(case, leap=False), f"case {seed}"

    def test_it_sees_no_future(self) -> None:
        """Neither later gaps and turns nor longer replies change what was decided before (but an oracle)."""
        if isinstance(self.make_policy(), OraclePolicy):
            raise SkipTest("an oracle: it is told what is to come")
        for seed in self.seeds:
            case = self.draw(seed)
            case = replace(case, blocks=case.blocks + 2)  # for longer replies
            here = self.play(case)
            if not here.decisions:
                continue
            middle_s = here.decisions[len(here.decisions) // 2][0]
            for change, at_s in ((other_future, middle_s), (other_replies, most_telling_s(case, here))):
                there = self.play(change(case, here, at_s))
                assert here.decided_before(at_s) == there.decided_before(at_s), f"case {seed}"

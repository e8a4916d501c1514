"""Laws for authors of admission policies: the built-ins keep them, a policy that breaks one is caught."""

from __future__ import annotations

from random import Random
from typing import ClassVar

import pytest

from agentservesim.model import InputError
from agentservesim.policies import list_policies, load_policy
from agentservesim.policies.protocols import ADMIT, FleetView, Hold, ProgramView, Reject, TurnView, Verdict
from agentservesim.testing import AdmissionLaws
from agentservesim.testing.playing import Outcome
from agentservesim.testing.residency_cases import Case

LAWS = [name for name in dir(AdmissionLaws) if name.startswith("test_")]
TIGHT = {
    "max-programs": "max-programs,limit=1",
    "concur": "concur,tick_s=0.05",
    "early-reject": "early-reject,ttft_s=0.05",
    "token-bucket": "token-bucket,tokens_per_s=100,burst=20",
    "thunderagent": "thunderagent,tick_s=0.05,buffer=1,patience_s=3",
}
"""Parameters with which the policies have something to do in the cases that are played."""


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", sorted(list_policies("admission")))
def test_built_in_policies_keep_the_laws(name: str, law: str) -> None:
    class Laws(AdmissionLaws):
        seeds = range(6)

        def make_policy(self) -> object:
            return load_policy("admission", TIGHT.get(name, name))

    getattr(Laws(), law)()


class Moody:
    """Answers differently in every run, but lets everybody in."""

    random = Random(0)

    def admit(self, program: ProgramView, turn: TurnView, fleet: FleetView) -> Verdict:
        return ADMIT if self.random.random() < 0.5 else Hold(until_s=fleet.now_s + 0.1)


class Wall:
    """Holds for good."""

    def admit(self, program: ProgramView, turn: TurnView, fleet: FleetView) -> Verdict:
        return Hold()


class Clock(Wall):
    """Holds for good, and looks again and again."""

    tick_s = 3600.0

    def review(self, fleet: FleetView) -> None:
        pass


class Alarm:
    def admit(self, program: ProgramView, turn: TurnView, fleet: FleetView) -> Verdict:
        return Hold(until_s=fleet.now_s + 3600.0)


class Yes:
    def admit(self, program: ProgramView, turn: TurnView, fleet: FleetView) -> Verdict:
        return True  # type: ignore[return-value]


class Measuring:
    """Is told how long the replies will be."""

    replies: ClassVar[dict[tuple[str, int], int]] = {}

    def admit(self, program: ProgramView, turn: TurnView, fleet: FleetView) -> Verdict:
        return ADMIT if self.replies[turn.program_id, turn.turn_index] < 9 else Reject("too long")


class Timing(AdmissionLaws):
    def make_policy(self) -> object:
        return Measuring()

    def play(self, case: Case, leap: bool = True, audit_every: int = 0) -> Outcome:
        Measuring.replies = {(p.id, t.index): t.output_tokens for p in case.programs for t in p.turns}
        return super().play(case, leap, audit_every)


def test_knowing_replies_is_caught() -> None:
    with pytest.raises(AssertionError):
        Timing().test_it_sees_no_future()


class Late:
    """Turns away programs in the middle; that is its right."""

    def admit(self, program: ProgramView, turn: TurnView, fleet: FleetView) -> Verdict:
        return Reject("enough") if turn.turn_index == 2 else ADMIT


@pytest.mark.parametrize(
    ("policy", "law", "fault"),
    [
        (Moody, "test_it_is_deterministic", AssertionError),
        (Wall, "test_every_turn_is_served_or_its_program_rejected", InputError),
        (Clock, "test_every_turn_is_served_or_its_program_rejected", InputError),
        (Alarm, "test_every_turn_is_served_or_its_program_rejected", InputError),
        (Yes, "test_every_turn_is_served_or_its_program_rejected", InputError),
    ],
)
def test_who_breaks_a_law_is_caught(policy: type, law: str, fault: type[Exception]) -> None:
    class Laws(AdmissionLaws):
        seeds = range(8)

        def make_policy(self) -> object:
            return policy()

    with pytest.raises(fault):
        getattr(Laws(), law)()


@pytest.mark.parametrize("law", LAWS)
def test_a_program_may_be_turned_away_in_the_middle(law: str) -> None:
    class Laws(AdmissionLaws):
        def make_policy(self) -> object:
            return Late()

    getattr(Laws(), law)()

"""Laws for authors of residency policies: the built-ins keep them, a policy that breaks one is caught."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from random import Random
from typing import ClassVar

import pytest

from agentservesim.model import InputError
from agentservesim.policies import list_policies, load_policy
from agentservesim.policies.protocols import CACHE, ChainView, Placement, ServerView
from agentservesim.policies.residency import Demote, Lru
from agentservesim.testing import ResidencyLaws
from agentservesim.testing.playing import Outcome
from agentservesim.testing.residency_cases import Case

LAWS = [name for name in dir(ResidencyLaws) if name.startswith("test_")]


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", sorted(list_policies("residency")))
def test_built_in_policies_keep_the_laws(name: str, law: str) -> None:
    class Laws(ResidencyLaws):
        seeds = range(8)
        needs = ("dram",)

        def make_policy(self) -> object:
            return load_policy("residency", name)

    getattr(Laws(), law)()


class Stubborn(Lru):
    """Pins what it likes; breaks no law."""

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        return Placement("hbm", -1.0 if chain.turns_done % 2 else None, hard=True)


class Elsewhere(Lru):
    def place(self, chain: ChainView, server: ServerView) -> Placement:
        return Placement("tape")


class Moody(Lru):
    """Answers differently in every run."""

    random = Random(0)

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        return self.random.choice([CACHE, Placement("hbm"), Placement("drop")])


class Clairvoyant(Lru):
    """Is told how long the gaps of a case will be."""

    gaps: ClassVar[dict[tuple[str, int], int]] = {}

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        return Placement("hbm", server.now_s + self.gaps[chain.program_id, chain.turns_done] / 1e12)


class Peeking(ResidencyLaws):
    def make_policy(self) -> object:
        return Clairvoyant()

    def play(self, case: Case, leap: bool = True) -> Outcome:
        Clairvoyant.gaps = defaultdict(int)
        for program in case.programs:
            for turn in program.turns:
                Clairvoyant.gaps[program.id, turn.index] = sum(d.delay_ps for d in turn.dependencies)
        return super().play(case, leap)


class Measuring(Lru):
    """Is told how long the next reply will be."""

    replies: ClassVar[dict[tuple[str, int], int]] = {}

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        reply = self.replies[chain.program_id, chain.turns_done]
        return Placement("hbm", server.now_s + reply / 1000)


class Timing(ResidencyLaws):
    def make_policy(self) -> object:
        return Measuring()

    def play(self, case: Case, leap: bool = True) -> Outcome:
        Measuring.replies = defaultdict(int)
        for program in case.programs:
            for turn in program.turns:
                Measuring.replies[program.id, turn.index] = turn.output_tokens
        return super().play(case, leap)


def test_knowing_replies_is_caught() -> None:
    with pytest.raises(AssertionError):
        Timing().test_it_sees_no_future()


def laws_of(policy: Callable[[], object]) -> ResidencyLaws:
    class Laws(ResidencyLaws):
        def make_policy(self) -> object:
            return policy()

    return Laws()


@pytest.mark.parametrize("law", LAWS)
def test_a_stubborn_policy_keeps_them_too(law: str) -> None:
    getattr(laws_of(Stubborn), law)()


def test_a_placement_that_does_not_exist_is_caught() -> None:
    with pytest.raises(InputError, match=r"residency Elsewhere: place\(\) of program 'p0' returned"):
        laws_of(Elsewhere).test_placements_are_valid()


def test_moods_are_caught() -> None:
    with pytest.raises(AssertionError):
        laws_of(Moody).test_it_is_deterministic()


def test_knowing_the_future_is_caught() -> None:
    with pytest.raises(AssertionError):
        Peeking().test_it_sees_no_future()


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("needs", [("remote",), ("cxl", "tape")])
def test_tiers_of_any_name_are_there_if_they_are_needed(needs: tuple[str, ...], law: str) -> None:
    asked: list[tuple[str, ...]] = []

    class Down(Demote):
        def place(self, chain: ChainView, server: ServerView) -> Placement:
            asked.append(server.tiers)
            return super().place(chain, server)

    wanted = needs

    class Laws(ResidencyLaws):
        seeds = range(3)
        needs = wanted

        def make_policy(self) -> object:
            return Down(tier=wanted[-1])

    getattr(Laws(), law)()
    assert asked
    assert all({*needs} <= {*tiers} for tiers in asked)


def test_no_law_is_tried_on_nothing() -> None:
    with pytest.raises(ValueError, match="Nothing: seeds is empty"):

        class Nothing(ResidencyLaws):
            seeds = range(0)

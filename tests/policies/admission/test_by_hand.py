"""The rules of the admission policies, on cases worked out by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from agentservesim.model import InputError
from agentservesim.policies.admission import (
    Always,
    Concur,
    EarlyReject,
    MaxPrograms,
    ThunderAgent,
    TokenBucket,
)
from agentservesim.policies.protocols import ADMIT, Hold, Prefilled, ProgramEnded, Reject, TurnEnded, TurnView
from tests.policies.parts import View


@dataclass
class Known:
    """What a server knows of a program, as far as admission looks at it."""

    program_id: str
    tenant: str = ""
    gap_started_s: float | None = None


@dataclass
class Whole:
    """A fleet at a moment."""

    instances: list[View] = field(default_factory=lambda: [View(0)])
    now_s: float = 0.0
    programs: dict[str, Any] = field(default_factory=dict)
    held: int = 0

    def ask(self, policy: Any, program: Known | str, turn: int = 0, prompt: int = 100) -> Any:
        """What the policy says to a turn; who is let in is in."""
        known = Known(program) if isinstance(program, str) else program
        view = TurnView(known.program_id, "main", turn, prompt, 0, None)
        answer = policy.admit(known, view, self)
        if answer == ADMIT:
            self.programs[known.program_id] = known
        return answer

    def end(self, policy: Any, program: str) -> None:
        """A program ends."""
        del self.programs[program]
        policy.observe(ProgramEnded(program, 1))


def test_always_lets_everybody_in() -> None:
    fleet = Whole([View(0, free_blocks=0, waiting=99)])
    assert all(fleet.ask(Always(), f"p{i}") == ADMIT for i in range(100))


def test_max_programs_counts_programs_not_turns() -> None:
    policy, fleet = MaxPrograms(limit=2), Whole()
    assert [fleet.ask(policy, name) for name in ("a", "b")] == [ADMIT, ADMIT]
    assert fleet.ask(policy, "c") == Hold(blocks=True)
    assert fleet.ask(policy, "a", turn=1) == ADMIT
    del fleet.programs["b"]
    assert fleet.ask(policy, "c") == ADMIT


def test_max_programs_needs_room_for_one() -> None:
    with pytest.raises(ValueError, match="limit must be at least 1"):
        MaxPrograms(limit=0)


# ---- token bucket -----------------------------------------------------------------------------------


def test_a_bucket_pays_for_prompts_and_fills_up() -> None:
    policy, fleet = TokenBucket(tokens_per_s=10, burst=150), Whole()
    assert fleet.ask(policy, "a", prompt=100) == ADMIT  # 150 - 100 = 50
    assert fleet.ask(policy, "b", prompt=70) == Hold(until_s=2.0)  # 50 - 70 = -20, 2 s at 10 a second
    assert fleet.ask(policy, "c", prompt=30) == Hold(until_s=5.0)  # -50
    fleet.now_s = 2.0
    assert fleet.ask(policy, "b", prompt=70) == ADMIT  # paid for already
    assert fleet.ask(policy, "c", prompt=30) == Hold(until_s=5.0)
    fleet.now_s = 5.0
    assert fleet.ask(policy, "c", prompt=30) == ADMIT
    fleet.now_s = 100.0  # 95 s make 950, of which 150 are kept
    assert fleet.ask(policy, "d", prompt=170) == Hold(until_s=102.0)  # 150 - 170 = -20


def test_tenants_have_buckets_of_their_own() -> None:
    policy, fleet = TokenBucket(tokens_per_s=10, burst=100), Whole()
    assert fleet.ask(policy, Known("a", "x"), prompt=100) == ADMIT
    assert fleet.ask(policy, Known("b", "x"), prompt=100) == Hold(until_s=10.0)
    assert fleet.ask(policy, Known("c", "y"), prompt=100) == ADMIT


# ---- CONCUR -----------------------------------------------------------------------------------------


def served(prompt: int, cached: int) -> TurnEnded:
    return TurnEnded(Known("a"), "main", prompt, 1, cached)  # type: ignore[arg-type]


def used(blocks: int) -> Whole:
    """So many of 100 blocks are in use."""
    return Whole([View(0, free_blocks=100 - blocks)])


def test_the_window_is_additive_up_and_multiplicative_down() -> None:
    policy = Concur()
    windows = []
    for blocks, cached in [
        (10, 0),
        (19, 0),
        (20, 0),
        (50, 10),
        (60, 20),
        (60, 19),
        (60, 0),
        (90, 0),
        (90, 0),
    ]:
        policy.observe(served(100, cached))
        policy.review(used(blocks))
        windows.append(policy.window)
    # below .2 of the blocks +2; up to .5, or with hits of at least .2, as it was; else halved, never below 1
    assert windows == [3, 5, 5, 5, 5, 2.5, 1.25, 1, 1]


def test_without_news_of_hits_the_window_stays() -> None:
    policy = Concur(first=8)
    policy.review(used(90))
    assert policy.window == 8
    policy.observe(served(100, 0))
    policy.review(used(90))
    policy.review(used(90))  # what was counted once is not counted again
    assert policy.window == 4


def test_the_window_counts_places() -> None:
    policy, fleet = Concur(first=2), Whole()
    assert [fleet.ask(policy, name) for name in "abc"] == [ADMIT, ADMIT, Hold(blocks=True)]
    assert fleet.ask(policy, "a", turn=1) == ADMIT
    fleet.end(policy, "b")
    assert fleet.ask(policy, "c") == ADMIT


def test_a_smaller_window_takes_places_away_between_turns() -> None:
    policy, fleet = Concur(first=2), Whole()
    assert [fleet.ask(policy, name) for name in "ab"] == [ADMIT, ADMIT]
    policy.window = 1.9
    assert fleet.ask(policy, "a", turn=1) == Hold(blocks=True)  # two places, window of one
    assert fleet.ask(policy, "b", turn=1) == ADMIT
    fleet.end(policy, "b")
    assert fleet.ask(policy, "a", turn=1) == ADMIT


# ---- early rejection --------------------------------------------------------------------------------


def test_who_would_wait_too_long_is_turned_away() -> None:
    fleet = Whole([View(0), View(1, cached=40)])  # a millisecond for each token that is not cached
    policy = EarlyReject(ttft_s=0.1)
    assert fleet.ask(policy, "a", prompt=100) == ADMIT  # 60 ms on the second instance
    assert fleet.ask(policy, "b", prompt=110) == ADMIT  # 60 ms for two instances, and 70 of its own: 100 ms
    assert fleet.ask(policy, "c", prompt=76) == Reject("first token in 0.101 s")  # 130 / 2 + 36
    assert fleet.ask(policy, "a", turn=1, prompt=500) == ADMIT  # under way
    policy.observe(Prefilled(TurnView("a", "main", 1, 500, 0, None), 0))
    policy.observe(Prefilled(TurnView("a", "main", 0, 100, 0, None), 1))
    assert fleet.ask(policy, "c", prompt=76) == ADMIT  # 70 / 2 + 36


# ---- ThunderAgent -----------------------------------------------------------------------------------


def ended(policy: Any, known: Known, now_s: float, prompt: int, reply: int = 0) -> None:
    """A turn ends and its program's gap begins."""
    known.gap_started_s = now_s
    policy.observe(TurnEnded(known, "main", prompt, reply, 0))  # type: ignore[arg-type]


def three(decay: float = 0.0, **parameters: Any) -> tuple[ThunderAgent, Whole, dict[str, Known]]:
    """Programs of 300, 400 and 200 tokens on an instance of 1000."""
    policy, fleet = ThunderAgent(buffer=10, decay=decay, **parameters), Whole()
    known = {name: Known(name) for name in "abc"}
    for name, prompt in zip("abc", (300, 400, 200), strict=True):
        assert fleet.ask(policy, known[name], prompt=prompt) == ADMIT
    return policy, fleet, known


def test_a_new_program_needs_room_and_nobody_before_it() -> None:
    policy, fleet, _ = three()
    # 1000 - 900 - 3 * 10 = 70 left: 61 tokens and the buffer are one too many
    assert fleet.ask(policy, "d", prompt=61) == Hold(until_s=1800.0)
    assert fleet.ask(policy, "e", prompt=20) == Hold(until_s=1800.0)  # d waits
    fleet.end(policy, "a")
    policy.review(fleet)  # 70 + 310: smallest first, 30 and 71
    assert fleet.ask(policy, "d", prompt=61) == fleet.ask(policy, "e", prompt=20) == ADMIT


def test_acting_programs_are_paused_first_and_of_them_the_smallest() -> None:
    policy, fleet, known = three()
    ended(policy, known["b"], 1.0, 400, 90)  # 300 + 490 + 200 and buffers: 20 over
    ended(policy, known["c"], 2.0, 200, 10)  # 30 over
    policy.review(fleet)
    assert fleet.ask(policy, known["a"], turn=1, prompt=300) == ADMIT
    assert fleet.ask(policy, known["b"], turn=1, prompt=500) == ADMIT
    fleet.now_s = 6.0
    assert fleet.ask(policy, known["c"], turn=1, prompt=220) == Hold(until_s=1806.0)


def test_reasoning_programs_are_paused_when_their_turn_ends() -> None:
    policy, fleet, known = three()
    assert fleet.ask(policy, known["b"], turn=1, prompt=480) == ADMIT  # 980 and 30: 10 over
    policy.review(fleet)  # c is the smallest: marked
    assert fleet.ask(policy, known["c"], turn=1, prompt=200) == ADMIT
    policy.review(fleet)  # who is marked counts as gone: nobody else has to
    ended(policy, known["c"], 5.0, 200)
    assert fleet.ask(policy, known["c"], turn=2, prompt=230) == Hold(until_s=1800.0)
    assert fleet.ask(policy, known["a"], turn=1, prompt=300) == ADMIT


def test_who_waits_is_restored_before_new_ones_and_those_before_idle_ones() -> None:
    policy, fleet, known = three()
    for name, tokens in (("a", 330), ("b", 450), ("c", 260)):
        ended(policy, known[name], 1.0, tokens)
    policy.review(fleet)  # 1040 and 30: c goes, 70 over become 200 under
    assert fleet.ask(policy, known["a"], turn=1, prompt=400) == ADMIT
    assert fleet.ask(policy, known["b"], turn=1, prompt=560) == ADMIT
    ended(policy, known["a"], 2.0, 400)
    policy.review(fleet)  # 960 and 20: nobody is over, and nobody fits
    assert fleet.ask(policy, "d", prompt=40) == Hold(until_s=1800.0)
    assert fleet.ask(policy, known["c"], turn=1, prompt=260) == Hold(until_s=1800.0)
    fleet.end(policy, "b")
    policy.review(fleet)  # 590 left: c takes 270 though d is smaller, d 50
    assert fleet.ask(policy, known["c"], turn=1, prompt=260) == ADMIT
    assert fleet.ask(policy, "d", prompt=40) == ADMIT


def test_it_is_restored_to_the_roomiest_instance() -> None:
    policy, fleet = ThunderAgent(buffer=0), Whole([View(0), View(1), View(2, num_blocks=150)])
    homes = []
    for name, prompt in (("a", 400), ("b", 600), ("c", 900), ("d", 100)):
        assert fleet.ask(policy, name, prompt=prompt) == ADMIT
        homes.append(policy.route(TurnView(name, "main", 0, prompt, 0, None), fleet.instances, 0.0))
    # room 1000 1000 1500, then 1000 1000 1100, 1000 1000 500, 100 1000 500
    assert homes == [2, 2, 0, 1]


def test_patience_has_an_end() -> None:
    policy, fleet, _ = three(patience_s=50.0)
    fleet.now_s = 10.0
    assert fleet.ask(policy, "d", prompt=999) == Hold(until_s=60.0)
    fleet.now_s = 60.0
    assert fleet.ask(policy, "d", prompt=999) == ADMIT


@pytest.mark.parametrize(("decay", "paused"), [(0.0, True), (1.0, False)])
def test_decay_forgives_long_gaps(decay: float, paused: bool) -> None:
    policy, fleet, known = three(decay=decay)
    ended(policy, known["b"], 1.0, 500)  # 1000 and 30
    fleet.now_s = 2.0  # with decay 1 half of b's 500 counts
    policy.review(fleet)
    assert (fleet.ask(policy, known["b"], turn=1, prompt=500) != ADMIT) == paused


def test_it_routes_what_it_admitted_only() -> None:
    with pytest.raises(InputError, match="goes with admission 'thunderagent'"):
        ThunderAgent().route(TurnView("p", "main", 0, 1, 0, None), [View(0)], 0.0)

"""Speculative prefill, with times worked out by hand: a prompt token and a decode step take a second each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agentservesim.model import Program
from agentservesim.policies import list_policies, load_policy
from agentservesim.policies.protocols import TurnView
from agentservesim.policies.routing import DynamoKv
from agentservesim.testing import RouterLaws
from agentservesim.testing.playing import play
from agentservesim.testing.router_laws import draw_fleet
from tests.fleet.parts import PerToken, S, Served, after, instance, program, serve, turn
from tests.paths import fork, root

SPEC = instance(step_time=PerToken(prompt_ps=S, row_ps=S))


def told(gap_s: int = 200, hinted: bool = True, shares: int = 64) -> Program:
    """64 prompt tokens and a reply of 32; then a prompt of 112: the first `shares` of the 64, the reply in
    other words, 32 tokens of them, and 16 more."""
    first, second = turn(0, 32, prompt=64), turn(1, 1, after(0, gap_s), prompt=112)
    hints = {"speculative_prefill": True} if hinted else None
    path = root(96)
    return program(
        replace(first, path=path, hints=hints), replace(second, path=fork(path, shares, 113), hints=hints)
    )


def run(programs: Program, **settings: Any) -> Served:
    return serve([programs], [SPEC], router=DynamoKv(), wants_steps=True, **settings)


def computed(served: Served) -> list[int]:
    """Prompt tokens of the steps that have any."""
    return [step.prefill_tokens for step in served.log.steps if step.prefill_tokens]


def waits_s(served: Served) -> float:
    """From the second turn to its first token."""
    second = served["1"]
    return (second.first_token_ps - second.ready_ps) / S


@pytest.mark.parametrize("leap", [True, False])
def test_the_reply_as_it_comes_back_is_computed_in_the_gap(leap: bool) -> None:
    """Without it 48 tokens are computed when the turn is there; with it 32 of them are there by then."""
    without, ahead = run(told(hinted=False), leap=leap), run(told(), leap=leap)
    assert (computed(without), computed(ahead)) == ([64, 48], [64, 32, 16])
    assert (without["1"].cached_tokens, ahead["1"].cached_tokens) == (64, 96)
    assert (waits_s(without), waits_s(ahead)) == (48, 16)
    assert len(ahead.log.turns) == 2


def test_who_is_back_early_waits_for_it_and_finds_it() -> None:
    """It runs from 95 s, when the reply is complete, to 127 s; the turn is back at 105 s."""
    assert waits_s(run(told(gap_s=10))) == (32 - 10) + 16


def test_what_nobody_can_know_is_not_computed() -> None:
    """The next prompt keeps 32 of the 64 tokens: a server expects all of them, and the reply as it is in the
    cache: 80 of 96 tokens, as the last one generated has no KV and blocks are of 16."""
    served = run(told(shares=32))
    assert computed(served) == [64, 16, 80]
    assert served["1"].cached_tokens == 32


def test_the_last_turn_of_a_program_is_followed_by_nothing() -> None:
    served = run(program(replace(turn(0, 32, prompt=64), hints={"speculative_prefill": True})))
    assert computed(served) == [64]


class Eager(DynamoKv):
    """Looks ahead after every turn."""

    def looks_ahead(self, turn: TurnView) -> bool:
        return True


class TestEager(RouterLaws):
    seeds = range(8)

    def make_policy(self) -> Eager:
        return Eager()

    def test_with_one_instance_it_is_like_any_other(self) -> None:
        """It is not: it computes more than others."""


@pytest.mark.parametrize("name", list_policies("scheduler"))
def test_every_scheduler_orders_it_and_leaps_over_it(name: str) -> None:
    for seed in range(6):
        case = draw_fleet(seed, cramped=seed % 3 == 0)
        residency = "lru" if seed % 2 else "continuum"

        def outcome(leap: bool, case: Any = case, residency: str = residency) -> object:
            return play(
                case,
                load_policy("residency", residency),
                router=Eager(),
                scheduler=load_policy("scheduler", name),
                leap=leap,
                audit_every=7,
            )

        assert outcome(leap=True) == outcome(leap=False)


class Broken(DynamoKv):
    def looks_ahead(self, turn: TurnView) -> bool:
        raise KeyError(turn.program_id)


def test_a_router_that_fails_is_named() -> None:
    with pytest.raises(ValueError, match=r"router Broken: looks_ahead\(\) of turn 0 of program 'p' raised"):
        serve([told()], [SPEC], router=Broken())

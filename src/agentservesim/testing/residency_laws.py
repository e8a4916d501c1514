"""Laws that every residency policy must keep, as tests that a policy's author inherits.

    from agentservesim.testing import ResidencyLaws

    class TestMyPolicy(ResidencyLaws):
        def make_policy(self):
            return MyPolicy(ttl_s=3.0)

`pytest` then plays random programs on random memory (see `testing.residency_cases`) under the policy.
"""

from __future__ import annotations

from random import Random

from agentservesim.kv.advice import Advice
from agentservesim.model import to_s
from agentservesim.policies.protocols import ChainView
from agentservesim.testing.playing import Outcome, play
from agentservesim.testing.policy_laws import PolicyLaws
from agentservesim.testing.residency_cases import Case, StillServer, draw_case

TIERS = ((), ("dram",), ("dram", "ssd"), ("dram", "cxl", "ssd"))


class ResidencyLaws(PolicyLaws):
    """Inherit, give `make_policy`, and run pytest.

    `seeds` are the cases that are played; `needs` names tiers that the policy cannot do
    without, which all cases have.
    """

    needs: tuple[str, ...] = ()

    def draw(self, seed: int, cramped: bool = False) -> Case:
        """The case of a seed."""
        return draw_case(seed, cramped, self.needs)

    def play(self, case: Case, leap: bool = True) -> Outcome:
        """Play a case with a new policy object."""
        return play(case, self.make_policy(), leap=leap)

    def test_placements_are_valid(self) -> None:
        """Whatever the session and however full the server, `place` answers with a placement there is."""
        random = Random(0)
        names = dict.fromkeys((*TIERS[-1], *self.needs))
        for tiers in dict.fromkeys(tuple(n for n in names if n in {*some, *self.needs}) for some in TIERS):
            advice = Advice(self.make_policy(), tiers)
            for number in range(50):
                server = StillServer(tiers, random)
                advice.place(draw_view(random, number, tiers, server.now_s), server)

    def test_every_turn_completes(self) -> None:
        """No deadlock: what waits is served in the end, however small the memory; all bytes arrive."""
        for seed in self.seeds:
            case = self.draw(seed)
            outcome = self.play(case)
            assert len(outcome.turns) == sum(len(p.turns) for p in case.programs)
            assert outcome.bytes_arrived == outcome.bytes_sent

    def test_ledgers_balance(self) -> None:
        """Every block of every tier is free or held by somebody who is known, all the time."""
        for seed in self.seeds:
            play(self.draw(seed), self.make_policy(), audit_every=7)

    def test_it_manages_with_next_to_nothing(self) -> None:
        """A pool for one program and tiers of a block or two are no reason to raise, or to stop."""
        for seed in self.seeds:
            case = self.draw(seed, cramped=True)
            assert len(self.play(case).turns) == sum(len(p.turns) for p in case.programs)


def draw_view(random: Random, number: int, tiers: tuple[str, ...], now_s: float) -> ChainView:
    """Any session in its gap."""
    tokens = 16 * random.choice([0, 1, 7, 500])
    since_s = now_s - random.choice([0.0, 0.0, 0.5, 10.0, 4000.0])
    return ChainView(
        program_id=f"p{number}",
        session_id="main",
        instance=0,
        arrival_s=max(since_s - 10, 0.0),
        turns_done=random.choice([1, 2, 30]),
        tokens=tokens,
        kept_tokens={tier: random.choice([0, tokens // 2, tokens]) for tier in ("hbm", *tiers)},
        pinned_until_s=random.choice([None, None, now_s, now_s + 5.0]),
        tools=random.choice([(), ("Bash",), ("Read", "Read", "Bash")]),
        gap_started_s=max(since_s, 0.0),
        past_gaps_s=tuple(to_s(random.choice([0, 10**9, 10**13])) for _ in range(random.choice([0, 1, 200]))),
        hints={},
    )

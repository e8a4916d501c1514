"""TokenCake: prediction, the four conditions of an offload, and the upload before the call ends."""

from __future__ import annotations

import pytest

from agentservesim.policies.protocols import GapEnded, Placement
from agentservesim.policies.residency.tokencake import HELD, TokenCake
from tests.policies.residency.views import Server, gap, run

HINT = {"gap_s": 10.0}


def busy(**changes: object) -> Server:
    """300 of 1000 tokens free, 100 of them the chain's own: 80 % in use; one waits."""
    return Server(**{"free_tokens": 300, "waiting": 1} | changes)  # type: ignore[arg-type]


def test_half_the_hint_and_half_the_mean() -> None:
    policy = TokenCake()
    assert policy.predict(gap()) is None
    assert policy.predict(gap(hints=HINT)) == 10
    policy.observe(GapEnded(gap(), 4.0))
    policy.observe(GapEnded(gap(), 8.0))
    # 0.5 * 4 + 0.5 * 8 = 6; 0.5 * 10 + 0.5 * 6 = 8
    assert policy.predict(gap()) == 6
    assert policy.predict(gap(hints=HINT)) == 8
    assert policy.predict(gap(tools=("Read",))) is None


def test_offload_until_it_is_time_to_upload() -> None:
    # back at 2 + 10 s; 100 tokens come up in 1 s
    assert TokenCake().place(gap(started_s=2, hints=HINT), busy(now_s=2)) == Placement("dram", 11.0)


@pytest.mark.parametrize(
    ("chain", "server", "offloads"),
    [
        (gap(hints=HINT), busy(), True),
        (gap(), busy(), False),  # nothing is known of the gap
        (gap(hints=HINT), busy(waiting=0), False),
        (gap(hints=HINT), busy(tiers=()), False),
        (gap(hints=HINT), busy(room={"dram": 99}), False),
        (gap(hints={"gap_s": 2.0}), busy(), False),  # 1 s down, 1 s up
        (gap(hints={"gap_s": 2.1}), busy(), True),
        (gap(hints=HINT), busy(free_tokens=500), True),  # (500 - 100) / 1000 free: 60 % in use
        (gap(hints=HINT), busy(free_tokens=501), False),
        (gap(hints=HINT, pinned_until_s=1e9), busy(free_tokens=401), False),  # its own are not free
        (gap(hints=HINT, pinned_until_s=1e9), busy(free_tokens=400), True),
    ],
)
def test_an_offload_has_to_pay(chain: object, server: Server, offloads: bool) -> None:
    assert (TokenCake().place(chain, server).tier == "dram") is offloads  # type: ignore[arg-type]


def test_room_counts_what_is_on_its_way() -> None:
    policy, server = TokenCake(), busy(room={"dram": 150})
    assert policy.place(gap("a", hints=HINT), server).tier == "dram"
    assert policy.place(gap("b", hints=HINT), server) == HELD
    policy.observe(GapEnded(gap("a", hints=HINT), 3.0))
    assert policy.place(gap("b", hints=HINT), server).tier == "dram"


def test_an_upload_takes_half_of_what_is_missing_at_a_time() -> None:
    policy = TokenCake(tick_s=0.5)
    policy.place(gap(hints=HINT), busy())
    for hbm, tokens in ((0, 50), (50, 25), (75, 13)):
        down = gap(hints=HINT, hbm=hbm, dram=100)
        assert policy.place(down, busy(now_s=9)) == Placement("hbm", 9.5, budget_tokens=tokens)
    assert policy.place(gap(hints=HINT, hbm=100, dram=100), busy(now_s=9.5)) == HELD
    # it is up again: 0.3 s are too few to send it down once more
    assert policy.place(gap(hints=HINT), busy(now_s=9.7)) == HELD


def test_an_upload_leaves_room_for_who_waits_beyond_the_reserve() -> None:
    policy = TokenCake()
    assert policy.budget_tokens(busy(free_tokens=300)) == 300
    assert policy.budget_tokens(busy(free_tokens=300, waiting_tokens=50)) == 300  # they fit the reserve
    assert policy.budget_tokens(busy(free_tokens=300, waiting_tokens=120)) == 300 - (120 - 50)
    assert policy.budget_tokens(busy(free_tokens=300, waiting_tokens=900)) == 0
    for free, reserve in ((200, 100), (200, 150), (300, 150), (601, 100), (700, 50), (700, 50)):
        list(policy.tick([], busy(free_tokens=free)))
        waiting = busy(free_tokens=300, waiting_tokens=300)
        assert policy.budget_tokens(waiting) == 300 - (300 - reserve)
    for _ in range(9):
        list(policy.tick([], busy(free_tokens=0)))
    assert policy.budget_tokens(busy(free_tokens=400, waiting_tokens=400)) == 300


def test_a_tick_offloads_what_was_held() -> None:
    policy, chain = TokenCake(), gap(hints=HINT)
    assert policy.place(chain, busy(waiting=0)) == HELD
    held = gap(hints=HINT, pinned_until_s=1e9)
    assert list(policy.tick([held], busy(now_s=1, waiting=0))) == []
    assert list(policy.tick([held], busy(now_s=1))) == [(held, Placement("dram", 9.0))]
    assert list(policy.tick([held], busy(now_s=2))) == []


def test_leap_equals_step() -> None:
    leaps = run(TokenCake())
    assert leaps.same_as(run(TokenCake(), leap=False))
    assert leaps.moved_bytes > 0

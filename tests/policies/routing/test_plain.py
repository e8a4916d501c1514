"""Routers that look at loads alone."""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b

import pytest

from agentservesim.policies.protocols import Choice
from agentservesim.policies.routing import (
    Autellix,
    LeastLoaded,
    PowerOfTwo,
    RandomChoice,
    RoundRobin,
    SessionAffinity,
)
from tests.policies.parts import asks, begun, views


def test_round_robin_goes_round() -> None:
    router = RoundRobin()
    assert [router.route(asks(home=2), views(9, 0, 0), 0.0) for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]


def test_least_loaded_takes_the_smallest_load_and_the_lowest_index_of_equals() -> None:
    router = LeastLoaded()
    assert router.route(asks(home=0), views(3, 2, 5), 0.0) == Choice(1, [3, 2, 5])
    assert router.route(asks(home=0), views(3, 2, 2), 0.0).index == 1
    assert router.route(asks(home=2), views(0, 0, 0), 0.0).index == 0


def test_random_is_even_and_depends_on_the_seed_alone() -> None:
    def drawn(seed: int) -> list[int]:
        router = begun(RandomChoice(), 4, seed)
        return [router.route(asks(), views(9, 0, 0, 0), 0.0) for _ in range(4000)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    # 1000 expected of each, with a standard deviation of sqrt(4000 * 1/4 * 3/4) = 27
    assert all(890 < count < 1110 for count in Counter(drawn(1)).values())


def test_power_of_two_never_takes_the_worst_and_takes_the_best_of_three_in_two_of_three() -> None:
    router = begun(PowerOfTwo(), 3)
    chosen = Counter(router.route(asks(), views(5, 1, 9), 0.0).index for _ in range(3000))
    # pairs are equally likely: {0,1} -> 1, {1,2} -> 1, {0,2} -> 0
    assert chosen[2] == 0
    assert 1880 < chosen[1] < 2120  # 2000, standard deviation sqrt(3000 * 2/3 * 1/3) = 26
    assert begun(PowerOfTwo(), 1).route(asks(), views(5), 0.0).index == 0


def test_power_of_two_takes_the_lowest_index_of_equals() -> None:
    router = begun(PowerOfTwo(), 2)
    assert {router.route(asks(), views(4, 4), 0.0).index for _ in range(20)} == {0}


def test_session_affinity_stays_and_spreads_new_programs() -> None:
    router = begun(SessionAffinity())
    assert [router.route(asks(str(i)), views(5, 0, 0), 0.0).index for i in range(4)] == [0, 1, 2, 0]
    assert router.route(asks("1", home=1), views(0, 99, 0), 0.0).index == 1
    # turns that go home do not count as programs
    assert router.route(asks("new"), views(0, 99, 0), 0.0).index == 1


def test_a_session_that_does_not_fit_goes_to_the_least_loaded() -> None:
    router = begun(SessionAffinity(capacity=4))
    assert router.route(asks(home=1), views(3, 3, 2), 0.0).index == 1
    assert router.route(asks(home=1), views(3, 4, 2), 0.0).index == 2
    assert router.route(asks(home=1), views(4, 6, 4), 0.0).index == 1  # all are full: nothing is won


def place(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())


def test_a_ring_of_hashes() -> None:
    """With one replica each: the program goes to the instance behind it on the ring."""
    router = begun(SessionAffinity(ring=True, replicas=1), 3)
    ring = sorted((place(f"{i}/0"), i) for i in range(3))
    for number in range(20):
        name = f"program {number}"
        behind = [index for at, index in ring if at >= place(name)]
        expected = behind[0] if behind else ring[0][1]
        assert router.route(asks(name, home=0), views(9, 9, 9), 0.0).index == expected


def test_few_programs_move_when_an_instance_joins_the_ring() -> None:
    before, after = (begun(SessionAffinity(ring=True), n) for n in (4, 5))
    names = [str(i) for i in range(2000)]
    moved = [
        (a, b)
        for a, b in (
            (
                before.route(asks(name), views(0, 0, 0, 0), 0.0).index,
                after.route(asks(name), views(0, 0, 0, 0, 0), 0.0).index,
            )
            for name in names
        )
        if a != b
    ]
    assert {b for _, b in moved} == {4}
    assert 0.12 < len(moved) / 2000 < 0.28  # a fifth is expected


def test_bounded_loads_pass_a_full_instance_over() -> None:
    """Loads 4, 1, 0 and the new turn are 6: no instance takes more than ceil(1.25 * 6 / 3) = 3."""
    plain = begun(SessionAffinity(ring=True), 3)
    bounded = begun(SessionAffinity(ring=True, bound=1.25), 3)
    moved = 0
    for number in range(50):
        there = plain.route(asks(str(number)), views(4, 1, 0), 0.0).index
        here = bounded.route(asks(str(number)), views(4, 1, 0), 0.0).index
        assert here == there if there else here in (1, 2)
        moved += not there
    assert moved
    # 2, 2, 2 and one are 7: ceil(1.25 * 7 / 3) = 3, so everybody may take one more
    assert bounded.route(asks("x"), views(2, 2, 2), 0.0) == plain.route(asks("x"), views(2, 2, 2), 0.0)


@pytest.mark.parametrize("wrong", [{"bound": 1.25}, {"ring": True, "bound": 0.5}, {"capacity": -1}])
def test_nonsense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be (1 or more|at least 0)"):
        SessionAffinity(**wrong)  # type: ignore[arg-type]


def test_autellix_sends_long_prompts_home() -> None:
    router = begun(Autellix(long_tokens=15))  # the prompt has 16 tokens
    assert router.route(asks("a"), views(3, 2, 2), 0.0).index == 1  # no home yet: the least used is it
    assert router.route(asks("a"), views(0, 9, 0), 0.0).index == 1
    assert router.route(asks("b"), views(0, 9, 0), 0.0).index == 0
    short = begun(Autellix(long_tokens=16))
    assert [short.route(asks("a"), views(*loads), 0.0).index for loads in ((3, 2, 2), (0, 9, 0))] == [1, 0]

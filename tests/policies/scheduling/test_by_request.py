"""Orders by the request itself: fcfs, priority, lpm, dfs-weight, hrrn, the oracles."""

from __future__ import annotations

from math import inf

from agentservesim.model import Path, Segment
from agentservesim.policies.protocols import ProgramEnded, TurnFinished
from agentservesim.policies.scheduling import DfsWeight, Fcfs, Hrrn, Lpm, Priority, Sjf, SjfOracle, SrptOracle
from tests.policies.scheduling.views import AProgram, ARequest, served

ROOT = Segment()


def branch(parent: Path, start: int, length: int) -> Path:
    """A path that leaves another at a position, with content of its own behind it."""
    kept = tuple((segment, min(end, start)) for segment, end in parent if segment.start < start)
    return (*kept, (Segment(start, kept[-1][0]), start + length))


def test_a_hinted_priority_counts_the_other_way_round() -> None:
    requests = [
        ARequest("own", priority=-1),  # as urgent as a hint of 1
        ARequest("hinted", priority=7, hints={"priority": 2}),
        ARequest("low", hints={"priority": -3}),
    ]
    assert served(Priority(), requests) == ["hinted", "own", "low"]
    assert [r.id for r in Priority().victims(requests, 0.0)] == ["low", "own", "hinted"]


def test_a_tier_comes_before_any_priority() -> None:
    requests = [
        ARequest("urgent", hints={"priority": 9}),
        ARequest("upper", hints={"strict_priority": 1, "priority": -5}),
        ARequest("own", priority=-20),
        ARequest("lower", hints={"strict_priority": -1}, priority=-99),
        ARequest("uppermost", hints={"strict_priority": 1}),
    ]
    order = ["uppermost", "upper", "own", "urgent", "lower"]
    assert served(Priority(), requests) == order
    assert [r.id for r in Priority().victims(requests, 0.0)] == order[::-1]


def test_sjf_goes_by_the_hint_or_by_replies_so_far() -> None:
    policy, talks, new = Sjf(), AProgram("talks"), AProgram("new")
    hinted = ARequest("hinted", new, hints={"osl": 40})
    assert served(policy, [ARequest("b", new), ARequest("a", talks)]) == ["b", "a"], "nothing is known: fcfs"
    for tokens in (90, 30):
        policy.observe(TurnFinished(ARequest("t", talks, generated_tokens=tokens)))
    policy.observe(TurnFinished(ARequest("o", AProgram("other"), generated_tokens=6)))
    # talks: (90 + 30) / 2 = 60; all: (90 + 30 + 6) / 3 = 42
    mine, others = ARequest("mine", talks), ARequest("others", new)
    assert [policy.key(request, 0.0) for request in (mine, others, hinted)] == [60, 42, 40]
    assert served(policy, [mine, others, hinted]) == ["hinted", "others", "mine"]
    assert policy.key(ARequest("late", new, generated_tokens=50, hints={"osl": 40}), 0.0) == 0
    policy.observe(ProgramEnded("talks", 2))
    assert policy.key(mine, 0.0) == 42


def test_fcfs_and_priority() -> None:
    requests = [
        ARequest("b", priority=1, arrival_s=1.0),
        ARequest("y", arrival_s=2.0),
        ARequest("x", arrival_s=2.0),
    ]
    assert served(Fcfs(), requests) == ["b", "y", "x"]
    assert served(Priority(), requests) == ["x", "y", "b"]
    assert [r.id for r in Priority().victims(requests, 0.0)] == ["b", "y", "x"]


def test_lpm_serves_the_longest_cached_prefix() -> None:
    requests = [
        ARequest(n, cached_tokens=c, prompt=((Segment(), 1000),))
        for n, c in [("a", 64), ("b", 640), ("c", 0)]
    ]
    assert served(Lpm(), requests) == ["b", "a", "c"]


def test_lpm_serves_one_of_those_who_share_what_is_not_cached_yet() -> None:
    trunk: Path = ((ROOT, 500),)
    # b shares 100 tokens with a, c shares 31 (less than 32), and d, which is cached, is not looked at.
    a = ARequest("a", prompt=trunk)
    b = ARequest("b", prompt=branch(trunk, 100, 50))
    c = ARequest("c", prompt=branch(trunk, 31, 50))
    d = ARequest("d", prompt=branch(trunk, 400, 50), cached_tokens=48)
    policy = Lpm()
    assert served(policy, [b, a, c, d]) == ["d", "b", "c", "a"]
    assert [policy.key(r, 0.0) for r in (a, b, c, d)] == [inf, 0, 0, -48]
    assert served(Lpm(share=101), [b, a, c, d]) == ["d", "b", "a", "c"]
    assert served(Lpm(check=48), [b, a, c, d]) == ["b", "c", "a", "d"], "d shares 400 tokens with a"


def test_lpm_is_fcfs_where_too_many_wait() -> None:
    requests = [ARequest(str(i), cached_tokens=i * 16) for i in range(129)]
    assert served(Lpm(), requests[:128])[:2] == ["127", "126"]
    assert served(Lpm(), requests)[:2] == ["0", "1"]


def test_sglang_retracts_the_shortest_reply_so_far_and_of_those_the_longest_prompt() -> None:
    running = [
        ARequest("a", generated_tokens=5, prompt_tokens=900),
        ARequest("b", generated_tokens=2, prompt_tokens=100),
        ARequest("c", generated_tokens=2, prompt_tokens=300),
    ]
    assert [r.id for r in Lpm().victims(running, 0.0)] == ["c", "b", "a"]
    assert [r.id for r in DfsWeight().victims(running, 0.0)] == ["c", "b", "a"]


def test_dfs_weight_walks_the_heaviest_subtree_first_and_a_node_after_those_below_it() -> None:
    # The tree of cached prefixes, with the requests that wait at each node:
    #   root ─ 100 of the trunk (x) ─┬─ left (l1, l2, l3)
    #                                └─ right (r1, r2) ─ leaf (f)
    #        └ elsewhere (e)
    trunk: Path = ((ROOT, 100),)
    left, right = branch(trunk, 100, 50), branch(trunk, 100, 60)
    leaf = branch(right, 160, 40)
    elsewhere: Path = ((Segment(), 80),)
    places = [
        ("e", elsewhere, 80),
        ("f", leaf, 200),
        ("l1", left, 150),
        ("r1", right, 160),
        ("x", trunk, 100),
        ("l2", left, 150),
        ("r2", right, 160),
        ("l3", left, 150),
        ("n", ((Segment(), 9),), 0),
    ]
    requests = [ARequest(name, prompt=path, cached_tokens=cached) for name, path, cached in places]
    # Weights: trunk 7, elsewhere 1. Below the trunk: left 3, right 3 (its own two and the leaf); equal ones
    # in the order of arrival, and the leaf of the right branch came first.
    assert served(DfsWeight(), requests) == ["f", "r1", "r2", "l1", "l2", "l3", "x", "e", "n"]


def test_dfs_weight_follows_a_segment_that_is_left_at_several_places() -> None:
    # A trunk of 300: one leaves it at 100, two at 200 for content of their own, one is cached to 250.
    trunk: Path = ((ROOT, 300),)
    early = branch(trunk, 100, 10)
    late = branch(trunk, 200, 10)
    requests = [
        ARequest("early", prompt=early, cached_tokens=110),
        ARequest("at250", prompt=trunk, cached_tokens=250),
        ARequest("late1", prompt=late, cached_tokens=210),
        ARequest("late2", prompt=late, cached_tokens=210),
    ]
    # At 100 the rest of the trunk has weight 3 and goes before `early`; at 200 `late` has 2, at250 1.
    assert served(DfsWeight(), requests) == ["late1", "late2", "at250", "early"]


def test_dfs_weight_is_fcfs_where_too_many_wait() -> None:
    requests = [ARequest(str(i), prompt=((ROOT, 1000 - i),), cached_tokens=1000 - i) for i in range(129)]
    assert served(DfsWeight(), requests[:128])[0] == "0"
    assert served(DfsWeight(), requests[127::-1])[0] == "0", "the deepest node"
    assert served(DfsWeight(), requests[::-1])[0] == "128", "in the order of arrival"


def test_hrrn_serves_the_highest_ratio_of_waiting_to_prefill() -> None:
    # Waits over uncached tokens: 4 / 800 = 0.005; 1 / 100 = 0.01; 9 / 3000 = 0.003.
    requests = [
        ARequest("mid", prompt_tokens=1000, cached_tokens=200, waited_s=4.0),
        ARequest("small", prompt_tokens=100, waited_s=1.0),
        ARequest("large", prompt_tokens=3000, waited_s=9.0),
    ]
    assert served(Hrrn(), requests) == ["small", "mid", "large"]
    ready = ARequest("ready", prompt_tokens=160, cached_tokens=160)
    assert served(Hrrn(), [*requests, ready])[0] == "ready"
    assert served(Hrrn(limit=3), [*requests, ready]) == ["mid", "small", "large", "ready"]


def test_the_oracles_know_what_is_left() -> None:
    long, short = AProgram("long"), AProgram("short")
    requests = [ARequest("l", long, turn_index=1), ARequest("s", short, turn_index=0)]
    by_turn, by_program = SjfOracle(), SrptOracle()
    for policy in (by_turn, by_program):
        policy.replies = {"long": (40, 5, 60), "short": (20, 30)}
    assert served(by_turn, requests) == ["l", "s"], "5 tokens against 20"
    assert served(by_program, requests) == ["s", "l"], "50 tokens against 105"
    # Done: the first turn of `long` (40) and 10 tokens of the second, before it was preempted: 105 - 50 = 55.
    by_program.observe(TurnFinished(ARequest(program=long, generated_tokens=40)))
    requests[0].generated_tokens = 3
    assert by_program.key(requests[0], 0.0) == 105 - 40 - 3
    assert by_turn.key(requests[0], 0.0) == 5 - 3
    by_program.observe(ProgramEnded("long", 3))
    assert by_program.key(ARequest(program=long), 0.0) == 105

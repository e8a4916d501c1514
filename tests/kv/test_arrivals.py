"""KV on its way to HBM ahead of its turn, by hand. Links move a block a second."""

from __future__ import annotations

from agentservesim.policies.protocols import CACHE, ChainView, Placement
from tests.kv.rig import BLOCK, Rig, S, Script, content

PIN = Placement("hbm")
DOWN = Placement("dram")


def demoted(rig: Rig, name: str, blocks: int) -> ChainView:
    """A session in its gap whose KV is in DRAM and no more in HBM, as a policy sees it."""
    path = content(blocks)
    rig.turn(name, path)
    rig.run(rig.kernel.now / S + blocks)
    rig.crowd()
    assert (rig.has(path), rig.has(path, "dram")) == (0, blocks)
    return rig.model.view(rig.model.chains[name, "main"])


def test_a_prefetch_reserves_its_place_and_is_asked_about_when_there() -> None:
    policy = Script(DOWN, PIN)
    policy.tick = lambda chains, server: [(chain, PIN) for chain in chains]  # type: ignore[attr-defined]
    rig = Rig(policy)
    view = demoted(rig, "a", 6)
    rig.model.tick()
    rig.run(11)
    rig.crowd()
    assert rig.pool.used == 6
    assert view.kept_tokens["hbm"] == 0
    rig.run(12)
    assert rig.pool.used == 6
    assert view.kept_tokens["hbm"] == 6 * BLOCK
    assert len(policy.asked) == 2
    rig.audit()


def test_a_prefetch_whose_session_went_elsewhere_lets_go_when_it_is_there() -> None:
    policy = Script(DOWN)
    policy.tick = lambda chains, server: [(chain, PIN) for chain in chains]  # type: ignore[attr-defined]
    rig = Rig(policy)
    demoted(rig, "a", 6)
    rig.model.tick()
    rig.run(8)
    rig.back("a", here=False)
    rig.audit()
    assert rig.pool.used == 6
    rig.run(12)
    assert rig.pool.used == 0
    rig.audit()


def test_a_prefetch_given_up_and_wanted_again_is_the_same_one() -> None:
    verdicts = [PIN, CACHE, PIN]
    policy = Script(DOWN, PIN)
    policy.tick = lambda chains, server: [(chains[0], verdicts.pop(0))]  # type: ignore[attr-defined]
    rig = Rig(policy)
    demoted(rig, "a", 6)
    for time in (6, 7, 8):
        rig.run(time)
        rig.model.tick()
    rig.run(20)
    assert [record.verb for record in rig.transfers] == ["demote", "promote"]
    assert rig.pool.used == 6
    rig.audit()


def test_a_prefetch_brings_up_what_its_budget_allows_and_then_more() -> None:
    """Of 6 blocks: 2 (of 5 tokens), then, asked about them, 1, then none; and without a budget the rest."""
    policy = Script(DOWN, *(Placement("hbm", budget_tokens=tokens) for tokens in (5, 4, 0)), PIN)
    policy.tick = lambda chains, server: [(chain, PIN) for chain in chains]  # type: ignore[attr-defined]
    rig = Rig(policy)
    demoted(rig, "a", 6)
    chain = rig.model.chains["a", "main"]
    rig.model._until(chain)
    assert (rig.model.arrivals.prefetching, rig.pool.in_flight) == (2, 2)
    rig.run(30)
    assert [(r.verb, r.bytes) for r in rig.transfers] == [("demote", 6), ("promote", 2), ("promote", 1)]
    assert (rig.has(chain.path), rig.pool.pinned, rig.model.arrivals.prefetching) == (3, 3, 0)
    rig.audit()
    rig.model.tick()
    assert rig.pool.in_flight == 3
    rig.audit()
    rig.run(60)
    assert (rig.has(chain.path), rig.pool.pinned, rig.pool.used) == (6, 6, 6)
    rig.audit()


def test_prefetches_of_all_sessions_share_the_budget_of_their_instance() -> None:
    policy = Script(*[DOWN] * 3, *[PIN] * 9)
    policy.tick = lambda chains, server: [(chain, PIN) for chain in chains]  # type: ignore[attr-defined]
    rig = Rig(policy, blocks=24, most_prefetching=5)
    for name in "abc":
        rig.turn(name, content(3))
    rig.run(10)
    rig.crowd()
    rig.model.tick()
    assert rig.model.arrivals.prefetching == rig.pool.in_flight == 5  # 3 of a and 2 of b
    rig.run(13)  # those of a are there
    rig.model.tick()
    assert rig.model.arrivals.prefetching == 5  # 2 of b and 3 of c
    rig.run(20)
    assert (rig.model.arrivals.prefetching, rig.pool.pinned) == (0, 9)
    rig.audit()


def test_a_turn_joins_the_prefetch_that_is_on_its_way() -> None:
    policy = Script(DOWN)
    policy.tick = lambda chains, server: [(chain, PIN) for chain in chains]  # type: ignore[attr-defined]
    rig, waited = Rig(policy), []
    demoted(rig, "a", 6)
    rig.model.tick()
    rig.run(8)
    rig.back("a")
    assert rig.model.arrivals.comes_up(("a", "main"))
    rig.model.arrivals.join(("a", "main"), waited.append)
    rig.run(20)
    assert waited == [4 * S]
    assert not rig.model.arrivals.comes_up(("a", "main"))
    assert rig.pool.used == 6  # pinned until the turn is admitted

"""The state machine of KV by hand: pins, copies, loads, spills, the valve. Links move a block a second."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest

from agentservesim.kv.advice import Advice
from agentservesim.kv.pool import Holding
from agentservesim.kv.residency import Chain, Residency
from agentservesim.model import InputError
from agentservesim.policies.protocols import CACHE, ChainView, PinBroken, Placement, ServerView
from tests.kv.rig import BLOCK, Rig, S, Script, behind, content

PIN = Placement("hbm")
DOWN = Placement("dram")


# ---- pins ---------------------------------------------------------------------------------------


def test_a_pin_keeps_its_blocks_until_the_next_turn_is_admitted() -> None:
    rig, path = Rig(Script(Placement("hbm", until_s=5.0), PIN)), content(8)
    rig.turn("a", path)
    rig.run(2)
    rig.back("a")
    rig.run(50)  # the deadline is past, but the session is back and waits
    assert not rig.model.pins.reclaim(1, running=False)
    rig.crowd()
    assert rig.has(path) == 8
    rig.admit("a", path)
    rig.crowd()
    assert rig.has(path) == 0
    rig.audit()


def test_a_pin_is_asked_about_when_its_time_is_up() -> None:
    policy = Script(Placement("hbm", until_s=5.0), CACHE)
    rig = Rig(policy)
    rig.turn("a", content(8))
    rig.run(4.9)
    assert (len(policy.asked), rig.pool.used) == (1, 8)
    rig.run(5)
    assert (len(policy.asked), rig.pool.used) == (2, 0)


def test_an_expired_pin_is_kept_until_blocks_are_short() -> None:
    rig, path = Rig(Script(Placement("hbm", until_s=5.0), Placement("hbm", until_s=1.0))), content(8)
    rig.turn("a", path)
    rig.run(100)
    assert rig.pool.used == 8
    assert rig.model.pins.reclaim(3, running=False)
    assert rig.pool.used == 0
    assert rig.model.pins.forced_unpins == 0  # its time was up


def test_a_session_that_goes_elsewhere_leaves_no_pin_and_no_timer() -> None:
    policy = Script(Placement("hbm", until_s=5.0))
    rig = Rig(policy)
    rig.turn("a", content(8))
    rig.back("a", here=False)
    assert rig.pool.used == 0
    rig.run(10)
    assert len(policy.asked) == 1
    assert not rig.model.chains


def test_a_prefix_shared_with_a_pinned_program_survives() -> None:
    rig, first = Rig(Script(PIN, Placement("drop"), PIN)), content(6)
    rig.turn("a", first)
    second = behind(first, 4, 8)
    rig.turn("b", second)  # dropped at once
    rig.crowd()
    assert rig.has(first) == 6
    assert rig.has(second) == 4
    rig.turn("c", behind(first, 4, 7))  # pinned, with the same prefix
    rig.back("a", here=False)
    rig.crowd()
    assert rig.has(first) == 4


def test_expired_pins_go_first_and_none_goes_in_vain() -> None:
    answers = [
        Placement("hbm", until_s=1.0),
        Placement("hbm", until_s=30.0),
        Placement("hbm", until_s=20.0),
        Placement("hbm", hard=True),
        Placement("hbm", until_s=1.0),
    ]
    rig, paths = Rig(Script(*answers)), [content(4) for _ in range(4)]
    for name, path in zip("abcd", paths, strict=True):
        rig.turn(name, path)
    rig.run(10)  # the pin of a is expired
    assert rig.pool.used == 16

    def reclaim(blocks: int, running: bool) -> str:
        rig.model.pins.reclaim(blocks, running)
        return "".join(c.session[0] for c in rig.model.chains.values() if c.pin is not None)

    assert reclaim(5, running=False) == "abcd"  # expired ones are not enough: kept
    assert reclaim(13, running=True) == "abcd"  # soft ones neither
    assert reclaim(4, running=False) == "bcd"
    assert reclaim(1, running=True) == "cd"  # the latest deadline
    assert rig.model.pins.forced_unpins == 1
    assert reclaim(1, running=True) == "d"
    assert reclaim(1, running=True) == "d"  # hard
    assert rig.model.pins.forced_unpins == 2
    rig.audit()


def test_only_expired_pins_that_hold_enough_may_free_it() -> None:
    rig = Rig(
        Script(Placement("hbm", until_s=1.0), Placement("hbm", until_s=30.0), Placement("hbm", until_s=1.0))
    )
    rig.turn("a", content(4))
    rig.turn("b", content(6))
    assert not rig.model.pins.may_free(1)
    rig.run(2)  # asked again, a's policy answers with a deadline that is over
    assert rig.model.pins.may_free(4)
    assert not rig.model.pins.may_free(5)
    rig.back("a")  # its turn is sent: the pin stays until it is admitted
    assert not rig.model.pins.may_free(1)


def test_a_pin_that_expires_while_its_session_is_held_back_is_noticed() -> None:
    rig = Rig(Script(Placement("hbm", until_s=5.0)))
    woken: list[int] = []
    rig.turn("a", content(4))
    rig.model._wake = lambda: woken.append(rig.kernel.now)
    rig.run(2)
    rig.model.gap_ends(("a", "main"))  # ready, and not sent yet
    rig.run(10)
    assert woken == [5 * S]
    assert rig.model.pins.may_free(4)


def test_what_two_pins_share_is_freed_by_both_together() -> None:
    rig, first = Rig(Script(PIN, PIN)), content(8)
    rig.turn("a", first)
    rig.turn("b", behind(first, 6, 8))
    assert not rig.model.pins.reclaim(11, running=True)
    assert rig.model.pins.forced_unpins == 0
    assert rig.model.pins.reclaim(10, running=True)
    assert (rig.pool.used, rig.model.pins.forced_unpins) == (0, 2)


def test_a_policy_hears_of_pins_that_give_way() -> None:
    heard: list[object] = []
    rig = Rig(Script(Placement("hbm", until_s=5.0), PIN, observe=heard.append))
    rig.turn("a", content(3))
    rig.turn("b", content(3))
    assert rig.model.pins.reclaim(1, running=True)
    assert heard == [PinBroken(0, "b", "main")]  # the latest deadline
    rig.run(6)
    rig.model.pins.open_valve()
    assert len(heard) == 1  # the other was given up when the policy was asked again


def test_the_valve_breaks_soft_pins_then_hard_ones_gaps_first() -> None:
    soft, hard = Placement("hbm", until_s=99.0), Placement("hbm", hard=True)
    later = Placement("hbm", until_s=100.0)
    rig = Rig(Script(hard, soft, later, soft))
    for name in "hsle":
        rig.turn(name, content(3))
    rig.back("e")
    broken = []
    while rig.model.pins.open_valve():
        left = {c.session[0] for c in rig.model.chains.values() if c.pin is not None}
        broken.append(({*"hsle"} - left - {*broken}).pop())
    assert broken == ["l", "s", "e", "h"]
    assert rig.model.pins.forced_unpins == 4


# ---- copies down --------------------------------------------------------------------------------


def test_a_copy_holds_source_and_destination_until_it_ends() -> None:
    rig, path = Rig(Script(DOWN)), content(8)
    rig.turn("a", path)
    dram = rig.model.tiers[0].pool
    for time in (0, 7.9):
        rig.run(time)
        rig.crowd()
        assert (rig.pool.used, dram.used) == (8, 8)
        assert (rig.has(path), rig.has(path, "dram")) == (8, 0)
        rig.audit()
    rig.run(8)
    assert (rig.pool.used, dram.used) == (0, 0)
    assert (rig.has(path), rig.has(path, "dram")) == (8, 8)
    (record,) = rig.transfers
    assert (record.verb, record.bytes, record.start_ps, record.end_ps) == ("demote", 8, 0, 8 * S)


@pytest.mark.parametrize(("copy", "kept"), [(False, (0, 4)), (True, (4, 0))])
def test_what_was_demoted_is_evicted_before_all_else_and_a_copy_is_not(
    copy: bool, kept: tuple[int, int]
) -> None:
    rig, moved, older = Rig(Script(CACHE, Placement("dram", copy=copy)), blocks=8), content(4), content(4)
    rig.turn("b", older)
    rig.turn("a", moved)
    rig.run(10)
    rig.turn("c", content(4))
    assert (rig.has(moved), rig.has(older)) == kept


def test_a_second_demotion_copies_only_what_is_new() -> None:
    rig, path = Rig(Script(DOWN, DOWN)), content(4)
    rig.turn("a", path)
    rig.run(10)
    rig.back("a")
    rig.turn("a", behind(path, 4, 7))
    rig.run(20)
    assert [record.bytes for record in rig.transfers] == [4, 3]


def test_asking_again_while_a_copy_is_under_way_copies_nothing_twice() -> None:
    policy = Script(DOWN)
    policy.tick = lambda chains, server: [(chain, DOWN) for chain in chains]  # type: ignore[attr-defined]
    rig = Rig(policy)
    rig.turn("a", content(8))
    for time in range(12):
        rig.run(time)
        rig.model.tick()
    assert [record.bytes for record in rig.transfers] == [8]
    rig.audit()


def test_a_session_back_before_its_copy_ends_finds_hbm_as_it_was() -> None:
    rig, path = Rig(Script(DOWN)), content(8)
    rig.turn("a", path)
    rig.run(3)
    rig.back("a", here=False)
    assert rig.has(path) == 8
    rig.run(10)
    assert rig.pool.used == 0
    assert rig.has(path, "dram") == 8
    rig.audit()


def test_tier_after_tier_gets_a_copy_and_hbm_lets_go_after_the_last() -> None:
    tiers = (("dram", 100), ("ssd", 100))
    rig, path = Rig(Script(Placement("dram", then=("ssd", "dram"))), tiers=tiers), content(8)
    rig.turn("a", path)
    rig.run(15.9)
    rig.crowd()
    assert (rig.has(path), rig.has(path, "dram"), rig.has(path, "ssd")) == (8, 8, 0)
    rig.audit()
    rig.run(16)
    assert rig.pool.used == 0
    assert rig.has(path, "ssd") == 8
    assert [(r.link, r.start_ps, r.end_ps) for r in rig.transfers] == [
        ("hbm-dram", 0, 8 * S),
        ("hbm-ssd", 8 * S, 16 * S),
    ]
    rig.audit()


@pytest.mark.parametrize("after", ["its session is back", "another answer"])
def test_copies_do_not_go_on_when_they_are_not_wanted_any_more(after: str) -> None:
    tiers = (("dram", 100), ("ssd", 100))
    policy = Script(Placement("dram", copy=True, then=("ssd",)))
    policy.tick = lambda chains, server: [(chain, CACHE) for chain in chains]  # type: ignore[attr-defined]
    rig, path = Rig(policy, tiers=tiers), content(8)
    rig.turn("a", path)
    rig.run(3)
    if after == "another answer":
        rig.model.tick()
    else:
        rig.back("a")
    rig.run(30)
    assert [record.link for record in rig.transfers] == ["hbm-dram"]
    assert rig.pool.used == 0
    rig.audit()


def test_a_tier_smaller_than_a_chain_gets_its_beginning_and_hbm_loses_nothing() -> None:
    rig, path, other = Rig(Script(DOWN), blocks=16, tiers=(("dram", 3),)), content(8), content(8)
    rig.turn("b", other)
    rig.turn("a", path)
    rig.run(20)
    assert rig.has(other, "dram") == 3
    assert (rig.has(other), rig.has(path)) == (8, 8)
    rig.turn("c", content(4))
    assert (rig.has(other), rig.has(path)) == (8, 4)  # by LRU, suffix first; the copy was a use


# ---- spill --------------------------------------------------------------------------------------


def test_what_hbm_evicts_is_found_below_when_the_transfer_has_ended() -> None:
    rig, path = Rig(Script(spill={"hbm": "dram"}), blocks=10), content(8)
    rig.turn("a", path)
    rig.turn("b", content(6))  # takes 2 blanks and 4 of a, at once
    assert rig.has(path) == 4
    rig.run(7.9)
    assert rig.has(path, "dram") == 0  # nothing there yet
    assert rig.model.tiers[0].pool.used == 8, "the whole run that loses its end"
    rig.run(8)
    assert rig.has(path, "dram") == 8
    (record,) = rig.transfers
    assert (record.verb, record.program_id, record.bytes) == ("spill", "", 8)
    rig.audit()


def test_the_rest_of_a_run_is_not_written_again() -> None:
    rig, path = Rig(Script(spill={"hbm": "dram"}), blocks=10), content(8)
    rig.turn("a", path)
    rig.turn("b", content(4))  # takes 2 blanks and 2 of a
    assert rig.pool.ready == 6, "the rest of a needs nobody's word"
    rig.run(10)
    rig.turn("c", content(6))
    rig.run(20)
    assert [(r.verb, r.bytes) for r in rig.transfers] == [("spill", 8)]
    assert rig.pool.ready == 0


def test_a_run_that_is_used_again_is_written_again_as_far_as_it_is_missing() -> None:
    rig, path = Rig(Script(spill={"hbm": "dram"}), blocks=10), content(6)
    rig.turn("a", path)
    rig.turn("b", content(6))  # takes 4 blanks and 2 of a
    rig.run(10)
    longer = behind(path, 4, 8)
    rig.turn("a", longer)  # hits 4, takes 4 of b
    assert rig.pool.ready == 2, "the rest of b"
    rig.turn("c", content(4))  # takes them and 2 of a's new end
    rig.run(30)
    assert [(r.verb, r.bytes) for r in rig.transfers] == [("spill", 6), ("spill", 6 + 4)]
    assert rig.has(longer, "dram") == 8
    rig.audit()


def test_evictions_of_one_moment_are_one_transfer_and_known_content_none() -> None:
    rig, path = Rig(Script(DOWN, spill={"hbm": "dram"}), blocks=10), content(5)
    rig.turn("a", path)
    rig.run(9)
    other = content(5)
    rig.turn("b", other)
    for _ in range(2):
        rig.turn("c", content(2))
    rig.turn("d", content(8))
    rig.run(30)
    assert [(r.verb, r.bytes) for r in rig.transfers] == [("demote", 5), ("spill", 7)]


def test_only_what_was_hit_often_enough_is_spilled() -> None:
    rig = Rig(Script(spill={"hbm": "dram"}, min_hits=2), blocks=10)
    often, once = content(3), content(3)
    rig.turn("a", often)
    rig.turn("b", once)
    for path in (often, often, once):
        rig.model.admitted(("x", "main"), path, 0, 12, 12)
    rig.model.admitted(("x", "main"), often, 0, 12, 2 * BLOCK)
    rig.crowd()
    rig.run(10)
    assert [(r.verb, r.bytes) for r in rig.transfers] == [("spill", 3)]
    assert (rig.has(often, "dram"), rig.has(once, "dram")) == (3, 0)


def test_spilling_goes_on_from_tier_to_tier_over_their_own_link() -> None:
    spill = {"hbm": "dram", "dram": "ssd"}
    rig = Rig(Script(spill=spill), blocks=6, tiers=(("dram", 6), ("ssd", 50)))
    first, second = content(6), content(6)
    rig.turn("a", first)
    rig.turn("b", second)  # a goes to DRAM
    rig.run(10)
    rig.turn("c", content(6))  # b goes to DRAM, and a from there to the SSD
    rig.run(30)
    assert (rig.has(first, "dram"), rig.has(second, "dram"), rig.has(first, "ssd")) == (0, 6, 6)
    assert [(r.link, r.bytes) for r in rig.transfers] == [
        ("hbm-dram", 6),
        ("hbm-dram", 6),
        ("dram-ssd", 6),
    ]
    rig.audit()


# ---- shared tiers -------------------------------------------------------------------------------


TWO = (("dram", 8), ("ssd", 50))
DOWN_TO_SSD = {"hbm": "dram", "dram": "ssd"}


def shared_dram(per: str = "tier", ssd: str = "instance", **attributes: object) -> Rig:
    """Two instances whose DRAM of 8 blocks is one and spills to SSDs."""
    script = Script(DOWN, DOWN, DOWN, DOWN, spill=DOWN_TO_SSD, **attributes)
    return Rig(script, tiers=TWO, instances=2, scope={"dram": "fleet", "ssd": ssd}, per=per)


def test_what_a_shared_tier_evicts_is_spilled_by_who_put_it_there() -> None:
    rig, paths = shared_dram(), [content(4), content(4)]
    for number, path in enumerate(paths):
        rig.turn(str(number), path, rig.models[number])
        rig.run(10 * number + 10)
    rig.turn("c", content(8), rig.models[1])  # DRAM loses both
    rig.run(50)
    ssds = [model.tiers[1].pool for model in rig.models]
    assert [[ssd.lookup(path, 4).blocks for path in paths] for ssd in ssds] == [[4, 0], [0, 4]]
    spilled = [(r.instance, r.link, r.bytes) for r in rig.transfers if r.verb == "spill"]
    assert spilled == [(0, "dram-ssd", 4), (1, "dram-ssd", 4)]
    rig.audit()


def test_spills_of_a_shared_tier_take_the_link_of_who_put_it_there() -> None:
    rig, paths = shared_dram(per="instance", ssd="fleet"), [content(4), content(4)]
    for number, path in enumerate(paths):
        rig.turn(str(number), path, rig.models[number])
        rig.run(10 * number + 10)
    rig.turn("c", content(8), rig.models[1])
    rig.run(50)
    spilled = [r for r in rig.transfers if r.verb == "spill"]
    assert [(r.instance, r.end_ps - r.asked_ps) for r in spilled] == [(0, 4 * S), (1, 4 * S)], "side by side"
    assert [model.tiers[1].links["dram"].bytes_moved for model in rig.models] == [[4, 0], [4, 0]]


def test_who_loads_from_a_shared_tier_spills_it_from_then_on() -> None:
    rig, path = shared_dram(), content(4)
    rig.turn("a", path)
    rig.run(10)
    other = rig.models[1]
    sources = other.copies.sources(path, other.pool.lookup(path, 4), 4)
    other.load(("b", "main"), Holding(path), sources, lambda _: None)
    rig.run(20)
    rig.turn("c", content(8))
    rig.run(50)
    assert [model.tiers[1].pool.lookup(path, 4).blocks for model in rig.models] == [0, 4]


def test_hits_count_where_they_were_for_what_a_shared_tier_evicts() -> None:
    rig, paths = shared_dram(min_hits=1), [content(4), content(4)]
    for number, path in enumerate(paths):
        rig.turn(str(number), path, rig.models[number])
        rig.run(10 * number + 10)
    rig.models[0].admitted(("0", "main"), paths[0], 0, 16, 16)
    rig.turn("c", content(8), rig.models[1])
    rig.run(50)
    assert [(r.instance, r.bytes) for r in rig.transfers if r.verb == "spill"] == [(0, 4)]


def test_a_shared_tier_gives_to_all_what_one_put_there() -> None:
    rig, path = Rig(Script(DOWN), instances=2, scope="fleet"), content(5)
    rig.turn("a", path)
    rig.run(5)
    other = rig.models[1]
    assert other.tiers[0].pool is rig.model.tiers[0].pool
    assert other.tiers[0].pool.lookup(path, 5).blocks == 5


def test_a_shared_tier_is_ranked_with_the_sessions_of_all() -> None:
    seen: list[set[tuple[int, str]]] = []

    def rank(tier: str, chains: list[ChainView], server: ServerView) -> list[ChainView]:
        if tier == "dram":
            seen.append({(chain.instance, chain.program_id) for chain in chains})
        return sorted(chains, key=lambda chain: chain.program_id)

    policy = Script(DOWN, DOWN, DOWN, rank=rank)
    rig = Rig(policy, instances=2, scope="fleet", tiers=(("dram", 8),))
    first, second = content(4), content(4)
    rig.turn("b", first)
    rig.turn("a", second, rig.models[1])
    rig.run(20)
    rig.turn("c", content(2))
    rig.run(30)
    assert seen == [{(0, "b"), (1, "a"), (0, "c")}]
    assert (rig.has(first, "dram"), rig.has(second, "dram")) == (4, 2)


def test_what_changes_nothing_in_hbm_ends_no_leap() -> None:
    later = [Placement("hbm", until_s) for until_s in (5.0, 9.0)]
    policy = Script(*later, Placement("cache", 12.0), CACHE)
    rig = Rig(policy)
    woken = []
    rig.turn("a", content(4))
    for until_s in (0, 5, 9, 12):
        rig.run(until_s)
        woken.append(rig.woken)
    assert woken == [1, 1, 2, 2]  # it is pinned, and given up at 9 s
    assert len(policy.asked) == 4


@pytest.mark.parametrize("gaps", [False, True])
def test_who_is_back_is_ranked_unless_the_policy_ranks_gaps(gaps: bool) -> None:
    seen: list[list[tuple[str, bool]]] = []

    def rank(tier: str, chains: list[ChainView], server: ServerView) -> list[ChainView]:
        seen.append([(chain.program_id, chain.in_gap) for chain in chains])
        return chains

    rig = Rig(Script(rank=rank, ranks_gaps=gaps), blocks=12)
    paths = [content(4) for _ in "abc"]
    for name, path in zip("abc", paths, strict=True):
        rig.turn(name, path)
    rig.back("b")
    rig.turn("a", paths[0])  # its gap began last, but it came first
    rig.run(1)
    rig.pool.take(8)
    everybody = [("a", True), ("b", False), ("c", True)]
    assert seen == [[one for one in everybody if one[1] or not gaps]]
    assert [rig.has(path) for path in paths] == ([0, 4, 0] if gaps else [0, 0, 4])


@pytest.mark.parametrize(("per", "arrives_s"), [("tier", [4, 8]), ("instance", [4, 4])])
def test_who_shares_a_tier_may_share_its_link_or_have_one_each(per: str, arrives_s: list[int]) -> None:
    rig = Rig(Script(DOWN, DOWN), instances=2, scope="fleet", per=per)
    first, second = content(4), content(4)
    rig.turn("a", first)
    rig.turn("b", second, rig.models[1])
    rig.run(20)
    assert [record.end_ps for record in rig.transfers] == [at * S for at in arrives_s]
    assert (rig.has(first, "dram"), rig.has(second, "dram")) == (4, 4)


# ---- what listeners hear, and bad answers -------------------------------------------------------


def test_states_add_up_and_are_told_at_every_change() -> None:
    rig = Rig(Script(PIN, DOWN), blocks=20, tiers=(("dram", 100),))
    rig.turn("a", content(6))
    rig.turn("b", content(4))
    latest = {change.tier: change for change in rig.changes}
    hbm, dram = latest[0], latest[1]
    assert (hbm.active_blocks, hbm.pinned_blocks, hbm.in_flight_blocks) == (0, 6, 4)
    assert (hbm.cached_blocks, hbm.free_blocks) == (0, 10)
    assert (dram.in_flight_blocks, dram.free_blocks) == (4, 96)
    rig.run(4)
    latest = {change.tier: change for change in rig.changes}
    assert (latest[0].cached_blocks, latest[1].cached_blocks) == (4, 4)
    assert latest[0].time_ps == 4 * S


class Failing(Script):
    def place(self, chain: ChainView, server: ServerView) -> Placement:
        raise KeyError("gap")


def start(policy: object) -> Residency:
    rig = Rig(policy)
    rig.turn("p7", content(2))
    rig.model.tick()
    return rig.model


def ticking(answer: object) -> Script:
    return Script(tick=lambda chains, server: answer)


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (Failing(), r"residency Failing: place\(\) of program 'p7' raised KeyError: 'gap'"),
        (Script("dram"), r"residency Script: place\(\) of program 'p7' returned 'dram'; it must be"),  # type: ignore[arg-type]
        (Script(Placement("tape")), r"must be a Placement on one of hbm, cache, drop, dram"),
        (Script(Placement("dram", then=("tape",))), r"`then` goes from a lower tier to others: dram"),
        (Script(Placement("hbm", then=("dram",))), r"`then` goes from a lower tier to others: dram"),
        (Script(Placement("dram", then=3)), r"`then` goes from a lower tier"),  # type: ignore[arg-type]
        (Script(Placement("hbm", float("nan"))), r"until_s nan; it must be a time in seconds"),
        (Script(Placement("hbm", "soon")), r"until_s 'soon'; it must be a time"),  # type: ignore[arg-type]
        (Script(Placement("hbm", float("inf"))), r"until_s inf"),
        (Script(Placement("hbm", hard="no")), r"hard and copy must be True or False"),  # type: ignore[arg-type]
        (Script(Placement("hbm", copy=5)), r"hard and copy must be True or False"),  # type: ignore[arg-type]
        (Script(Placement("hbm", budget_tokens=-1)), r"budget_tokens -1; it must be a whole number"),
        (Script(Placement("hbm", budget_tokens=0.5)), r"budget_tokens 0.5; it must"),  # type: ignore[arg-type]
        (ticking(None), r"residency Script: tick\(\) returned None; it must be \(chain, placement\) pairs"),
        (ticking([7]), r"tick\(\) named 7, which is no \(chain, placement\) pair"),
        (ticking([("p7", PIN)]), r"tick\(\) named \('p7', .*, which is no \(chain, placement\) pair"),
        (
            Script(spill={"hbm": "tape"}),
            r"spill from 'hbm' to 'tape': it must lead to a slower one of hbm, dram",
        ),
        (Script(needs=("ssd",)), r"residency Script needs tier 'ssd', which is no tier here; there are dram"),
        (Script(uses=("drm",)), r"residency Script uses tier 'drm', .*; did you mean 'dram'\?"),
        (Script(needs="dram"), r"residency Script: needs is 'dram'; it must be a tuple of names of tiers"),
        (Script(needs=5), r"residency Script: needs is 5; it must be a tuple of names of tiers"),
        (Script(uses=(5,)), r"residency Script: uses is \(5,\); it must be a tuple of names of tiers"),
        (Script(spill={"dram": "hbm"}), r"spill from 'dram' to 'hbm'"),
        (Script(spill="dram"), r"spill is 'dram'; it must map tiers to slower ones"),
        (Script(min_hits=-1), r"min_hits is -1; it must be a whole number"),
        (Script(tick_s=-1.0), r"tick_s is -1.0; it must be a time in seconds"),
    ],
)
def test_bad_answers_are_told_in_one_line(policy: object, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        start(policy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("budget", [4, np.int64(4)])
def test_any_integer_is_a_budget(budget: int) -> None:
    answer = Placement("hbm", budget_tokens=budget)
    advice = Advice(Script(answer, resume=lambda chain, hits, server: budget), ("dram",))
    chain = Rig(Script()).model.view(Chain(("p7", "p7"), 0))
    checked = advice.place(chain, cast(ServerView, None))
    assert checked == answer
    assert type(checked.budget_tokens) is type(advice.resume(chain, {}, cast(ServerView, None))) is int


def test_a_policy_that_wants_to_be_asked_again_at_once_for_ever_is_told() -> None:
    class Hasty:
        asked = 0

        def place(self, chain: ChainView, server: ServerView) -> Placement:
            self.asked += 1
            return Placement("hbm", self.asked * 1e-12)

    rig = Rig(policy := Hasty())
    rig.turn("p7", content(2))
    with pytest.raises(
        InputError, match=r"place\(\) of program 'p7' asked to be asked again within 0.0001 s"
    ):
        rig.kernel.run()
    assert policy.asked == 10_001


@pytest.mark.parametrize(("order", "says"), [(7, "returned 7; it must be chains"), (["p7"], "named 'p7'")])
def test_an_order_that_is_none_is_told_too(order: object, says: str) -> None:
    rig = Rig(Script(rank=lambda tier, chains, server: order), blocks=4)
    rig.turn("a", content(3))
    with pytest.raises(InputError, match=rf"residency Script: rank\(\) {says}"):
        rig.turn("b", content(3))


def test_a_policy_may_use_tiers_where_there_are_any_and_need_them_anywhere() -> None:
    Rig(Script(uses=("dram",)), tiers=())
    with pytest.raises(InputError, match="needs tier 'dram', which is no tier here; there are none"):
        Rig(Script(needs=("dram",)), tiers=())

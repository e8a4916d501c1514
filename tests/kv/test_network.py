"""KV between instances: who holds what while it is under way. A block takes a second."""

from __future__ import annotations

from agentservesim.kv.config import LinkConfig
from agentservesim.kv.links import IN, OUT, Network
from agentservesim.policies.protocols import Placement
from tests.kv.rig import Rig, S, Script, content

LINK = LinkConfig(between=("hbm", "network"), down_bytes_per_s=1, up_bytes_per_s=1)


def test_a_transfer_takes_both_interfaces() -> None:
    """3 bytes from 0 to 1; with them 2 from 0 to 2 wait for the way out, 2 from 2 to 1 for the way in."""
    rig = Rig(Script())
    network, ended = Network(LINK, 3, rig.kernel), []
    for size, source, goal in ((3, 0, 1), (2, 0, 2), (2, 2, 1)):
        network.send(
            size, source, goal, lambda transfer: ended.append((transfer.bytes, transfer.end_ps // S))
        )
    assert network.estimate_ps(1, 1, 0) == S  # the other way round both are idle
    assert network.estimate_ps(1, 0, 1) == 6 * S
    rig.run(10)
    # 0 sends 3 and 2 one after the other, 1 receives 3 and 2: each pair is through at 5 s
    assert ended == [(3, 3), (2, 5), (2, 5)]
    assert network.links[0].bytes_moved[OUT] == network.links[1].bytes_moved[IN] == 5


def test_the_source_is_held_to_the_end_and_the_destination_from_the_start() -> None:
    rig = Rig(Script(Placement("hbm"), Placement("hbm", 99.0)), instances=2)
    here, there = rig.models
    network, path = Network(LINK, 2, rig.kernel), content(4)
    rig.turn("a", path)
    there.take_over(("a", "main"), here, network)
    assert (here.pool.used, here.pool.pinned, here.pool.in_flight) == (4, 0, 4)
    assert (there.pool.used, there.pool.in_flight) == (4, 4)
    assert here.chains == {}
    assert there.pool.lookup(path, 4).blocks == 0  # it can be found when it has arrived
    rig.run(3.9)
    assert here.pool.used == 4
    rig.run(4)
    assert here.pool.used == here.pool.in_flight == 0
    # the gap goes on: the policy was asked again, and pins it here
    assert (there.pool.used, there.pool.pinned, there.pool.in_flight) == (4, 4, 0)
    assert there.pool.lookup(path, 4).blocks == 4
    (record,) = rig.transfers
    assert (record.instance, record.source, record.verb, record.bytes) == (1, 0, "move", 4)
    assert (record.link, record.start_ps, record.end_ps) == ("hbm-network", 0, 4 * S)
    rig.audit()
    here.pool.take(17)  # 16 blocks were never used: what was moved is the first to be evicted
    assert here.pool.lookup(path, 4).blocks == 3


def test_a_replica_is_left_to_lru_and_changes_nothing_else() -> None:
    rig = Rig(Script(Placement("hbm")), instances=2)
    here, there = rig.models
    path = content(3)
    rig.turn("a", path)
    there.replicate(("a", "main"), here, Network(LINK, 2, rig.kernel))
    rig.run(3)
    assert [model.pool.lookup(path, 3).blocks for model in rig.models] == [3, 3]
    assert (here.pool.pinned, there.pool.used) == (3, 0)
    assert list(here.chains) == [("a", "main")]
    assert there.chains == {}
    assert [(r.verb, r.source, r.instance) for r in rig.transfers] == [("replicate", 0, 1)]


def test_a_turn_waits_for_what_comes_and_no_longer() -> None:
    rig = Rig(Script(), instances=2)
    here, there = rig.models
    path = content(4)
    rig.turn("a", path)
    there.take_over(("a", "main"), here, Network(LINK, 2, rig.kernel))
    there.gap_ends(("a", "main"))
    there.returns(("a", "main"), True)
    waited: list[int] = []
    assert there.arrivals.coming(("a", "main"), 17, there.pool.lookup(path, 4)) == 4
    assert there.arrivals.coming(("a", "main"), 16, there.pool.lookup(path, 4)) == 3  # never the last token
    rig.run(1)
    there.arrivals.join(("a", "main"), waited.append)
    rig.run(9)
    assert waited == [3 * S]
    assert there.pool.pinned == 4  # until it is admitted
    there.admitted(("a", "main"), path, 0, 16, 16)
    assert there.pool.used == 0


def test_what_does_not_fit_stays_behind() -> None:
    rig = Rig(Script(), blocks=6, instances=2)
    here, there = rig.models
    path = content(5)
    rig.turn("a", path)
    there.pool.take(4)
    there.take_over(("a", "main"), here, Network(LINK, 2, rig.kernel))
    rig.run(9)
    assert there.pool.lookup(path, 5).blocks == 2
    assert [record.bytes for record in rig.transfers] == [2]


def test_without_a_network_the_session_goes_and_its_kv_stays() -> None:
    script = Script(Placement("hbm"))
    rig = Rig(script, instances=2)
    here, there = rig.models
    path = content(4)
    rig.turn("a", path)
    there.take_over(("a", "main"), here, None)
    assert (here.pool.used, here.pool.lookup(path, 4).blocks) == (0, 4)
    assert there.chains["a", "main"].in_gap
    assert [view.instance for view in script.asked] == [0, 1]

"""The books of a block pool, looked into."""

from __future__ import annotations

from collections.abc import Sequence

from agentservesim.kv.extents import counts, covers
from agentservesim.kv.pool import BlockPool, Holding


def audit_pool(pool: BlockPool, holdings: Sequence[Holding]) -> None:
    """Recount everything; AssertionError if the ledger does not balance.

    `holdings` are all live ones, caught up. It walks every extent.
    """
    covered = covers(holdings)
    for holding in holdings:
        hashed = sum(end - first for _, first, end in holding.ranges)
        assert hashed == holding.hashed - holding.start
        assert holding.hashed <= holding.blocks
    used = sum(h.blocks - h.hashed for h in holdings)
    queued = {id(x) for x in pool._queue}
    for segment, home in pool._segments.items():
        assert home.segment is segment
        assert home.lanes or home.writers
        for lane in home.lanes:
            assert lane.extents
            assert lane.home is home
            at = -1
            for extent in lane.extents:
                assert extent.lane is lane
                assert at <= extent.first < extent.end
                at = extent.end
                assert {refs for _, refs in counts(extent, covered.get(lane, []))} == {extent.refs}
                assert (extent.refs == 0) == (id(extent) in queued)
                used += (extent.end - extent.first) if extent.refs else 0
    assert used == pool.used
    queue_blocks = pool._blanks + sum(x.end - x.first for x in pool._queue)
    assert queue_blocks == pool.free
    assert pool.blank == pool._blanks + sum(x.end - x.first for x in pool._queue if x.lane is None)

"""The pool of extents: each rule by hand."""

from __future__ import annotations

import pytest

from agentservesim.kv.extents import freed_by
from agentservesim.kv.pool import BlockPool, Hit, Holding
from agentservesim.model import Path
from agentservesim.testing.audit import audit_pool
from tests.kv.evictions import Evictions, recorder
from tests.paths import cut, fork, longer, root

SIZE = 4


def watched(num_blocks: int, **options: bool) -> tuple[BlockPool, Evictions]:
    """A pool and the list of the blocks that it evicts, in order."""
    pool = BlockPool(num_blocks, SIZE, **options)
    evicted: Evictions = []
    pool.on_evict = recorder(evicted)
    return pool, evicted


def put(pool: BlockPool, path: Path, computed: int | None = None) -> Holding:
    """A request that hits what it can, then computes `computed` tokens (all of them) and hashes them."""
    holding = Holding(path)
    computed = path[-1][1] if computed is None else computed
    pool.acquire(holding, pool.lookup(path, computed // SIZE))
    grow(pool, holding, computed)
    return holding


def grow(pool: BlockPool, holding: Holding, computed: int) -> None:
    need = -(-computed // SIZE) - holding.blocks
    pool.take(need)
    holding.blocks += need
    pool.store(holding, computed // SIZE)


def hit_blocks(pool: BlockPool, path: Path) -> int:
    return pool.lookup(path, path[-1][1] // SIZE).blocks


# ---- the rules, one by one ------------------------------------------------------------------------


def test_one_block_is_the_null_block() -> None:
    pool = BlockPool(10, SIZE)
    assert (pool.free, pool.used, pool.cached) == (9, 0, 0)
    with pytest.raises(ValueError, match="at least 2 blocks"):
        BlockPool(1, SIZE)


def test_only_full_blocks_are_hashed_and_only_hashed_ones_are_hit() -> None:
    pool, _ = watched(10)
    path = root(11)
    holding = put(pool, path)
    assert (holding.blocks, holding.hashed, pool.used) == (3, 2, 3)
    hit = pool.lookup(path, 2)
    assert (hit.blocks, hit.free, hit.dead_end) == (2, 0, None)
    longer_one = longer(path, 20)
    short = pool.lookup(longer_one, 5)
    assert (short.blocks, short.dead_end) == (2, path[0][0])
    assert pool.lookup(path, 1).blocks == 1, "the caller's limit holds"
    assert pool.lookup(path, 0) == Hit((), 0, 0, None)


def test_a_block_belongs_to_the_segment_of_its_last_token() -> None:
    pool, _ = watched(20)
    trunk = root(16)
    put(pool, trunk)
    assert hit_blocks(pool, fork(trunk, 8, 16)) == 2, "left at a block border: both blocks before it"
    assert hit_blocks(pool, fork(trunk, 9, 16)) == 2, "left inside the third block: it is another block"
    assert hit_blocks(pool, fork(trunk, 7, 16)) == 1
    assert hit_blocks(pool, root(16)) == 0


def test_a_released_block_keeps_its_content_until_it_is_taken() -> None:
    pool, evicted = watched(5)
    path = root(8)
    pool.release(put(pool, path))
    assert (pool.free, pool.cached, pool.used) == (4, 2, 0)
    hit = pool.lookup(path, 2)
    assert (hit.blocks, hit.free) == (2, 2), "hits in the free queue cost free blocks"
    again = Holding(path)
    pool.acquire(again, hit)
    assert (pool.free, pool.used, again.blocks, again.hashed) == (2, 2, 2, 2)
    assert pool.lookup(path, 2).free == 0
    pool.release(again)
    assert evicted == []
    put(pool, root(16))
    assert evicted == [(path[0][0], 1), (path[0][0], 0)]
    assert hit_blocks(pool, path) == 0
    assert pool.evicted_blocks == 2


def test_blanks_are_taken_before_anything_is_evicted() -> None:
    pool, evicted = watched(6)
    pool.release(put(pool, root(8)))
    put(pool, root(12))
    assert (evicted, pool.free) == ([], 2)
    with pytest.raises(ValueError, match="cannot take 3 blocks: 2 are free"):
        pool.take(3)


def test_a_chain_loses_its_suffix_before_its_prefix() -> None:
    pool, evicted = watched(4)
    path = root(12)
    pool.release(put(pool, path))
    put(pool, root(4))
    assert evicted == [(path[0][0], 2)]
    assert hit_blocks(pool, path) == 2


def test_who_was_released_first_is_evicted_first() -> None:
    pool, evicted = watched(5)
    first, second = root(8), root(8)
    a, b = put(pool, first), put(pool, second)
    pool.release(b)
    pool.release(a)
    put(pool, root(16))
    assert evicted == [(second[0][0], 1), (second[0][0], 0), (first[0][0], 1), (first[0][0], 0)]


def test_a_block_that_was_hit_and_released_goes_to_the_back_again() -> None:
    pool, evicted = watched(5)
    first, second = root(8), root(8)
    pool.release(put(pool, first))
    pool.release(put(pool, second))
    pool.release(put(pool, cut(first, 4)))
    put(pool, root(16))
    assert evicted == [(first[0][0], 1), (second[0][0], 1), (second[0][0], 0), (first[0][0], 0)]


def test_shared_blocks_are_free_when_the_last_one_lets_go() -> None:
    pool, evicted = watched(7)
    trunk = root(8)
    a = put(pool, fork(trunk, 8, 12))
    b = put(pool, fork(trunk, 8, 12))
    assert pool.used == 4
    audit_pool(pool, [a, b])
    pool.release(a)
    assert pool.used == 3
    audit_pool(pool, [b])
    pool.release(b)
    put(pool, root(24))
    leaf_a, leaf_b, stem = a.path[1][0], b.path[1][0], trunk[0][0]
    assert evicted == [(leaf_a, 2), (leaf_b, 2), (stem, 1), (stem, 0)]


@pytest.mark.parametrize("blanks_first", [True, False])
def test_blanks_go_to_the_head_of_the_queue_or_to_its_tail(blanks_first: bool) -> None:
    pool, evicted = watched(5, blanks_first=blanks_first)
    old = root(8)
    pool.release(put(pool, old))
    pool.release(put(pool, root(7)))  # one hashed block, one blank
    put(pool, root(4))
    # The blank lies before everything, or behind what was released before it.
    assert evicted == ([] if blanks_first else [(old[0][0], 1)])


def test_a_blank_in_the_tail_is_behind_older_content_and_before_its_own_chain() -> None:
    pool, evicted = watched(5, blanks_first=False)
    old, young = root(8), root(7)
    pool.release(put(pool, old))
    pool.release(put(pool, young))
    grow(pool, Holding(root(8)), 8)
    assert evicted == [(old[0][0], 1), (old[0][0], 0)]
    grow(pool, Holding(root(4)), 4)
    assert len(evicted) == 2, "the blank was next"
    grow(pool, Holding(root(4)), 4)
    assert evicted[2:] == [(young[0][0], 0)]


def duplicates(pool: BlockPool, path: Path) -> tuple[Holding, Holding]:
    """Two requests that compute the same content at once."""
    older, younger = Holding(path), Holding(path)
    grow(pool, older, path[-1][1])
    grow(pool, younger, path[-1][1])
    return older, younger


def test_of_duplicates_the_one_hashed_first_is_hit() -> None:
    pool, _ = watched(9)
    older, younger = duplicates(pool, root(8))
    assert (pool.used, pool.contended) == (4, 0), "nobody is writing: any leap may go on"
    pool.release(younger)
    hit = pool.lookup(older.path, 2)
    assert (hit.blocks, hit.free) == (2, 0), "the younger copy would have cost two free blocks"
    audit_pool(pool, [older])


def test_of_duplicates_the_older_is_hit_even_when_only_the_younger_is_in_use() -> None:
    pool, evicted = watched(5)
    older, younger = duplicates(pool, root(8))
    pool.release(older)
    assert pool.lookup(younger.path, 2).free == 2
    other = put(pool, root(4))
    assert evicted == [(younger.path[0][0], 1)], "of the older copy"
    hit = pool.lookup(younger.path, 2)
    assert (hit.blocks, hit.free) == (2, 1), "first block of the older copy, second of the younger"
    both = Holding(younger.path)
    pool.acquire(both, hit)
    audit_pool(pool, [younger, other, both])
    assert pool.free == 0


def test_duplicates_that_interleave_are_hit_block_by_block_in_the_order_of_hashing() -> None:
    pool, _ = watched(9)
    path = root(12)
    a, b = Holding(path), Holding(path)
    grow(pool, a, 4)
    grow(pool, b, 8)
    grow(pool, a, 12)
    grow(pool, b, 12)
    hit = pool.lookup(path, 3)
    assert [(lane is a.ranges[0][0], first, end) for lane, first, end in hit.ranges] == [
        (True, 0, 1),  # a was first here,
        (False, 1, 2),  # b here,
        (True, 2, 3),  # and a again
    ]


def test_the_younger_copy_is_hit_when_the_older_is_gone() -> None:
    pool, evicted = watched(5)
    older, younger = duplicates(pool, root(8))
    pool.release(older)
    pool.release(younger)
    grow(pool, Holding(root(8)), 8)
    assert (len(evicted), hit_blocks(pool, younger.path)) == (2, 2)
    grow(pool, Holding(root(8)), 8)
    assert (len(evicted), hit_blocks(pool, younger.path)) == (4, 0)


def test_without_caching_nothing_is_hashed_hit_or_evicted() -> None:
    pool, evicted = watched(4, caching=False)
    path = root(12)
    pool.release(put(pool, path))
    assert (pool.free, pool.cached, hit_blocks(pool, path)) == (3, 0, 0)
    holding = put(pool, path)
    assert (holding.blocks, holding.hashed, evicted, pool.free) == (3, 0, [], 0)
    audit_pool(pool, [holding])


def test_on_hash_tells_what_became_visible() -> None:
    pool, _ = watched(9)
    told: list[tuple[int, int]] = []
    pool.on_hash = lambda holding, first, end: told.append((first, end))
    path = fork(root(8), 6, 14)
    holding = Holding(path)
    grow(pool, holding, 3)
    grow(pool, holding, 9)
    grow(pool, holding, 9)
    grow(pool, holding, 14)
    assert told == [(0, 2), (2, 3)]


def test_a_writer_catches_up_before_its_segment_is_looked_at() -> None:
    pool, _ = watched(9)
    path = longer(root(4), 16)
    writer = put(pool, path, 4)
    asked: list[int] = []

    def catch_up() -> None:
        asked.append(1)
        writer.blocks = 3
        pool.store(writer, 3)

    pool.begin_writing(writer, 4, catch_up)
    assert pool.is_being_written(path[0][0])
    assert not pool.is_being_written(None)
    pool.take(2)  # what the rows of an engine do behind the holding's back
    assert hit_blocks(pool, root(16)) == 0
    assert asked == [], "nobody looked at this segment"
    assert hit_blocks(pool, path) == 3
    assert asked == [1]
    pool.end_writing(writer)
    assert not pool.is_being_written(path[0][0])
    assert hit_blocks(pool, path) == 3
    assert asked == [1]
    audit_pool(pool, [writer])


def test_two_writers_of_one_segment_contend_and_a_release_ends_writing() -> None:
    pool, _ = watched(9)
    path = root(16)
    a, b = put(pool, path, 4), put(pool, path, 4)
    pool.begin_writing(a, 4, lambda: None)
    assert pool.contended == 0
    pool.begin_writing(b, 4, lambda: None)
    assert pool.contended == 1
    pool.release(a)
    assert pool.contended == 0
    assert pool.is_being_written(path[0][0])
    pool.release(b)
    assert not pool.is_being_written(path[0][0])
    audit_pool(pool, [])


def test_the_audit_notices_a_ledger_that_does_not_balance() -> None:
    pool, _ = watched(9)
    holding = put(pool, root(10))
    audit_pool(pool, [holding])
    with pytest.raises(AssertionError):
        audit_pool(pool, [])
    pool.free -= 1
    with pytest.raises(AssertionError):
        audit_pool(pool, [holding])


def test_work_per_turn_does_not_depend_on_the_length_of_the_context() -> None:
    """A context of 100,000 blocks is one extent for as long as nobody cuts it."""
    pool = BlockPool(1_000_000, SIZE)
    path = root(400_000)
    holding = put(pool, path)
    pool.release(holding)
    pool.release(put(pool, longer(path, 400_400)))
    pool.release(put(pool, fork(path, 200_000, 400_000)))
    lanes = [lane for home in pool._segments.values() for lane in home.lanes]
    assert sum(len(lane.extents) for lane in lanes) <= 4


def test_what_is_referenced_alike_again_is_one_extent_again() -> None:
    pool = BlockPool(1000, SIZE)
    path = root(400)
    longest = put(pool, path)
    lane = longest.ranges[0][0]
    for length in (40, 360, 200):
        shorter = put(pool, cut(path, length))
        assert [(x.first, x.end, x.refs) for x in lane.extents] == [
            (0, length // SIZE, 2),
            (length // SIZE, 100, 1),
        ]
        pool.release(shorter)
        assert [(x.first, x.end, x.refs) for x in lane.extents] == [(0, 100, 1)]
    audit_pool(pool, [longest])


def test_what_is_free_already_is_freed_by_nobody() -> None:
    """Twenty blocks of one run are cached, and a holding has the first ten of them."""
    pool, _ = watched(100)
    path = root(20 * SIZE)
    pool.release(put(pool, path))
    assert freed_by([put(pool, cut(path, 10 * SIZE))]) == 10

"""What a pool held a while ago."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from agentservesim.kv.past import Past
from agentservesim.kv.pool import BlockPool, Holding
from agentservesim.model import Path
from tests.paths import fork, longer, root

BLOCK = 4


def test_what_came_and_what_went_since_is_undone() -> None:
    pool = BlockPool(5, BLOCK)
    past = Past(pool)
    first, second = root(16), root(12)

    def write(path: Path, blocks: int) -> None:
        holding = Holding(path)
        pool.take(blocks)
        holding.blocks = blocks
        pool.store(holding, blocks)
        pool.release(holding)

    write(first, 3)
    before = past.mark()
    write(second, 2)  # takes the blank block and evicts the last of the first
    assert [pool.lookup(path, 4).blocks for path in (first, second)] == [2, 2]
    assert [past.blocks(path, 4, before) for path in (first, second)] == [3, 0]
    now = past.mark()
    past.forget(now)
    assert [past.blocks(path, 4, now) for path in (first, second)] == [2, 2]


@given(st.integers(0, 10_000))
def test_it_equals_what_was_looked_up_then(seed: int) -> None:
    """Random turns on a small pool, copies of the same content among them; all earlier moments are kept."""
    random = Random(seed)
    pool = BlockPool(random.choice([8, 20, 40]), BLOCK)
    past = Past(pool)
    paths = [root(24)]
    for _ in range(5):
        path = random.choice(paths)
        paths.append(
            fork(path, random.randint(1, path[-1][1] - 1), path[-1][1] + 8)
            if random.random() < 0.7
            else root(24)
        )
    paths = [longer(path, 32) for path in paths]
    running: list[Holding] = []
    seen: list[tuple[int, list[int]]] = []
    for _ in range(40):
        if running and (random.random() < 0.4 or len(running) == 4):
            pool.release(running.pop(random.randrange(len(running))))
        else:
            holding = Holding(random.choice(paths))
            blocks = random.randint(1, 8)
            hit = pool.lookup(holding.path, blocks)
            if random.random() < 0.3:
                hit = pool.lookup(holding.path, 0)  # computed by somebody else at the same time
            if blocks - hit.blocks + hit.free <= pool.free:
                pool.acquire(holding, hit)
                pool.take(blocks - hit.blocks)
                holding.blocks = blocks
                pool.store(holding, blocks)
                running.append(holding)
        seen.append((past.mark(), [pool.lookup(path, 8).blocks for path in paths]))
        if random.random() < 0.1:
            del seen[: random.randrange(len(seen))]
            past.forget(seen[0][0])
        mark, hits = random.choice(seen)
        assert [past.blocks(path, 8, mark) for path in paths] == hits

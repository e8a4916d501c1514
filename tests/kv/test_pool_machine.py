"""Any sequence of operations on the pool of extents and on a block-by-block pool gives the same."""

from __future__ import annotations

import inspect
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agentservesim.kv.pool import BlockPool, Hit, Holding
from agentservesim.model import Path, Segment
from agentservesim.testing.audit import audit_pool
from tests.kv.evictions import Evictions, recorder
from tests.kv.reference import Content, Owner, ReferencePool
from tests.paths import fork, longer, root, tokens_of


def block_of(content: Content, size: int) -> tuple[Segment, int]:
    """What the pool of extents calls the block that holds this content."""
    token = content[-1]
    assert isinstance(token, tuple)
    return token[0], len(content) // size - 1


class Both:
    """A request in both pools: `computed` tokens of it are computed."""

    def __init__(self, pool: BlockPool, path: Path, hit: Hit) -> None:
        self.pool = pool
        self.path = path
        self.holding = Holding(path)
        self.owner = Owner(tokens_of(path))
        self.computed = hit.blocks * pool.block_size
        self.writing = False

    @property
    def left(self) -> int:
        return self.path[-1][1] - self.computed

    def need(self, tokens: int) -> int:
        return -(-(self.computed + tokens) // self.pool.block_size) - len(self.owner.blocks)

    def catch_up(self) -> None:
        """The holding behind the pool's back: what its engine computed since."""
        size = self.pool.block_size
        self.holding.blocks = -(-self.computed // size)
        self.pool.store(self.holding, self.computed // size)


WHICH = st.integers(0, 9)
PART = st.integers(0, 3)


class PoolMachine(RuleBasedStateMachine):
    """Every operation on both pools. What can be seen of them must be equal after each."""

    @initialize(
        num_blocks=st.integers(3, 24),
        size=st.integers(1, 4),
        caching=st.sampled_from([True, True, True, False]),
        blanks_first=st.booleans(),
    )
    def build(self, num_blocks: int, size: int, caching: bool, blanks_first: bool) -> None:
        self.pool = BlockPool(num_blocks, size, caching=caching, blanks_first=blanks_first)
        self.reference = ReferencePool(num_blocks, size, caching, blanks_first)
        self.size = size
        self.evicted: Evictions = []
        self.pool.on_evict = recorder(self.evicted)
        self.paths: list[Path] = [root(5 * size)]
        self.live: list[Both] = []

    # ---- contents ---------------------------------------------------------------------------------

    def _path(self, which: int) -> Path:
        return self.paths[which % len(self.paths)]

    def _remember(self, path: Path) -> None:
        self.paths = [*self.paths[-5:], path]

    @rule(blocks=st.integers(0, 6), rest=PART)
    def new_content(self, blocks: int, rest: int) -> None:
        self._remember(root(blocks * self.size + rest % self.size + 1))

    @rule(which=WHICH, at=st.integers(1, 30), more=st.integers(1, 15))
    def fork_content(self, which: int, at: int, more: int) -> None:
        path = self._path(which)
        at = min(at, path[-1][1])
        self._remember(fork(path, at, at + more))

    @rule(which=WHICH, more=st.integers(1, 15))
    def continue_content(self, which: int, more: int) -> None:
        path = self._path(which)
        self._remember(longer(path, path[-1][1] + more))

    # ---- operations -------------------------------------------------------------------------------

    def _look(self, path: Path, limit: int) -> Hit:
        hit = self.pool.lookup(path, limit)
        found = self.reference.lookup(tokens_of(path), min(limit, path[-1][1] // self.size))
        assert hit.blocks == len(found)
        assert hit.free == sum(block.refs == 0 for block in found)
        assert sum(end - first for _, first, end in hit.ranges) == hit.blocks
        if self.pool.caching and limit > 0:
            short = hit.blocks < min(limit, path[-1][1] // self.size)
            last_token = (hit.blocks + 1) * self.size - 1
            assert hit.dead_end is (tokens_of(path)[last_token][0] if short else None)
        return hit

    @rule(which=WHICH, limit=st.integers(0, 12))
    def look_up(self, which: int, limit: int) -> None:
        self._look(self._path(which), limit)

    @rule(which=WHICH, share=st.integers(1, 8), blind=st.booleans())
    def begin(self, which: int, share: int, blind: bool) -> None:
        """A request begins with what it hits of a share of its tokens, or blindly: a duplicate."""
        path = self._path(which)
        length = path[-1][1]
        hit = self._look(path, 0 if blind else (-(-length * share // 8) - 1) // self.size)
        both = Both(self.pool, path, hit)
        self.pool.acquire(both.holding, hit)
        self.reference.acquire(both.owner, self.reference.lookup(tokens_of(path), hit.blocks))
        self.live.append(both)
        self._compute(both, length, lag=0)

    @rule(which=WHICH, tokens=st.integers(1, 20), lag=st.integers(0, 1))
    def compute(self, which: int, tokens: int, lag: int) -> None:
        """A chunk of a prefill; with `lag` its last token is not yet known."""
        waiting = [both for both in self.live if not both.writing and both.left]
        if waiting:
            self._compute(waiting[which % len(waiting)], tokens, lag)

    def _compute(self, both: Both, tokens: int, lag: int) -> None:
        tokens = min(tokens, both.left)
        need = both.need(tokens)
        if need > self.reference.free:
            with pytest.raises(ValueError, match="are free"):
                self.pool.take(need)
            return
        both.computed += tokens
        self.pool.take(need)
        both.holding.blocks += need
        self.pool.store(both.holding, (both.computed - lag) // self.size)
        self.reference.take(both.owner, need)
        self.reference.store(both.owner, (both.computed - lag) // self.size)

    @rule(which=WHICH)
    def decode_from_now_on(self, which: int) -> None:
        """A request whose blocks are hashed lazily from now on; the reference stays eager."""
        waiting = [both for both in self.live if not both.writing and both.left]
        if waiting:
            both = waiting[which % len(waiting)]
            self.pool.store(both.holding, both.computed // self.size)
            self.reference.store(both.owner, both.computed // self.size)
            self.pool.begin_writing(both.holding, both.computed, both.catch_up)
            both.writing = True

    @rule(steps=st.integers(1, 12))
    def decode(self, steps: int) -> None:
        """All who decode take a token a step: at once where the pool allows it, else in order."""
        for _ in range(steps):
            rows = [both for both in self.live if both.writing and both.left]
            need = sum(both.need(1) for both in rows)
            if need > self.reference.free:
                return
            at_once = not self.pool.contended
            if at_once:
                self.pool.take(need)
            for both in rows:
                blocks = both.need(1)
                both.computed += 1
                if not at_once:
                    self.pool.take(blocks)
                    both.catch_up()
                self.reference.take(both.owner, blocks)
                self.reference.store(both.owner, both.computed // self.size)

    @precondition(lambda self: self.live)
    @rule(which=WHICH)
    def release(self, which: int) -> None:
        both = self.live.pop(which % len(self.live))
        if both.writing:
            both.catch_up()
        self.pool.release(both.holding)
        self.reference.release(both.owner)

    @rule()
    def settle(self) -> None:
        """Nobody decodes for now."""
        for both in self.live:
            if both.writing:
                both.catch_up()
                self.pool.end_writing(both.holding)
                both.writing = False

    # ---- what must hold ---------------------------------------------------------------------------

    @invariant()
    def the_same_can_be_seen(self) -> None:
        assert self.pool.free == self.reference.free
        assert self.evicted == [block_of(content, self.size) for content in self.reference.evicted]
        assert self.pool.evicted_blocks == len(self.evicted)
        homes = self.pool._segments.values()
        assert self.pool.contended == sum(len(h.writers) > 1 for h in homes)

    @invariant()
    def the_ledger_balances(self) -> None:
        if not any(both.writing for both in self.live):
            audit_pool(self.pool, [both.holding for both in self.live])
            assert [b.holding.blocks for b in self.live] == [len(b.owner.blocks) for b in self.live]
            assert [b.holding.hashed for b in self.live] == [b.owner.hashed for b in self.live]
            queue = self.reference.queue
            assert self.pool.cached == sum(block.content is not None for block in queue)

    def teardown(self) -> None:
        self.settle()
        for both in self.live:
            self.pool.release(both.holding)
            self.reference.release(both.owner)
        audit_pool(self.pool, [])
        assert self.pool.free == self.pool.num_blocks - 1
        # Whoever takes everything evicts all that is cached, in the order of the reference.
        last = Owner([])
        self.pool.take(self.pool.free)
        self.reference.take(last, self.reference.free)
        self.the_same_can_be_seen()
        assert not self.pool._segments


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)

WEIGHTS = {
    "begin": 6,
    "compute": 5,
    "release": 5,
    "decode": 4,
    "decode_from_now_on": 3,
    "fork_content": 2,
    "continue_content": 2,
    "look_up": 2,
    "new_content": 1,
    "settle": 1,
}


def walk(seed: int, operations: int) -> PoolMachine:
    """A random walk over the machine's rules: longer, and fuller of evictions, than hypothesis' own."""
    random = Random(seed)
    machine = PoolMachine()
    machine.build(random.randint(3, 24), random.randint(1, 4), random.random() < 0.9, random.random() < 0.5)
    names = random.choices(list(WEIGHTS), list(WEIGHTS.values()), k=operations)
    for name in names:
        operation = getattr(machine, name)
        arguments = {
            "which": random.randrange(10),
            "at": random.randint(1, 30),
            "more": random.randint(1, 15),
            "blocks": random.randint(0, 6),
            "rest": random.randrange(4),
            "limit": random.randint(0, 12),
            "share": random.randint(1, 8),
            "blind": random.random() < 0.3,
            "tokens": random.randint(1, 20),
            "lag": random.randint(0, 1),
            "steps": random.randint(1, 12),
        }
        if name == "release" and not machine.live:
            continue
        operation(**{key: arguments[key] for key in inspect.signature(operation).parameters})
        machine.the_same_can_be_seen()
        machine.the_ledger_balances()
    machine.teardown()
    return machine


@pytest.mark.parametrize("part", range(4))
def test_random_walks(part: int) -> None:
    machines = [walk(part * 1000 + i, 80) for i in range(75)]
    assert sum(len(machine.evicted) for machine in machines) > 1000

"""One instance's memory without an engine: turns come and go by hand, a script says where KV is to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from math import inf
from typing import cast

from agentservesim.kernel import Kernel
from agentservesim.kv.config import LinkConfig, MemoryConfig, TierConfig
from agentservesim.kv.ledger import Snapshot, records
from agentservesim.kv.pool import BlockPool, Holding
from agentservesim.kv.residency import Chain, Residency, ResidencyRecord, TransferRecord
from agentservesim.kv.tiers import KvShape, build_tiers
from agentservesim.model import PS_PER_S, Path
from agentservesim.policies.protocols import CACHE, ChainView, Placement, ServerView
from agentservesim.testing.audit import audit_pool
from tests.paths import fork, root

BLOCK = 4
S = PS_PER_S


class Script:
    """Answers in the order given, then "cache"; remembers what it was asked."""

    def __init__(self, *answers: Placement, **attributes: object) -> None:
        self.answers = list(answers)
        self.asked: list[ChainView] = []
        for name, value in attributes.items():
            setattr(self, name, value)

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        self.asked.append(chain)
        return self.answers.pop(0) if self.answers else CACHE


class Rig:
    """HBM of `blocks` blocks; every tier has so many blocks and a link of one block a second.

    `scope` is that of all tiers, or of each by name.
    """

    def __init__(
        self,
        policy: object,
        blocks: int = 20,
        tiers: Sequence[tuple[str, int]] = (("dram", 100),),
        instances: int = 1,
        scope: str | Mapping[str, str] = "instance",
        per: str = "tier",
        most_prefetching: float = inf,
    ) -> None:
        self.kernel = Kernel()
        names = [name for name, _ in tiers]
        pairs = [("hbm", name) for name in names] + list(pairwise(names))
        scopes = dict.fromkeys(names, scope) if isinstance(scope, str) else scope
        memory = MemoryConfig(
            tiers=tuple(TierConfig(name=n, capacity_bytes=b, scope=scopes[n]) for n, b in tiers),
            links=tuple(LinkConfig(between=p, down_bytes_per_s=1, up_bytes_per_s=1, per=per) for p in pairs),
        )
        shape = KvShape(BLOCK, 1)
        self.transfers: list[TransferRecord] = []
        self.changes: list[ResidencyRecord] = []
        self.models: list[Residency] = []
        self.woken = 0
        for index, own in enumerate(build_tiers(memory, [shape] * instances, self.kernel)):
            model = Residency(
                index,
                self.kernel,
                BlockPool(blocks + 1, BLOCK),
                own,
                shape,
                policy,
                self._wake,
                _nothing,
                _nothing,
                most_prefetching=most_prefetching,
            )
            model.server = cast(ServerView, None)  # nobody here looks at it
            model.copies.on_transfer = self.transfers.append
            model.ledger.on_change = partial(self._changed, model.ledger.sizes)
            self.models.append(model)
        self.model = self.models[0]
        self.pool = self.model.pool

    def _wake(self) -> None:
        self.woken += 1

    def _changed(self, sizes: list[int], snapshot: Snapshot) -> None:
        self.changes += records(snapshot, sizes)

    def turn(self, name: str, path: Path, model: Residency | None = None) -> Chain:
        """A turn of session `name` with this content ran and ended; its gap begins now."""
        model = model or self.model
        blocks = path[-1][1] // BLOCK
        holding = Holding(path)
        model.pool.acquire(holding, model.pool.lookup(path, blocks))
        model.pool.take(blocks - holding.blocks)
        holding.blocks = blocks
        model.pool.store(holding, blocks)
        model.pool.release(holding)
        chain = model.chains.get((name, "main")) or Chain((name, "main"), 0)
        model.roll.add(chain)
        chain.path, chain.blocks, chain.turns_done = path, blocks, chain.turns_done + 1
        model.gap_starts(chain)
        return chain

    def back(self, name: str, here: bool = True) -> None:
        """The session's next turn is ready."""
        self.model.gap_ends((name, "main"))
        self.model.returns((name, "main"), here)

    def admit(self, name: str, path: Path) -> None:
        """The session's next turn is admitted; it found all of `path`."""
        self.model.admitted((name, "main"), path, 0, path[-1][1], path[-1][1])

    def run(self, until_s: float) -> None:
        self.kernel.run(round(until_s * S))

    def has(self, path: Path, tier: str = "hbm") -> int:
        """Blocks of a path that a tier can be hit for."""
        pools = {"hbm": self.pool, **{t.name: t.pool for t in self.model.tiers}}
        return pools[tier].lookup(path, path[-1][1] // BLOCK).blocks

    def crowd(self) -> None:
        """Another turn takes every block that nothing holds, and gives it back without content."""
        holding = Holding(root(BLOCK))
        holding.blocks = self.pool.free
        self.pool.take(self.pool.free)
        self.pool.release(holding)

    def audit(self) -> None:
        for model in self.models:
            audit_pool(model.pool, model.holdings(model.pool))
        pools = {tier.pool for model in self.models for tier in model.tiers}
        for pool in pools:
            audit_pool(pool, [holding for model in self.models for holding in model.holdings(pool)])


def _nothing() -> None:
    """No engine to wake."""


def content(blocks: int) -> Path:
    """Content of so many blocks that shares nothing."""
    return root(blocks * BLOCK)


def behind(path: Path, at: int, blocks: int) -> Path:
    """Content that shares the first `at` blocks of a path."""
    return fork(path, at * BLOCK, blocks * BLOCK)

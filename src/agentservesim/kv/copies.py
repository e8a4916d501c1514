"""KV under way between the tiers of one instance: what is being copied, and who holds it meanwhile.

A copy holds its source and, from the start, its destination: neither can be recycled before it ends,
whoever else lets go of them; the destination can be found, and the source evicted, when it has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from agentservesim.kernel import Kernel
from agentservesim.kv.links import Link, Network, Transfer
from agentservesim.kv.pool import BlockPool, Hit, Holding
from agentservesim.kv.sessions import Chain, Session, TransferRecord
from agentservesim.kv.tiers import KvShape, Tier
from agentservesim.model import Path

Plan = list[tuple[Tier, int, int]]
"""Where blocks can be had: (tier, first, end), in order, without a hole."""


class Sources(NamedTuple):
    """Where blocks can be had, and what was found of each part of the plan."""

    plan: Plan
    hits: list[Hit]

    @property
    def blocks(self) -> int:
        """How many blocks those are."""
        return self.plan[-1][2] - self.plan[0][1] if self.plan else 0

    def until(self, path: Path, end: int) -> Sources:
        """The same without what lies behind a block."""
        if not self.plan or self.plan[-1][2] <= end:
            return self
        plan = [(tier, first, min(stop, end)) for tier, first, stop in self.plan if first < end]
        hits = self.hits[: len(plan)]
        if plan:
            tier, first, stop = plan[-1]
            hits[-1] = tier.pool.lookup(path, stop, first)
        return Sources(plan, hits)


NOWHERE = Sources([], [])


@dataclass(slots=True, eq=False)
class Descent:
    """What HBM has of a chain, held as `source`, on its way down to `goal` in `tier`."""

    chain: Chain
    source: Holding
    keep: bool
    tier: Tier = field(init=False)
    goal: Holding = field(init=False)


@dataclass(slots=True, eq=False)
class Load:
    """Blocks on their way up into a holding; `blocks` of it are there when the last copy has ended.

    `left` copies have not ended; `coming` blocks of HBM are taken for them.
    """

    holding: Holding
    blocks: int
    asked_ps: int
    done: Callable[[int], None] | None
    left: int
    sources: list[Holding] = field(default_factory=list)
    coming: int = 0


class Copies:
    """Starts copies and ends them.

    When one ends, `wake` is called before something is put into HBM, `freed` before something is given
    back, `changed` after. `on_transfer(record)` is told of every copy that ended, `on_use[pool](holding)` of
    blocks that one wrote there or read. `tiers` are those below HBM by name, fastest first.
    """

    def __init__(
        self,
        index: int,
        kernel: Kernel,
        pool: BlockPool,
        tiers: Sequence[Tier],
        shape: KvShape,
        wake: Callable[[], None],
        freed: Callable[[], None],
        changed: Callable[[], None],
    ) -> None:
        self.on_transfer: Callable[[TransferRecord], None] | None = None
        self.on_use: dict[BlockPool, Callable[[Holding], None]] = {}
        self.shape = shape
        self.loads = 0
        self.index = index
        self._kernel = kernel
        self._pool = pool
        self.tiers = {tier.name: tier for tier in tiers}
        self._wake = wake
        self._freed = freed
        self._changed = changed
        self._held: dict[Holding, tuple[BlockPool, int]] = {}

    def holdings(self, pool: BlockPool) -> list[Holding]:
        """What copies hold of a pool, sources and destinations."""
        return [holding for holding, (where, _) in self._held.items() if where is pool]

    @property
    def in_hbm(self) -> bool:
        """Whether a copy's end will free blocks of HBM, or bring what somebody waits for."""
        return self.loads > 0 or any(where is self._pool for where, _ in self._held.values())

    # ---- down ---------------------------------------------------------------------------------

    def down(self, chain: Chain, tier: Tier, have: Hit, below: Hit, keep: bool) -> None:
        """Copy to a tier what it lacks of a hit in HBM, as far as there is room; `below` is what it has.

        Then on to the tiers of `chain.then`, one after the other, while the chain stays what it is. HBM
        then frees what the last of them has, unless it is to `keep` it for LRU or that one has not all of it.
        """
        source = self.hold(self._pool, chain.path, have)
        self._copy(Descent(chain, source, keep), tier, below)

    def _copy(self, descent: Descent, tier: Tier, below: Hit) -> None:
        missing = min(descent.source.blocks - below.blocks, tier.pool.free - below.free)
        descent.tier = tier
        descent.goal = goal = self.hold(tier.pool, descent.source.path, below, missing)
        if missing > 0:
            descent.chain.going_down[tier.name] = goal
            tier.link.send(missing * self.shape.block_bytes, False, partial(self._arrived, descent))
        else:
            self.let_go(goal)
            self._go_on(descent, below.blocks)

    def _arrived(self, descent: Descent, transfer: Transfer) -> None:
        chain, tier, there = descent.chain, descent.tier, descent.goal.blocks
        self.land(descent.goal)
        self.note(chain.session, tier.link, "demote", transfer)
        if chain.going_down.get(tier.name) is descent.goal:
            del chain.going_down[tier.name]
        self._go_on(descent, there)
        self._changed()

    def _go_on(self, descent: Descent, there: int) -> None:
        """Copy to the next tier, or let go of what HBM has; its last tier has `there` blocks of it."""
        chain, source = descent.chain, descent.source
        if chain.then and chain.path is source.path:
            tier, chain.then = self.tiers[chain.then[0]], chain.then[1:]
            self._copy(descent, tier, tier.pool.lookup(source.path, source.blocks))
        else:
            self._freed()
            self.let_go(source, evict_first=not descent.keep and there >= source.blocks)

    # ---- up -----------------------------------------------------------------------------------

    def sources(self, path: Path, have: Hit, end: int) -> Sources:
        """Where the blocks behind what HBM has, up to `end`, can be had below."""
        first, lacks = have.blocks, have.dead_end
        plan: Plan = []
        hits: list[Hit] = []
        for tier in self.tiers.values():
            if lacks is not None and tier.pool.may_have(lacks, first):
                hit = tier.pool.lookup(path, end, first)
                lacks = hit.dead_end
                if hit.blocks > first:
                    plan.append((tier, first, hit.blocks))
                    hits.append(hit)
                    first = hit.blocks
        return Sources(plan, hits) if plan else NOWHERE

    def load_ps(self, plan: Plan) -> int:
        """How long a load would take from now, if nothing else joined the links."""
        sizes = [(tier.link, (stop - first) * self.shape.block_bytes) for tier, first, stop in plan]
        return max(link.backlog_ps(True) + link.alone_ps(size, True) for link, size in sizes)

    def up(
        self, session: Session, holding: Holding, sources: Sources, done: Callable[[int], None] | None
    ) -> None:
        """Bring up blocks behind what the holding has; `done(picoseconds it took)` at the end.

        Without `done` the blocks count as there from the start: the caller's step waits for them, and
        they are held until then, should their request be preempted or end before.
        """
        first, end = holding.blocks, sources.plan[-1][2]
        load = Load(holding, end, self._kernel.now, done, len(sources.plan))
        for (tier, start, stop), hit in zip(sources.plan, sources.hits, strict=True):
            source = Holding(holding.path, start, start, start)
            tier.pool.acquire(source, hit)
            self._held[source] = tier.pool, 0
            load.sources.append(source)
            size = (stop - start) * self.shape.block_bytes
            tier.link.send(size, True, partial(self._came, session, load, tier.link))
        self._pool.take(end - first)
        holding.blocks = end
        if done is None:
            self._pool.store(holding, end)
            reserved = Holding(holding.path, first, first, first)
            self._pool.share(holding, reserved)
            self._held[reserved] = self._pool, 0
            load.holding = reserved
        else:
            self.loads += 1
            load.coming = end - first
            self._pool.in_flight += load.coming
        self._changed()

    def _came(self, session: Session, load: Load, link: Link, transfer: Transfer) -> None:
        """A part of a load has come up."""
        self.note(session, link, "promote", transfer)
        load.left -= 1
        if load.left:
            return
        for source in load.sources:
            self.let_go(source)
        if load.done is None:
            self._freed()
            self.let_go(load.holding)
        else:
            self._wake()
            self.loads -= 1
            self._pool.in_flight -= load.coming
            self._pool.store(load.holding, load.blocks)
            load.done(self._kernel.now - load.asked_ps)
        self._changed()

    def across(
        self,
        session: Session,
        holding: Holding,
        end: int,
        source: Copies,
        have: Hit,
        network: Network,
        keep: bool,
        done: Callable[[int], None],
    ) -> None:
        """Bring blocks up to `end` behind what the holding has from another instance's HBM, which has
        `have`; `done(picoseconds it took)` at the end. The source then frees what it has, unless it is to
        `keep` it for LRU."""
        missing = end - holding.blocks
        held = source.hold(source._pool, holding.path, have)
        self._pool.take(missing)
        holding.blocks = end
        self.loads += 1
        self._pool.in_flight += missing
        source._changed()

        def arrived(transfer: Transfer) -> None:
            source._freed()
            source.let_go(held, evict_first=not keep)
            source._changed()
            self.note(
                session, network.links[self.index], "replicate" if keep else "move", transfer, source.index
            )
            self._wake()
            self.loads -= 1
            self._pool.in_flight -= missing
            self._pool.store(holding, end)
            done(self._kernel.now - transfer.asked_ps)
            self._changed()

        network.send(missing * self.shape.block_bytes, source.index, self.index, arrived)
        self._changed()

    # ---- the ledger ---------------------------------------------------------------------------

    def hold(self, pool: BlockPool, path: Path, hit: Hit, more: int = 0, start: int = 0) -> Holding:
        """Reference a hit, and take `more` blocks behind it that will be written."""
        holding, before = Holding(path, start, start, start), pool.free
        pool.acquire(holding, hit)
        if more > 0:
            pool.take(more)
            holding.blocks += more
        claimed = before - pool.free
        pool.in_flight += claimed
        self._held[holding] = pool, claimed
        return holding

    def land(self, holding: Holding) -> None:
        """A destination has been written: its content can be found, and nothing holds it any more."""
        pool, _ = self._held[holding]
        pool.store(holding, holding.blocks)
        self.let_go(holding)

    def let_go(self, holding: Holding, evict_first: bool = False) -> None:
        """Give back what a copy held."""
        pool, claimed = self._held.pop(holding)
        if pool in self.on_use:
            self.on_use[pool](holding)
        pool.in_flight -= claimed
        pool.release(holding, evict_first)

    def note(
        self, session: Session, link: Link, verb: str, transfer: Transfer, source: int | None = None
    ) -> None:
        """Tell who listens of a copy that ended; `source` is the instance it came from, if another one."""
        if self.on_transfer is not None:
            self.on_transfer(
                TransferRecord(
                    self.index,
                    *session,
                    link.name,
                    verb,
                    transfer.bytes,
                    transfer.asked_ps,
                    transfer.start_ps,
                    transfer.end_ps,
                    self.index if source is None else source,
                )
            )

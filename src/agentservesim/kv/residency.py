"""The KV Residency Model of one instance: where every session's KV is, and what moving it takes.

A policy says where (see `policies.protocols.Residency`); the mechanics are here:

* A pin keeps KV in HBM (see `kv.pins`). A session that comes back keeps its pin until its turn is admitted.
* A copy holds its source and, from the start, its destination (see `kv.copies`).
* What comes up ahead of its turn, or from another instance, has its place from the start (`kv.arrivals`).
* What is evicted may be written to a slower tier (`kv.spill`), or chosen by the policy (`kv.ranking`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Any

from agentservesim.kernel import Kernel
from agentservesim.kv.advice import MOST_SOON, SOON_S, Advice
from agentservesim.kv.arrivals import Arrivals
from agentservesim.kv.breakeven import BreakEven
from agentservesim.kv.config import HBM
from agentservesim.kv.copies import Copies, Sources
from agentservesim.kv.ledger import Ledger
from agentservesim.kv.links import Network
from agentservesim.kv.pins import Pins
from agentservesim.kv.pool import BlockPool, Hit, Holding
from agentservesim.kv.ranking import Ranking
from agentservesim.kv.roll import Roll
from agentservesim.kv.sessions import FOREVER, Chain, Kept, ResidencyRecord, Session, TransferRecord, Views
from agentservesim.kv.spill import Hits, Spill
from agentservesim.kv.ticks import Ticks
from agentservesim.kv.tiers import KvShape, Tier
from agentservesim.model import Path, to_ps, to_s
from agentservesim.policies.protocols import (
    ChainView,
    Event,
    GapEnded,
    PinBroken,
    Placement,
    ProgramEnded,
    ServerView,
    TurnAdmitted,
)

__all__ = ["Chain", "Residency", "ResidencyRecord", "Session", "TransferRecord"]

NOTHING: Mapping[str, Hit] = {}


class Residency:
    """Pins, copies and drops the KV of one instance's sessions as its policy says.

    `server` is what the policy sees of the instance, `break_even` says how much to load if the policy does
    not. At most `most_prefetching` blocks are on their way up ahead of turns at once.
    `wake` cuts a leap short: it is called before the HBM pool is touched from outside a step; `freed`
    before blocks are given back to it, and `catch_up` only brings it up to date.
    """

    def __init__(
        self,
        index: int,
        kernel: Kernel,
        pool: BlockPool,
        tiers: tuple[Tier, ...],
        shape: KvShape,
        policy: Any,
        wake: Callable[[], None],
        catch_up: Callable[[], None],
        freed: Callable[[], None],
        layerwise: bool = False,
        most_prefetching: float = inf,
    ) -> None:
        self.index = index
        self.tiers = tiers
        self.layerwise = layerwise
        self.server: ServerView
        self.break_even: BreakEven
        self._advice = Advice(policy, [tier.name for tier in tiers])
        self.roll = Roll(self.view, self._advice.ranks)
        self.chains = self.roll.chains
        self.pool = pool
        self._pools = {HBM: pool} | {tier.name: tier.pool for tier in tiers}
        self.ledger = Ledger(index, kernel, list(self._pools.values()), catch_up)
        self._changed = changed = self.ledger.changed
        self.pins = Pins(kernel, pool, shape.block_bytes, freed, changed)
        self.copies = Copies(index, kernel, pool, tiers, shape, wake, freed, changed)
        self.arrivals = Arrivals(
            kernel, pool, self.chains, self.pins, self.copies, most_prefetching, self._until
        )
        self._kernel = kernel
        self._shape = shape
        self._wake = wake
        self._catch_up = catch_up
        self._hits = Hits(self._advice.min_hits)
        self._in_gap = Views(lambda: self.roll.views(gaps=True))
        self._ticks = Ticks(index, kernel, self._advice, self.tick)
        self.pins.on_break.append(self._broken)
        for tier in tiers:
            tier.sharers.append(self)
        self._rankings = self._rank() if self._advice.ranks else []
        for above, below in self._advice.spill.items():
            Spill(
                above, self._pools[above], self.copies.tiers[below], self.copies, self._hits, kernel, changed
            )

    def _rank(self) -> list[Ranking]:
        """Hook the policy into the evictions of all tiers; one that is shared has one hook."""
        self.pool.on_shortage = own = Ranking(HBM, self.pool, self._advice, [self], self._kernel)
        rankings = [own]
        for tier in self.tiers:
            hook = tier.pool.on_shortage
            if not isinstance(hook, Ranking):
                hook = tier.pool.on_shortage = Ranking(
                    tier.name, tier.pool, self._advice, tier.sharers, self._kernel
                )
            rankings.append(hook)
        return rankings

    # ---- gaps ---------------------------------------------------------------------------------

    def gap_starts(self, chain: Chain, next_use_ps: int | None = None) -> None:
        """A turn of the session ended and another will follow; the chain says what it left behind.

        `next_use_ps` is when the next turn will be ready, if that is certain; only oracles learn it.
        """
        oracle = self._advice.oracle
        if oracle is not None:
            oracle.next_use_s.pop(chain.session, None)
            if next_use_ps is not None:
                oracle.next_use_s[chain.session] = to_s(next_use_ps)
        self.roll.gap_starts(chain)
        chain.gap_started_ps = self._kernel.now
        before, chain.pin = chain.pin, None
        self._place(chain)
        if before is not None:
            self.pins.release(before)
        self._changed()

    def gap_ends(self, session: Session) -> None:
        """The session's next turn is ready. Its pin goes on until its deadline."""
        chain = self.chains.get(session)
        if chain is None or not chain.in_gap:
            return
        gap_s = to_s(self._kernel.now - chain.gap_started_ps)
        if self._advice.observes:
            self._advice.observe(GapEnded(self.view(chain), gap_s))
            self._ticks.heard()
        chain.past_gaps_s.append(gap_s)
        self.roll.gap_ends(chain)
        chain.then = ()

    def returns(self, session: Session, here: bool) -> None:
        """The session's next turn is on its way. A pin stays until it is admitted, if it is admitted here."""
        chain = self.chains.get(session)
        if chain is None:
            return
        if not here:
            self.forget(session)
            self._changed()
            return
        self._supersede(chain)
        if chain.pin is not None:
            self.pins.keep(chain.pin, FOREVER, chain.pin.hard)

    def admitted(self, session: Session, path: Path, wait_ps: int, tokens: int, hit_tokens: int) -> None:
        """A turn of the session holds its own blocks now: its pin has done its work."""
        chain = self.chains.get(session)
        if chain is not None and chain.pin is not None and not chain.in_gap:
            self.pins.unpin(chain)
        if self._advice.min_hits:
            self._hits.add(path, hit_tokens // self._shape.block_size, self._shape.block_size)
        self._observe(TurnAdmitted(*session, to_s(wait_ps), tokens, hit_tokens))
        self._changed()

    def ends(self, session: Session, path: Path, blocks: int) -> None:
        """The session's last turn is done; what it left is ranked before all that goes on."""
        for ranking in self._rankings:
            ranking.ends(path, blocks)
        self.forget(session)
        self._changed()

    def forget(self, session: Session) -> None:
        """The session is over, or goes on elsewhere: LRU gets what it left."""
        chain = self.roll.remove(session)
        if chain is not None:
            self._supersede(chain)
            self.pins.unpin(chain)

    def program_ends(self, program_id: str, turns: int) -> None:
        """Tell the policy that a program is done."""
        self._observe(ProgramEnded(program_id, turns))

    def _broken(self, chain: Chain) -> None:
        """A pin gave way."""
        self._observe(PinBroken(self.index, *chain.session))
        self._ticks.heard()

    def _observe(self, event: Event) -> None:
        """Tell the policy what happened."""
        if self._advice.observes:
            self._advice.observe(event)

    # ---- placing ------------------------------------------------------------------------------

    def _place(self, chain: Chain) -> None:
        self._catch_up()
        chain.hits = {}
        self._apply(chain, self._advice.place(self.view(chain), self.server))
        chain.hits = None
        self._ticks.heard()

    def _apply(self, chain: Chain, placement: Placement) -> None:
        self._supersede(chain)
        until_ps = FOREVER
        if placement.until_s is not None:
            until_ps = to_ps(placement.until_s)
            if until_ps > self._kernel.now:
                chain.soon = chain.soon + 1 if until_ps - self._kernel.now < to_ps(SOON_S) else 0
                if chain.soon > MOST_SOON:
                    raise self._advice.hasty(self.view(chain))
                chain.timer = self._kernel.at(until_ps, self._until, chain)
        if placement.tier == HBM:
            self._pin(chain, until_ps, placement)
            return
        if placement.tier == "cache" and chain.pin is None:
            return
        self._wake()
        if placement.tier in self.copies.tiers:
            chain.then = placement.then
            self._copy_down(chain, self.copies.tiers[placement.tier], keep=placement.copy)
        self.pins.unpin(chain)
        if placement.tier == "drop":
            self._drop(chain)

    def _until(self, chain: Chain) -> None:
        """A placement's time is up: the policy says what comes next, unless the session is back meanwhile."""
        self._supersede(chain)
        if chain.in_gap:
            self._place(chain)
            self._changed()
        else:
            self._wake()

    def tick(self) -> None:
        """Let a policy that wants it look at all sessions in their gaps.

        What it says of others, and of sessions that left since, has no effect.
        """
        for view, placement in self._advice.tick(self._in_gap, self.server):
            chain = self.chains.get((view.program_id, view.session_id))
            if chain is not None and chain.in_gap:
                self._apply(chain, placement)
                self._changed()

    # ---- the verbs ----------------------------------------------------------------------------

    def _pin(self, chain: Chain, until_ps: int, placement: Placement) -> None:
        """Pin what HBM has of the chain; bring up the rest first if a tier has it."""
        if chain.pin is None and chain.coming_up is not None:
            chain.pin = chain.coming_up
        pin = chain.pin
        if pin is not None:
            self.pins.keep(pin, until_ps, placement.hard)
            if pin.loading or pin.holding.blocks >= chain.blocks:
                if until_ps <= self._kernel.now:
                    self._wake()
                return
        self._wake()
        hit = self.pool.lookup(chain.path, chain.blocks)
        if until_ps > self._kernel.now and self.arrivals.promote(chain, hit, placement.budget_tokens):
            return
        if pin is None and hit.blocks:
            chain.pin = self.pins.hold(chain, hit, until_ps, placement.hard)

    def _drop(self, chain: Chain) -> None:
        """Let the chain's unreferenced blocks be evicted before all others."""
        holding = Holding(chain.path)
        self.pool.acquire(holding, self.pool.lookup(chain.path, chain.blocks))
        self.pool.release(holding, evict_first=True)

    def _copy_down(self, chain: Chain, tier: Tier, keep: bool) -> None:
        """Copy to a tier what it lacks, unless that is on its way."""
        under_way = chain.going_down.get(tier.name)
        if under_way is not None and under_way.path is chain.path:
            return
        known = chain.hits or NOTHING
        have = known.get(HBM) or self.pool.lookup(chain.path, chain.blocks)
        below = known.get(tier.name) if have.blocks == chain.blocks else None
        self.copies.down(chain, tier, have, below or tier.pool.lookup(chain.path, have.blocks), keep)

    # ---- between instances --------------------------------------------------------------------

    def take_over(self, session: Session, source: Residency, network: Network | None) -> None:
        """A session goes on here; its KV comes from the other instance if there is a network."""
        before = source.chains.get(session)
        if before is None:
            return
        self.forget(session)
        chain = before.elsewhere()
        self.roll.add(chain)
        source.forget(session)
        comes = network is not None and self.bring(chain, source, network, keep=False)
        if chain.in_gap and not comes:
            self._place(chain)

    def replicate(self, session: Session, source: Residency, network: Network) -> None:
        """Have a copy of a session's KV sent here, for LRU to keep; the session stays where it is."""
        before = source.chains.get(session)
        if before is not None and session not in self.chains:
            copy = before.elsewhere()
            self.bring(copy, source, network, keep=True)
            copy.pin = None

    def bring(self, chain: Chain, source: Residency, network: Network, keep: bool) -> bool:
        """Have what another instance's HBM has of a chain sent here, as far as there is room.

        Turns of its session wait for what is on its way. False if there is nothing to send.
        """
        self.roll.follow(chain)
        self._wake()
        source._wake()
        there = source.pool.lookup(chain.path, chain.blocks)
        return self.arrivals.bring(chain, source.copies, there, network, keep)

    # ---- loading ------------------------------------------------------------------------------

    def loadable(self, session: Session, path: Path, known: int, hit: Hit) -> Sources:
        """What a turn which is about to be admitted should load, behind a hit, rather than compute."""
        limit = (known - 1) // self._shape.block_size
        sources = self.copies.sources(path, hit, limit)
        plan = sources.plan
        if not plan:
            return sources
        end = plan[-1][2]
        chain = self.chains.get(session)
        if self._advice.resumes and chain is not None:
            size = self._shape.block_size
            hits = {HBM: hit.blocks * size, **{tier.name: stop * size for tier, _, stop in plan}}
            tokens = self._advice.resume(self.view(chain), hits, self.server)
            return sources.until(path, min(end, hit.blocks + tokens // size))
        return sources.until(path, self.break_even.end(plan, known))

    def load(
        self, session: Session, holding: Holding, sources: Sources, done: Callable[[int], None] | None
    ) -> int:
        """Bring up what was found behind what the holding has; `done(picoseconds it took)` at the end.

        Without `done` the blocks count as there from the start: the caller's step waits for them. Returns
        how long it has to if nothing else joins the links.
        """
        takes_ps = self.copies.load_ps(sources.plan) if done is None else 0
        self.copies.up(session, holding, sources, done)
        return takes_ps

    # ---- views and checks ---------------------------------------------------------------------

    def view(self, chain: Chain) -> ChainView:
        """What the policy sees of a session's KV."""
        if chain.seen is None:
            pin = chain.pin
            until_s = None if pin is None else inf if pin.until_ps == FOREVER else to_s(pin.until_ps)
            chain.seen = ChainView(
                *chain.session,
                self.index,
                to_s(chain.arrival_ps),
                chain.turns_done,
                chain.blocks * self._shape.block_size,
                Kept(chain, self._pools, self._catch_up),
                until_s,
                chain.tools,
                to_s(chain.gap_started_ps),
                tuple(chain.past_gaps_s),
                chain.hints,
                chain.in_gap,
            )
        return chain.seen

    def holdings(self, pool: BlockPool) -> list[Holding]:
        """Everything that this model holds of a pool: pins and copies."""
        pins = self.pins.holdings if pool is self.pool else []
        return pins + self.copies.holdings(pool)

    def _supersede(self, chain: Chain) -> None:
        """What the last placement wanted later, to be asked again or to copy on, is wanted no more."""
        chain.then = ()
        if chain.timer is not None:
            self._kernel.cancel(chain.timer)
            chain.timer = None

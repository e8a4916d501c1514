"""The KV Residency Model of one instance: where every session's KV is, and what moving it takes.

A policy says where (see `policies.protocols.Residency`); the mechanics are here:

* A pin is a holding on the HBM pool, like a request's: what it covers cannot be evicted.
* A copy holds its source and, from the start, its destination; the destination can be found, and the
  source evicted, only when the copy has ended.
* A session that comes back keeps its pin until its turn is admitted.
* When blocks are short, expired pins go first (earliest deadline first), then, if a running request
  is short, soft ones, latest deadline first. If nothing runs and nothing is on its way, the valve
  breaks pins in the same order until the head of the queue fits, hard ones last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agentservesim.kernel import Event as Timer
from agentservesim.kernel import Kernel
from agentservesim.kv.config import HBM
from agentservesim.kv.links import Transfer
from agentservesim.kv.pool import BlockPool, Hit, Holding
from agentservesim.kv.tiers import KvShape, Tier
from agentservesim.model import InputError, Path, to_ps, to_s
from agentservesim.policies.protocols import (
    ChainView,
    GapEnded,
    OraclePolicy,
    Placement,
    ProgramEnded,
    ServerView,
    TurnAdmitted,
)

FOREVER = 1 << 62

Session = tuple[str, str]
"""Program id and session id."""


@dataclass(slots=True, eq=False)
class Pin:
    """Blocks that a policy keeps in HBM until a deadline."""

    holding: Holding
    until_ps: int
    hard: bool
    since_ps: int
    loading: bool = False


@dataclass(slots=True, eq=False)
class Chain:
    """The KV of one session on this instance, as of its last turn."""

    session: Session
    arrival_ps: int
    path: Path = ()
    blocks: int = 0
    turns_done: int = 0
    tools: tuple[str, ...] = ()
    hints: Mapping[str, object] = field(default_factory=dict)
    gap_started_ps: int = -1
    past_gaps_s: list[float] = field(default_factory=list)
    in_gap: bool = False
    pin: Pin | None = None
    timer: Timer | None = None


@dataclass(slots=True, eq=False)
class Load:
    """KV of a waiting request that is on its way up."""

    holding: Holding
    sources: list[tuple[Tier, Holding]]
    blocks: int
    left: int
    asked_ps: int
    done: Callable[[int], None] | None


@dataclass(slots=True)
class TransferRecord:
    """A copy between HBM and a tier."""

    instance: int
    program_id: str
    session_id: str
    link: str
    verb: str
    bytes: int
    asked_ps: int
    start_ps: int
    end_ps: int


class Residency:
    """Pins, copies and drops the KV of one instance's sessions as its policy says.

    `server` is what the policy sees of the instance. `wake` cuts a leap short: it is called before
    the HBM pool is touched from outside a step. `on_transfer(record)` is told of every copy.
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
        layerwise: bool = False,
    ) -> None:
        self.index = index
        self.tiers = tiers
        self.layerwise = layerwise
        self.forced_unpins = 0
        self.held_in_gap_byte_ps = 0
        self.server: ServerView
        self.on_transfer: Callable[[TransferRecord], None] | None = None
        self.chains: dict[Session, Chain] = {}
        self._kernel = kernel
        self._pool = pool
        self._shape = shape
        self._policy = policy
        self._wake = wake
        self._by_name = {tier.name: tier for tier in tiers}
        self._copies: list[tuple[BlockPool, Holding]] = []
        self._orphans: list[Pin] = []
        self._observe = getattr(policy, "observe", None)
        self._resume = getattr(policy, "resume", None)
        self._ended: dict[str, deque[tuple[Path, int]]] | None = None
        if getattr(policy, "rank", None) is not None:
            self._ended = {name: deque() for name in (HBM, *self._by_name)}
            pool.on_shortage = lambda count: self._rank(HBM, pool, count)
            for tier in tiers:
                tier.pool.on_shortage = self._ranker(tier)

    # ---- gaps ---------------------------------------------------------------------------------

    def gap_starts(self, chain: Chain, next_use_ps: int | None = None) -> None:
        """A turn of the session ended and another will follow; the chain says what it left behind.

        `next_use_ps` is when the next turn will be ready, if that is certain; only oracles learn it.
        """
        if isinstance(self._policy, OraclePolicy):
            self._policy.next_use_s.pop(chain.session, None)
            if next_use_ps is not None:
                self._policy.next_use_s[chain.session] = to_s(next_use_ps)
        chain.in_gap = True
        chain.gap_started_ps = self._kernel.now
        self._place(chain)

    def gap_ends(self, session: Session, returns_here: bool) -> None:
        """The session's next turn is ready. A pin stays until it is admitted, if it is admitted here."""
        chain = self.chains.get(session)
        if chain is None or not chain.in_gap:
            return
        gap_s = to_s(self._kernel.now - chain.gap_started_ps)
        if self._observe is not None:
            self._call("observe", chain, GapEnded(self.view(chain), gap_s))
        chain.past_gaps_s.append(gap_s)
        chain.in_gap = False
        self._cancel_timer(chain)
        if not returns_here:
            self.forget(session)
        elif chain.pin is not None:
            chain.pin.until_ps = FOREVER

    def admitted(self, session: Session, wait_ps: int, tokens: int, hit_tokens: int) -> None:
        """A turn of the session holds its own blocks now: its pin has done its work."""
        chain = self.chains.get(session)
        if chain is not None:
            self._unpin(chain)
        if self._observe is not None:
            event = TurnAdmitted(*session, to_s(wait_ps), tokens, hit_tokens)
            self._call("observe", chain, event)

    def ends(self, session: Session, path: Path, blocks: int) -> None:
        """The session's last turn is done; what it left is ranked before all that goes on."""
        if self._ended is not None:
            for ended in self._ended.values():
                ended.append((path, blocks))
        self.forget(session)

    def forget(self, session: Session) -> None:
        """The session is over, or goes on elsewhere: LRU gets what it left."""
        chain = self.chains.pop(session, None)
        if chain is not None:
            self._cancel_timer(chain)
            self._unpin(chain)

    def program_ends(self, program_id: str, turns: int) -> None:
        """Tell the policy that a program is done."""
        if self._observe is not None:
            self._call("observe", None, ProgramEnded(program_id, turns))

    # ---- placing ------------------------------------------------------------------------------

    def _place(self, chain: Chain) -> None:
        self._apply(chain, self._call("place", chain, self.view(chain), self.server))

    def _apply(self, chain: Chain, placement: Placement) -> None:
        self._check(chain, placement)
        self._wake()
        self._cancel_timer(chain)
        until_ps = FOREVER
        if placement.until_s is not None:
            until_ps = max(to_ps(placement.until_s), self._kernel.now)
            if placement.tier == HBM or until_ps > self._kernel.now:
                chain.timer = self._kernel.at(until_ps, self._until, chain)
        if placement.tier == HBM:
            self._pin(chain, until_ps, placement.hard)
            return
        if placement.tier in self._by_name:
            self._copy_down(chain, self._by_name[placement.tier], keep=placement.copy)
        self._unpin(chain)
        if placement.tier == "drop":
            self._drop(chain)

    def _check(self, chain: Chain, placement: object) -> None:
        known = (HBM, "cache", "drop", *self._by_name)
        if not isinstance(placement, Placement) or placement.tier not in known:
            raise InputError(
                f"residency {type(self._policy).__name__}: place() of program '{chain.session[0]}' returned "
                f"{placement!r}; it must be a Placement on one of {', '.join(known)}"
            )
        until = placement.until_s
        if until is not None and not (isinstance(until, (int, float)) and abs(until) < 1e6 * 86400):
            raise InputError(
                f"residency {type(self._policy).__name__}: place() of program '{chain.session[0]}' returned "
                f"until_s {until!r}; it must be a time in seconds, or None"
            )

    def _until(self, chain: Chain) -> None:
        """A placement's time is up: the policy says what comes next."""
        chain.timer = None
        if not chain.in_gap or self.chains.get(chain.session) is not chain:
            return
        before = self._kernel.now
        placement = self._call("place", chain, self.view(chain), self.server)
        if placement.until_s is not None and to_ps(placement.until_s) <= before:
            placement = Placement("cache")
        self._apply(chain, placement)

    def tick(self) -> None:
        """Let a policy that wants it look at all sessions in their gaps."""
        views = [self.view(chain) for chain in self.chains.values() if chain.in_gap]
        if views:
            for view, placement in self._call("tick", None, views, self.server):
                self._apply(self.chains[view.program_id, view.session_id], placement)

    def _call(self, name: str, chain: Chain | None, *arguments: object) -> Any:
        """Call the policy; what it raises is bad input, told with policy, call and program."""
        try:
            return getattr(self._policy, name)(*arguments)
        except InputError:
            raise
        except Exception as error:
            whose = f" of program '{chain.session[0]}'" if chain is not None else ""
            raise InputError(
                f"residency {type(self._policy).__name__}: {name}(){whose} raised "
                f"{type(error).__name__}: {error}"
            ) from error

    # ---- the verbs ----------------------------------------------------------------------------

    def _pin(self, chain: Chain, until_ps: int, hard: bool) -> None:
        """Pin what HBM has of the chain; bring up the rest first if a tier has it."""
        if chain.pin is not None:
            chain.pin.until_ps, chain.pin.hard = until_ps, hard
            return
        hit = self._pool.lookup(chain.path, chain.blocks)
        if hit.blocks < chain.blocks and self._promote(chain, hit):
            return
        holding = Holding(chain.path)
        self._pool.acquire(holding, hit)
        if hit.blocks:
            chain.pin = Pin(holding, until_ps, hard, self._kernel.now)

    def _unpin(self, chain: Chain) -> None:
        """Give a pin up. What is still on its way into it is let go when it has arrived."""
        pin = chain.pin
        if pin is None:
            return
        chain.pin = None
        held_ps = self._kernel.now - pin.since_ps
        self.held_in_gap_byte_ps += held_ps * pin.holding.blocks * self._shape.block_bytes
        if not pin.loading:
            self._wake()
            self._pool.release(pin.holding)

    def _drop(self, chain: Chain) -> None:
        """Let the chain's unreferenced blocks be evicted before all others."""
        holding = Holding(chain.path)
        self._pool.acquire(holding, self._pool.lookup(chain.path, chain.blocks))
        self._pool.release(holding, evict_first=True)

    def _copy_down(self, chain: Chain, tier: Tier, keep: bool) -> None:
        """Copy to a tier what it lacks; then free it in HBM, unless it is to be kept for LRU."""
        have = self._pool.lookup(chain.path, chain.blocks)
        below = tier.pool.lookup(chain.path, have.blocks)
        missing = min(have.blocks - below.blocks, tier.pool.free - below.free)
        source = Holding(chain.path)
        self._pool.acquire(source, have)
        if missing <= 0:
            self._touch(tier, chain.path, below)
            self._pool.release(source, evict_first=not keep and have.blocks <= below.blocks)
            return
        goal = Holding(chain.path)
        tier.pool.acquire(goal, below)
        tier.pool.take(missing)
        goal.blocks += missing
        self._copies += [(self._pool, source), (tier.pool, goal)]
        size, blocks = missing * self._shape.block_bytes, below.blocks + missing

        def arrived(transfer: Transfer) -> None:
            tier.pool.store(goal, blocks)
            self._end_copy(tier.pool, goal)
            self._wake()
            self._end_copy(self._pool, source, evict_first=not keep)
            self._record(chain.session, tier, "demote", transfer)

        tier.link.send(size, False, arrived)

    def _promote(self, chain: Chain, hit: Hit) -> bool:
        """Bring a waiting session's KV up to HBM ahead of its turn, as far as there is room.

        The pin that it becomes is asked about again when the KV is there. False if nothing can be
        brought up.
        """
        plan = self._sources(chain.path, hit.blocks, chain.blocks)
        room = self._pool.free - hit.free
        if not plan or room <= 0:
            return False
        holding = Holding(chain.path)
        self._pool.acquire(holding, hit)
        pin = chain.pin = Pin(holding, FOREVER, False, self._kernel.now, loading=True)
        self._orphans.append(pin)

        def arrived(_: int) -> None:
            pin.loading = False
            self._orphans.remove(pin)
            if chain.pin is not pin:
                self._pool.release(holding)
            elif chain.in_gap:
                self._until(chain)

        end = min(chain.blocks, hit.blocks + room, plan[-1][2])
        self._start_load(chain.session, holding, plan, end, arrived)
        return True

    def _touch(self, tier: Tier, path: Path, hit: Hit) -> None:
        """Use makes the chain the most recent in its tier."""
        holding = Holding(path)
        tier.pool.acquire(holding, hit)
        tier.pool.release(holding)

    # ---- loading ------------------------------------------------------------------------------

    def _sources(self, path: Path, first: int, end: int) -> list[tuple[Tier, int, int]]:
        """Where blocks [first, end) can be had below: (tier, first, end), in order, without a hole."""
        plan: list[tuple[Tier, int, int]] = []
        for tier in self.tiers:
            hit = tier.pool.lookup(path, end, first)
            if hit.blocks > first:
                plan.append((tier, first, hit.blocks))
                first = hit.blocks
        return plan

    def loadable(self, session: Session, path: Path, known: int, hit: Hit) -> int:
        """Blocks that a turn which is about to be admitted should load rather than compute."""
        limit = (known - 1) // self._shape.block_size
        plan = self._sources(path, hit.blocks, limit)
        if not plan:
            return 0
        end = plan[-1][2]
        chain = self.chains.get(session)
        if self._resume is not None and chain is not None:
            size = self._shape.block_size
            hits = {HBM: hit.blocks * size, **{tier.name: stop * size for tier, _, stop in plan}}
            tokens = self._call("resume", chain, self.view(chain), hits, self.server)
            return max(0, min(end - hit.blocks, int(tokens) // size))
        return self._break_even(plan, hit.blocks)

    def _break_even(self, plan: list[tuple[Tier, int, int]], first: int) -> int:
        """Load tier by tier as long as that is quicker than computing."""
        end, size = first, self._shape.block_size
        for tier, start, stop in plan:
            tokens = (stop - start) * size
            if self.server.reload_s(tier.name, tokens) > self.server.recompute_s(tokens):
                break
            end = stop
        return end - first

    def load(
        self, session: Session, holding: Holding, blocks: int, done: Callable[[int], None] | None
    ) -> list[tuple[str, int]]:
        """Bring up `blocks` blocks behind what the holding has; `done(picoseconds it took)` at the end.

        Without `done` the blocks count as there from the start: the caller's step waits for them.
        Returns how many blocks come from which tier.
        """
        end = holding.hashed + blocks
        plan = self._sources(holding.path, holding.hashed, end)
        self._start_load(session, holding, plan, end, done)
        return [(tier.name, stop - first) for tier, first, stop in plan]

    def load_ps(self, holding: Holding, blocks: int) -> int:
        """How long such a load would take from now, if nothing else joined the links."""
        plan = self._sources(holding.path, holding.hashed, holding.hashed + blocks)
        sizes = [(tier.link, (stop - first) * self._shape.block_bytes) for tier, first, stop in plan]
        return max(link.backlog_ps(True) + link.alone_ps(size, True) for link, size in sizes)

    def _start_load(
        self,
        session: Session,
        holding: Holding,
        plan: list[tuple[Tier, int, int]],
        end: int,
        done: Callable[[int], None] | None,
    ) -> None:
        self._pool.take(end - holding.blocks)
        holding.blocks = end
        if done is None:
            self._pool.store(holding, end)
        load = Load(holding, [], end, 0, self._kernel.now, done)
        for tier, first, stop in plan:
            stop = min(stop, end)
            if stop <= first:
                continue
            source = Holding(holding.path, first, first, first)
            tier.pool.acquire(source, tier.pool.lookup(holding.path, stop, first))
            self._copies.append((tier.pool, source))
            load.sources.append((tier, source))
            load.left += 1
            tier.link.send((stop - first) * self._shape.block_bytes, True, self._arrival(session, load, tier))

    def _arrival(self, session: Session, load: Load, tier: Tier) -> Callable[[Transfer], None]:
        def arrived(transfer: Transfer) -> None:
            self._record(session, tier, "promote", transfer)
            load.left -= 1
            if load.left:
                return
            for below, source in load.sources:
                self._end_copy(below.pool, source)
            if load.done is not None:
                self._wake()
                self._pool.store(load.holding, load.blocks)
                load.done(self._kernel.now - load.asked_ps)

        return arrived

    def _end_copy(self, pool: BlockPool, holding: Holding, evict_first: bool = False) -> None:
        self._copies = [copy for copy in self._copies if copy[1] is not holding]
        pool.release(holding, evict_first)

    def _record(self, session: Session, tier: Tier, verb: str, transfer: Transfer) -> None:
        if self.on_transfer is not None:
            self.on_transfer(
                TransferRecord(
                    self.index,
                    *session,
                    tier.link.name,
                    verb,
                    transfer.bytes,
                    transfer.asked_ps,
                    transfer.start_ps,
                    transfer.end_ps,
                )
            )

    # ---- shortage -----------------------------------------------------------------------------

    def reclaim(self, blocks: int, running: bool) -> bool:
        """Free at least one block by giving up pins, if `blocks` can be had; True if any was freed.

        Expired pins first; soft ones too when a running request is short.
        """
        now, before = self._kernel.now, self._pool.free
        pinned = [chain for chain in self.chains.values() if chain.pin is not None]
        for chain in sorted(pinned, key=_deadline):
            pin = chain.pin
            if pin is not None and pin.until_ps <= now and self._pool.free - before < blocks:
                self._unpin(chain)
        if running:
            for chain in sorted(pinned, key=_deadline, reverse=True):
                if chain.pin is not None and not chain.pin.hard and self._pool.free - before < blocks:
                    self._break(chain)
        return self._pool.free > before

    def open_valve(self) -> bool:
        """Nothing runs and nothing is on its way: break a pin. False if there is none to break.

        Soft before hard; sessions in their gap before those that are waiting; latest deadline first.
        """
        pinned = [chain for chain in self.chains.values() if chain.pin is not None]
        if not pinned:
            return False
        self._break(max(pinned, key=lambda c: (c.pin is not None and not c.pin.hard, c.in_gap, _deadline(c))))
        return True

    def _break(self, chain: Chain) -> None:
        self.forced_unpins += 1
        self._unpin(chain)

    def _ranker(self, tier: Tier) -> Callable[[int], None]:
        return lambda count: self._rank(tier.name, tier.pool, count)

    def _rank(self, name: str, pool: BlockPool, blocks: int) -> None:
        """Blocks are about to be evicted: put the first choices at the head of the queue.

        What ended sessions left comes first, then the policy's order; if that is empty, all is left
        to LRU. What a chain shares with one that is to stay longer stays as long.
        """
        chains = [chain for chain in self.chains.values() if chain.blocks]
        by_session = {chain.session: chain for chain in chains}
        order = self._call("rank", None, name, [self.view(chain) for chain in chains], self.server)
        ranked = [by_session.pop((view.program_id, view.session_id)) for view in order]
        later = [*ranked, *by_session.values()]
        chosen: list[tuple[Path, int, int]] = []
        ended = self._ended[name] if self._ended is not None else deque()
        while ranked and ended and blocks > 0:
            free = self._choose(pool, *ended[0], later, chosen)
            if free <= blocks:
                ended.popleft()
            blocks -= free
        for number, chain in enumerate(ranked):
            if blocks <= 0:
                break
            blocks -= self._choose(pool, chain.path, chain.blocks, later[number + 1 :], chosen)
        for path, first, end in reversed(chosen):
            holding = Holding(path, first, first, first)
            pool.acquire(holding, pool.lookup(path, end, first))
            pool.release(holding, evict_first=True)

    def _choose(
        self, pool: BlockPool, path: Path, end: int, later: list[Chain], chosen: list[tuple[Path, int, int]]
    ) -> int:
        """Choose a chain's blocks behind what it shares with later ones; returns how many are free."""
        shared = max((_shared_tokens(path, chain.path) for chain in later), default=0)
        first = min(shared // self._shape.block_size, end)
        free = pool.lookup(path, end, first).free
        if free:
            chosen.append((path, first, end))
        return free

    # ---- views and checks ---------------------------------------------------------------------

    def view(self, chain: Chain) -> ChainView:
        """What the policy sees of a session's KV."""
        size = self._shape.block_size
        kept = {HBM: self._pool.lookup(chain.path, chain.blocks).blocks * size}
        for tier in self.tiers:
            kept[tier.name] = tier.pool.lookup(chain.path, chain.blocks).blocks * size
        return ChainView(
            *chain.session,
            self.index,
            to_s(chain.arrival_ps),
            chain.turns_done,
            chain.blocks * size,
            kept,
            None if chain.pin is None else to_s(chain.pin.until_ps),
            chain.tools,
            to_s(chain.gap_started_ps),
            tuple(chain.past_gaps_s),
            chain.hints,
        )

    def holdings(self, pool: BlockPool) -> list[Holding]:
        """Everything that this model holds of a pool: pins and copies."""
        pins = (
            [c.pin.holding for c in self.chains.values() if c.pin is not None] if pool is self._pool else []
        )
        if pool is self._pool:
            pins += [pin.holding for pin in self._orphans if pin.holding not in pins]
        return pins + [holding for where, holding in self._copies if where is pool]

    def _cancel_timer(self, chain: Chain) -> None:
        if chain.timer is not None:
            self._kernel.cancel(chain.timer)
            chain.timer = None


def _shared_tokens(path: Path, other: Path) -> int:
    """Tokens that two sequences share from their beginning."""
    shared = 0
    for (segment, end), (other_segment, other_end) in zip(path, other, strict=False):
        if segment is not other_segment:
            break
        shared = min(end, other_end)
        if end != other_end:
            break
    return shared


def _deadline(chain: Chain) -> tuple[int, Session]:
    return (chain.pin.until_ps if chain.pin is not None else FOREVER, chain.session)

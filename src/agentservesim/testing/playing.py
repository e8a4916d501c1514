"""Cases played under policies, with the books looked into, and the same cases with another future."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from random import Random
from typing import Any

from agentservesim.cost.base import Batch
from agentservesim.fleet import Fleet, InstanceSpec
from agentservesim.fleet.config import ToolsConfig
from agentservesim.kv.ledger import Snapshot, records
from agentservesim.kv.links import IN
from agentservesim.kv.pool import BlockPool, Holding
from agentservesim.kv.residency import Residency, TransferRecord
from agentservesim.kv.tiers import KvShape
from agentservesim.model import PS_PER_S, Program, StepRecord, Turn, TurnRecord, Workload, to_s
from agentservesim.policies import load_policy
from agentservesim.policies.protocols import InstanceView, Router, TurnView
from agentservesim.testing.audit import audit_pool
from agentservesim.testing.residency_cases import BLOCK, BLOCK_BYTES, MS, Case

MOST_EVENTS = 2_000_000
STEP_PS = 20 * MS
LONGER = 7
"""Tokens that a reply is longer: with another rest for every small number of instances."""


@dataclass(frozen=True)
class CoarseTime:
    """Steps of 20 ms and 1 ms for each prompt token, so that ties are common."""

    knots: tuple[int, ...] = (0,)
    longest: int = 0

    def step_ps(self, batch: Batch) -> int:
        """20 ms and the prompt tokens."""
        return STEP_PS + sum(new for new, _ in batch.chunks) * MS

    def growth_ps(self, batch: Batch) -> int:
        """Contexts cost nothing."""
        return 0


@dataclass
class Outcome:
    """What happened: turns as they ended, copies as they ended, decisions as (time, call, answer)."""

    turns: list[TurnRecord] = field(default_factory=list)
    transfers: list[TransferRecord] = field(default_factory=list)
    decisions: list[tuple[float, str, object]] = field(default_factory=list)
    rejected: dict[str, int] = field(default_factory=dict)
    bytes_sent: int = 0
    forced_unpins: int = 0
    events: int = field(default=0, compare=False)
    wants_steps: bool = False

    @property
    def bytes_arrived(self) -> int:
        """Bytes of the copies that ended."""
        return sum(transfer.bytes for transfer in self.transfers)

    def decided_before(self, at_s: float) -> list[tuple[float, str, object]]:
        """Decisions before a time."""
        return [decision for decision in self.decisions if decision[0] < at_s]

    def turn_done(self, record: TurnRecord) -> None:
        """A turn ended."""
        self.turns.append(record)

    def step_done(self, record: StepRecord) -> None:
        """Steps are not listened to."""


class Wanderer:
    """Sends a turn home or, with probability `share`, anywhere."""

    def __init__(self, share: float) -> None:
        self._share = share

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> int:
        """Drawn from who asks, so that the order of simultaneous turns makes no difference."""
        random = Random(f"{turn.program_id}/{turn.session_id}/{turn.turn_index}")
        if turn.home is None or random.random() < self._share:
            return random.randrange(len(instances))
        return turn.home


def other_future(case: Case, past: Outcome, at_s: float) -> Case:
    """The same case with other gaps behind a time, and without the turns after the next ones."""
    ready_s = {(t.program_id, t.index): to_s(t.ready_ps) for t in past.turns}

    def other(program: Program) -> Program:
        later = {
            turn.index: turn
            for turn in program.turns
            if turn.dependencies and ready_s.get((program.id, turn.index), inf) > at_s
        }
        known = [turn.index for turn in program.turns if turn.index not in later]
        following = {turn.session_id: turn.index for turn in reversed(later.values())}
        kept = program.turns[: max([*known, *following.values()]) + 1]
        return replace(program, turns=tuple(_delayed(t) if t.index in later else t for t in kept))

    return replace(case, programs=tuple(map(other, case.programs)))


def _delayed(turn: Turn) -> Turn:
    first = turn.dependencies[0]
    return replace(turn, dependencies=(replace(first, delay_ps=first.delay_ps + 7 * PS_PER_S),))


def other_replies(case: Case, past: Outcome, at_s: float) -> Case:
    """The same case, in which replies that are not done after the steps under way at a time are longer."""
    done_s = {(turn.program_id, turn.index): to_s(turn.finish_ps) for turn in past.turns}
    known_s = at_s + steps_under_way_s(case)

    def longer(program: Program, turn: Turn) -> Turn:
        if done_s.get((program.id, turn.index), inf) <= known_s:
            return turn
        path = (*turn.path[:-1], (turn.path[-1][0], turn.path[-1][1] + LONGER))
        return replace(turn, output_tokens=turn.output_tokens + LONGER, path=path)

    programs = [replace(p, turns=tuple(longer(p, turn) for turn in p.turns)) for p in case.programs]
    return replace(case, programs=tuple(programs))


def steps_under_way_s(case: Case) -> float:
    """How long before its end an engine may know that a reply ends: two of the longest steps."""
    return to_s(2 * (STEP_PS + case.engine.max_num_batched_tokens * MS))


def most_telling_s(case: Case, past: Outcome) -> float:
    """The time of a decision at which the most replies are under way, whose length nobody can know yet."""
    margin_s = steps_under_way_s(case)
    open_s = [(to_s(turn.ready_ps), to_s(turn.finish_ps) - margin_s) for turn in past.turns]
    times = sorted({at_s for at_s, _, _ in past.decisions})
    return max(times, key=lambda at_s: sum(ready < at_s < known for ready, known in open_s))


def play(
    case: Case,
    policy: object,
    *,
    scheduler: object = None,
    admission: object = None,
    router: Any = None,
    leap: bool = True,
    audit_every: int = 0,
) -> Outcome:
    """Run a case under a residency policy, and policies of other families in place of the case's own.

    An admission policy that routes is the router too. With `audit_every` the ledgers are audited after every
    so many events of the clock.

    Raises InputError where the policy fails, or turns are left that nothing can serve.
    """
    outcome = Outcome()
    spec = InstanceSpec(
        "i", case.engine, CoarseTime(), case.blocks, kv_shape=KvShape(BLOCK, BLOCK_BYTES, layers=4)
    )
    fleet = Fleet(
        Workload(case.programs),
        [spec] * case.instances,
        router=router or (admission if isinstance(admission, Router) else Wanderer(case.wanders)),
        routing=case.routing,
        network=case.network,
        tools=ToolsConfig(),
        seed=case.seed,
        listener=outcome,
        leap=leap,
        memory=case.memory,
        residency=policy,
        scheduler=scheduler or load_policy("scheduler", case.scheduler),
        admission=admission,
    )
    for watched in (policy, scheduler, admission, router):
        watch(watched, outcome.decisions, lambda: to_s(fleet.now_ps))
    for residency in fleet.residencies:
        residency.copies.on_transfer = outcome.transfers.append
        if audit_every:
            residency.ledger.on_change = _check_sum(residency)
    kernel = fleet._kernel
    while kernel.step():
        outcome.events += 1
        if audit_every and outcome.events % audit_every == 0:
            audit(fleet)
        if outcome.events > MOST_EVENTS:
            raise AssertionError(f"case {case.seed} does not end")
    fleet.run()
    audit(fleet)
    for pool in _pools(fleet):
        assert pool.used == pool.pinned == pool.in_flight == 0, "something holds blocks after the end"
    _sum_up(outcome, fleet)
    return outcome


def _sum_up(outcome: Outcome, fleet: Fleet) -> None:
    """What a fleet has to say of its whole run."""
    links = {link for r in fleet.residencies for tier in r.tiers for link in tier.links.values()}
    outcome.bytes_sent = sum(sum(link.bytes_moved) for link in links)
    if fleet.network is not None:
        outcome.bytes_sent += sum(link.bytes_moved[IN] for link in fleet.network.links)
    outcome.rejected = {str(program): number for program, number in fleet.rejected.items()}
    outcome.forced_unpins = sum(residency.pins.forced_unpins for residency in fleet.residencies)


WATCHED = ("place", "tick", "rank", "resume", "key", "victims", "admit", "route", "rebalance", "looks_ahead")
"""The calls whose answers are decisions."""


def watch(policy: object, log: list[tuple[float, str, object]], now_s: Callable[[], float]) -> None:
    """Write down what a policy answers from now on."""

    def watched(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            answer = method(*arguments)
            if name in ("tick", "rank", "victims", "rebalance"):
                answer = list(answer)
            told = answer
            if name == "tick":
                told = [(chain.program_id, chain.session_id, placement) for chain, placement in answer]
            elif name == "rank":
                told = [(chain.program_id, chain.session_id) for chain in answer]
            elif name == "key":
                told = arguments[0].id, answer
            elif name == "victims":
                told = [request.id for request in answer]
            elif name == "looks_ahead":
                told = arguments[0].program_id, bool(answer)
            log.append((now_s(), name, told))
            return answer

        return call

    for name in WATCHED:
        method = getattr(policy, name, None)
        if method is not None:
            object.__setattr__(policy, name, watched(name, method))


def audit(fleet: Fleet) -> None:
    """Recount every pool of a fleet; AssertionError where a ledger does not balance."""
    tiers: dict[BlockPool, list[Holding]] = {}
    for server in fleet._servers:
        server.instance.catch_up()
        scheduler = server.instance.scheduler
        held = [request.holding for request in scheduler.running]
        for holding in held:
            if holding.catch_up is not None:
                holding.catch_up()
        memory = scheduler.memory
        if memory is not None:
            held += memory.holdings() + memory.residency.holdings(scheduler.pool)
            for tier in memory.residency.tiers:
                tiers.setdefault(tier.pool, []).extend(memory.residency.holdings(tier.pool))
        audit_pool(scheduler.pool, held)
    for pool, held in tiers.items():
        audit_pool(pool, held)


def _check_sum(residency: Residency) -> Callable[[Snapshot], None]:
    sizes = residency.ledger.sizes

    def check(snapshot: Snapshot) -> None:
        for record in records(snapshot, sizes):
            used = record.active_blocks, record.pinned_blocks, record.in_flight_blocks
            states = *used, record.cached_blocks, record.free_blocks
            assert min(states) >= 0, record
            assert sum(states) == sizes[record.tier], record

    return check


def _pools(fleet: Fleet) -> list[BlockPool]:
    pools = [server.instance.scheduler.pool for server in fleet._servers]
    return pools + [tier.pool for residency in fleet.residencies for tier in residency.tiers]

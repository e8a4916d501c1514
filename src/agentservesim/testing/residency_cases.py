"""Random programs on random memory, played under a residency policy, with the books looked into."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import inf
from random import Random
from typing import Any

from agentservesim.cost.base import Batch
from agentservesim.engine.config import EngineConfig
from agentservesim.fleet import Fleet, InstanceSpec
from agentservesim.fleet.config import NetworkConfig, RoutingConfig, ToolsConfig
from agentservesim.kv.config import LinkConfig, MemoryConfig, TierConfig
from agentservesim.kv.ledger import Numbers
from agentservesim.kv.links import IN
from agentservesim.kv.pool import BlockPool, Holding
from agentservesim.kv.residency import Residency, ResidencyRecord, TransferRecord
from agentservesim.kv.tiers import KvShape
from agentservesim.model import (
    PS_PER_S,
    Dependency,
    Path,
    Program,
    Segment,
    StepRecord,
    ToolCall,
    Turn,
    TurnRecord,
    Workload,
    to_s,
)
from agentservesim.policies import load_policy
from agentservesim.policies.protocols import InstanceView, Router, TurnView

MS = PS_PER_S // 1000
MOST_EVENTS = 2_000_000
BLOCK = 4
BLOCK_BYTES = 1000
LONGEST_STEPS_S = 2.0
"""Longer than the steps that are under way at one time."""

TENANTS = ("gold", "silver", "")


@dataclass(frozen=True)
class CoarseTime:
    """Steps of 20 ms and 1 ms for each prompt token, so that ties are common."""

    knots: tuple[int, ...] = (0,)

    def step_ps(self, batch: Batch) -> int:
        """20 ms and the prompt tokens."""
        return 20 * MS + sum(new for new, _ in batch.chunks) * MS

    def growth_ps(self, batch: Batch) -> int:
        """Contexts cost nothing."""
        return 0


@dataclass(frozen=True)
class Case:
    """Programs, the instances that serve them, and the memory below."""

    programs: tuple[Program, ...]
    engine: EngineConfig
    blocks: int
    instances: int
    memory: MemoryConfig
    wanders: float = 0.0
    seed: int = 0
    routing: RoutingConfig = field(default_factory=RoutingConfig)
    network: NetworkConfig | None = None
    scheduler: str = "fcfs"


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


class StillServer:
    """A server at a random moment, as a policy sees it."""

    def __init__(self, tiers: tuple[str, ...], random: Random) -> None:
        self.tiers = tiers
        self.now_s = random.choice([0.0, 3.0, 5000.0])
        self.pool_tokens = random.choice([64, 480_000])
        self.free_tokens = random.choice([0, self.pool_tokens // 2, self.pool_tokens])
        self.running_tokens = random.choice([0, self.pool_tokens // 3])
        self.waiting = random.choice([0, 1, 50])
        self.queue_delay_s = random.choice([0.0, 2.5])
        self._factor = random.choice([0.0, 1e-6, 1e-3])

    def tier_free_tokens(self, tier: str) -> int:
        """As much as HBM."""
        return self.free_tokens

    def recompute_s(self, tokens: int) -> float:
        """In proportion."""
        return tokens * 1e-4

    def step_s(self) -> float:
        """20 ms, or 0 if nothing runs."""
        return 0.02 if self.running_tokens else 0.0

    def reload_s(self, tier: str, tokens: int) -> float:
        """In proportion."""
        return tokens * self._factor

    def demote_s(self, tier: str, tokens: int) -> float:
        """In proportion."""
        return tokens * self._factor


def draw_case(seed: int, cramped: bool = False, needs: Sequence[str] = (), size: int = 5) -> Case:
    """Up to `size` programs of up to `size` turns under memory pressure, with the tiers in `needs`."""
    random = Random(seed)
    trunk = Segment()
    count = random.randint(1, size)
    programs = tuple(_draw_program(random, i, trunk, size) for i in range(count))
    longest = max(turn.total_tokens for program in programs for turn in program.turns)
    need = -(-longest // BLOCK) + 1
    engine = EngineConfig(
        engine_version=random.choice(["0.12", "0.32", "0.32"]),
        block_size=BLOCK,
        max_num_batched_tokens=random.choice([8, 32, 256]),
        max_num_seqs=random.choice([1, 3, 16]),
        async_scheduling=random.random() < 0.6,
        scheduler_reserve_full_isl=random.choice([None, None, False]),
    )
    room = 0 if cramped else random.choice([0, 1, need // 2, 3 * need])
    instances = random.choice([1, 1, 2, 3])
    scheduler = random.choice(["fcfs", "fcfs", "priority"])
    memory = draw_memory(random, need, cramped, needs)
    return Case(
        programs,
        engine,
        need + 1 + room,
        instances,
        memory,
        random.choice([0.0, 0.0, 0.3]),
        seed,
        scheduler=scheduler,
    )


def _draw_program(random: Random, number: int, trunk: Segment, size: int) -> Program:
    """Turns in one or two sessions; each goes on from its session's last turn, or begins anew."""
    name = f"p{number}"
    turns: list[Turn] = []
    last: dict[str, tuple[int, Path]] = {}
    for index in range(random.randint(1, size)):
        session = random.choice(["main", "main", "main", "helper"]) if index else "main"
        before, path = last.get(session, (index - 1, ()))
        if not path and random.random() < 0.7:
            path = ((trunk, random.choice([5, 12, 30])),)
        elif path and random.random() < 0.1:
            path = path[:1]  # rewound
        start = path[-1][1] if path else 0
        prompt = start + random.randint(1, 30)
        output = random.choice([1, 2, 5, 17])
        own = Segment(start, path[-1][0] if path else None)
        path = (*path, (own, prompt + output))
        gap_ps = random.choice([0, 0, 30, 400, 3000, 20_000]) * MS
        overlap = index and session == "main" and random.random() < 0.08
        after = (
            (Dependency(before, "dispatch" if overlap else "completion", gap_ps, tools_ps=0),)
            if index
            else ()
        )
        turns.append(
            Turn(
                id=f"{name}:{index}",
                index=index,
                session_id=session,
                prompt_tokens=prompt,
                output_tokens=output,
                path=path,
                dependencies=after,
                tools=tuple(ToolCall(n) for n in random.choices(["Bash", "Read"], k=random.randint(0, 2))),
                priority=random.randrange(2),
            )
        )
        last[session] = index, path
    arrival_ps = random.choice([0, 0, 10, 100, 1000]) * MS
    return Program(name, arrival_ps, tuple(turns), tenant=TENANTS[number % len(TENANTS)])


def draw_memory(random: Random, need: int, cramped: bool, needs: Sequence[str] = ()) -> MemoryConfig:
    """Up to three tiers below HBM, of one block to plenty, behind links of all kinds."""
    names = [name for name in ("dram", "cxl", "ssd") if random.random() < 0.75 or name in needs]
    roomy = [need, 3 * need, 100 * need]
    tiers = tuple(
        TierConfig(
            name=name,
            capacity_bytes=BLOCK_BYTES * random.choice([1, 2] if cramped else [1, need // 2 + 1, *roomy]),
            scope=random.choice(["instance", "instance", "node", "fleet"]),
        )
        for name in names
    )
    pairs = [("hbm", name) for name in names]
    pairs += [pair for pair in pairwise(names) if random.random() < 0.5]
    links = tuple(
        LinkConfig(
            between=pair,
            down_bytes_per_s=random.choice([1e3, 1e4, 1e5, 1e8]),
            up_bytes_per_s=random.choice([1e4, 1e5, 1e8]),
            latency_s=random.choice([0.0, 0.0, 0.02]),
            overhead_s=random.choice([0.0, 0.001]),
            min_bytes=random.choice([0.0, 5000.0]),
            duplex=random.choice(["full", "half"]),
            sharing=random.choice(["fifo", "processor"]),
        )
        for pair in pairs
    )
    load = random.choice(["blocking", "layerwise"])
    return MemoryConfig(tiers=tiers, links=links, instances_per_node=2, load=load)


def other_future(case: Case, past: Outcome, at_s: float) -> Case:
    """The same case with other gaps behind a time, and without the turns after the next ones."""
    ready_s = {(t.program_id, t.index): to_s(t.ready_ps) for t in past.turns}
    programs = []
    for program in case.programs:
        turns: list[Turn] = []
        seen: set[str] = set()
        for turn in program.turns:
            if ready_s.get((program.id, turn.index), inf) > at_s and turn.dependencies:
                if turn.session_id in seen or turn.dependencies[0].turn >= len(turns):
                    break
                seen.add(turn.session_id)
                later = replace(turn.dependencies[0], delay_ps=turn.dependencies[0].delay_ps + 7 * PS_PER_S)
                turn = replace(turn, dependencies=(later,))
            turns.append(turn)
        programs.append(replace(program, turns=tuple(turns)))
    return replace(case, programs=tuple(programs))


def other_replies(case: Case, past: Outcome, at_s: float) -> Case:
    """The same case, in which replies that are not done well after a time are longer."""
    done_s = {(turn.program_id, turn.index): to_s(turn.finish_ps) for turn in past.turns}

    def longer(program: Program, turn: Turn) -> Turn:
        if done_s.get((program.id, turn.index), inf) <= at_s + LONGEST_STEPS_S:
            return turn
        path = (*turn.path[:-1], (turn.path[-1][0], turn.path[-1][1] + BLOCK))
        return replace(turn, output_tokens=turn.output_tokens + BLOCK, path=path)

    programs = [replace(p, turns=tuple(longer(p, turn) for turn in p.turns)) for p in case.programs]
    return replace(case, programs=tuple(programs))


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
    links = {link for r in fleet.residencies for tier in r.tiers for link in tier.links.values()}
    outcome.bytes_sent = sum(sum(link.bytes_moved) for link in links)
    if fleet.network is not None:
        outcome.bytes_sent += sum(link.bytes_moved[IN] for link in fleet.network.links)
    outcome.rejected = dict(fleet.rejected)
    outcome.forced_unpins = sum(residency.pins.forced_unpins for residency in fleet.residencies)
    return outcome


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
            log.append((now_s(), name, told))
            return answer

        return call

    for name in ("place", "tick", "rank", "resume", "key", "victims", "admit", "route", "rebalance"):
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
        scheduler.pool.audit(held)
    for pool, held in tiers.items():
        pool.audit(held)


def _check_sum(residency: Residency) -> Callable[[Numbers], None]:
    sizes = [pool.num_blocks - 1 for pool in (residency.pool, *(tier.pool for tier in residency.tiers))]

    def check(numbers: Numbers) -> None:
        record = ResidencyRecord(*numbers)
        used = record.active_blocks, record.pinned_blocks, record.in_flight_blocks
        states = *used, record.cached_blocks, record.free_blocks
        assert min(states) >= 0, record
        assert sum(states) == sizes[record.tier], record

    return check


def _pools(fleet: Fleet) -> list[BlockPool]:
    pools = [server.instance.scheduler.pool for server in fleet._servers]
    return pools + [tier.pool for residency in fleet.residencies for tier in residency.tiers]

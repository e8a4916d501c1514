"""Random programs on random memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

from agentservesim.engine.config import EngineConfig
from agentservesim.fleet.config import NetworkConfig, RoutingConfig
from agentservesim.kv.config import LinkConfig, MemoryConfig, TierConfig
from agentservesim.model import PS_PER_S, Dependency, Path, Program, Segment, ToolCall, Turn

MS = PS_PER_S // 1000
BLOCK = 4
BLOCK_BYTES = 1000
TENANTS = ("gold", "silver", "")


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


class StillServer:
    """A server at a random moment, as a policy sees it."""

    def __init__(self, tiers: tuple[str, ...], random: Random) -> None:
        self.index = 0
        self.tiers = tiers
        self.now_s = random.choice([0.0, 3.0, 5000.0])
        self.pool_tokens = random.choice([64, 480_000])
        self.free_tokens = random.choice([0, self.pool_tokens // 2, self.pool_tokens])
        self.running_tokens = random.choice([0, self.pool_tokens // 3])
        self.waiting = random.choice([0, 1, 50])
        self.waiting_tokens = 1000 * self.waiting
        self.prefetching_tokens = random.choice([0, self.pool_tokens // 10])
        self.queue_delay_s = random.choice([0.0, 2.5])
        self._factor = random.choice([0.0, 1e-6, 1e-3])

    def tier_tokens(self, tier: str) -> int:
        """Twice as much as HBM."""
        return 2 * self.pool_tokens

    def tier_free_tokens(self, tier: str) -> int:
        """As much as HBM."""
        return self.free_tokens

    def recompute_s(self, tokens: int, history: int = 0) -> float:
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
    names += [name for name in needs if name not in names]
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
    prefetch_bytes = random.choice([None, None, 0, 3 * BLOCK_BYTES])
    return MemoryConfig(
        tiers=tiers, links=links, instances_per_node=2, load=load, prefetch_bytes=prefetch_bytes
    )

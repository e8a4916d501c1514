"""What a residency policy is shown, made by hand, and a small run in which HBM is short."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from agentservesim.engine.config import EngineConfig
from agentservesim.fleet import Counts, Fleet, InstanceSpec
from agentservesim.fleet.config import ToolsConfig
from agentservesim.kv.config import LinkConfig, MemoryConfig, TierConfig
from agentservesim.kv.tiers import KvShape
from agentservesim.model import Path, Program, Segment, TurnRecord, Workload
from agentservesim.policies.protocols import ChainView
from agentservesim.policies.routing import SessionAffinity
from tests.fleet.parts import Log, PerToken, S, after, call, turn


@dataclass
class Server:
    """A server with 1000 tokens of HBM whose links move so many tokens a second."""

    now_s: float = 0.0
    index: int = 0
    tiers: tuple[str, ...] = ("dram", "ssd")
    pool_tokens: int = 1000
    free_tokens: int = 1000
    running_tokens: int = 0
    waiting: int = 0
    waiting_tokens: int = 0
    prefetching_tokens: int = 0
    queue_delay_s: float = 0.0
    room: dict[str, int] = field(default_factory=lambda: {"dram": 2000, "ssd": 10000})
    tokens_per_s: dict[str, float] = field(default_factory=lambda: {"dram": 100.0, "ssd": 10.0})

    def tier_tokens(self, tier: str) -> int:
        return {"dram": 2000, "ssd": 10000}[tier]

    def tier_free_tokens(self, tier: str) -> int:
        return self.room[tier]

    def recompute_s(self, tokens: int, history: int = 0) -> float:
        return tokens / 20

    def step_s(self) -> float:
        return 0.1

    def reload_s(self, tier: str, tokens: int) -> float:
        return tokens / self.tokens_per_s[tier]

    def demote_s(self, tier: str, tokens: int) -> float:
        return tokens / self.tokens_per_s[tier]


def gap(
    session: str = "p",
    *,
    program: str = "p",
    started_s: float = 0.0,
    tokens: int = 100,
    hbm: int | None = None,
    dram: int = 0,
    ssd: int = 0,
    turns: int = 1,
    tools: tuple[str, ...] = ("Bash",),
    hints: Mapping[str, object] | None = None,
    pinned_until_s: float | None = None,
    arrival_s: float = 0.0,
) -> ChainView:
    """A session in its gap, all of its context in HBM unless said otherwise."""
    kept = {"hbm": tokens if hbm is None else hbm, "dram": dram, "ssd": ssd}
    return ChainView(
        program, session, 0, arrival_s, turns, tokens, kept, pinned_until_s, tools, started_s, (), hints or {}
    )


BLOCK = 16
LINKS = MemoryConfig(
    tiers=(
        TierConfig(name="dram", capacity_bytes=80 * BLOCK),
        TierConfig(name="ssd", capacity_bytes=1000 * BLOCK),
    ),
    links=(
        LinkConfig(between=("hbm", "dram"), down_bytes_per_s=4e3, up_bytes_per_s=4e3),
        LinkConfig(between=("hbm", "ssd"), down_bytes_per_s=1e3, up_bytes_per_s=1e3, sharing="processor"),
        LinkConfig(between=("dram", "ssd"), down_bytes_per_s=1e3, up_bytes_per_s=1e3),
    ),
)
"""A byte a token; a tenth of a second moves 400 tokens to the DRAM."""


def agents(count: int = 8, turns: int = 5) -> Workload:
    """Programs that share a prefix of 5 blocks and grow by 10 blocks a turn; gaps of 1 to 6 s.

    Each has a sub-agent, "sub", that runs during its first gap and again after its third turn.
    """
    system = Segment()
    workflow = {"main": {"after": ["main", "sub"], "join": "any"}, "sub": {"after": ["main"]}}
    programs = []
    for p in range(count):
        own = Segment(5 * BLOCK, system)
        side = Segment(5 * BLOCK, system)
        made = []
        lengths = {"main": 5 * BLOCK, "sub": 5 * BLOCK}
        last: dict[str, int] = {}
        for session in ["main", "sub", *["main"] * (turns - 1), "sub"]:
            output, segment = 20 + 3 * p, own if session == "main" else side
            end = lengths[session] + 140 + output
            path: Path = ((system, 5 * BLOCK), (segment, end))
            waits = [after(last.get(session, 0), delay_s=1)] if made else []
            made.append(
                replace(
                    turn(
                        len(made),
                        output,
                        *waits,
                        name=f"{p}:{len(made)}",
                        session=session,
                        prompt=end - output,
                        tools=[call("Bash" if p % 2 else "Read", (p + len(made)) % 6)],
                    ),
                    path=path,
                    hints={"gap_s": 1.0 + (p + len(made)) % 6, "workflow": workflow},
                )
            )
            last[session] = len(made) - 1
            lengths[session] = end
        programs.append(Program(f"p{p}", p * S // 2, tuple(made)))
    return Workload(tuple(programs))


def run(policy: object, *, leap: bool = True, blocks: int = 200, memory: MemoryConfig = LINKS) -> Run:
    """Serve `agents()` on one instance whose HBM holds about a third of what they come to have."""
    log = Log()
    engine = EngineConfig(async_scheduling=True, max_num_batched_tokens=512)
    steps = PerToken(prompt_ps=S // 1000, row_ps=S // 100)
    fleet = Fleet(
        agents(),
        [InstanceSpec("i", engine, steps, blocks, kv_shape=KvShape(BLOCK, BLOCK))],
        router=SessionAffinity(),
        tools=ToolsConfig(),
        seed=0,
        leap=leap,
        listener=log,
        memory=memory,
        residency=policy,
    )
    counts = fleet.run()
    moved = sum(sum(tier.link.bytes_moved) for model in fleet.residencies for tier in model.tiers)
    return Run(log.turns, counts, fleet.now_ps, moved)


@dataclass
class Run:
    """The turns of a run, what it counted, when it ended, and how many bytes were moved."""

    turns: list[TurnRecord]
    counts: Counts
    now_ps: int
    moved_bytes: int

    def same_as(self, other: Run) -> bool:
        return (self.turns, self.now_ps, self.moved_bytes) == (other.turns, other.now_ps, other.moved_bytes)

    @property
    def hits(self) -> float:
        return sum(t.cached_tokens for t in self.turns) / sum(t.prompt_tokens for t in self.turns)

"""What the KV Residency Model keeps of a session, and what it tells those who listen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, overload

from agentservesim.kernel import Event as Timer
from agentservesim.kv.pool import BlockPool, Hit, Holding
from agentservesim.model import Path
from agentservesim.policies.protocols import ChainView

FOREVER = 1 << 62

Session = tuple[str, str]
"""Program id and session id."""


@dataclass(slots=True, eq=False)
class Pin:
    """Blocks that a policy keeps in HBM until a deadline; `claimed` of them it took from the free queue.

    While they are on their way up, or from another instance (`remote`), it is `loading`; `waiting` are those
    who then go on, and since when.
    """

    holding: Holding
    until_ps: int
    hard: bool
    since_ps: int
    claimed: int = 0
    loading: bool = False
    remote: bool = False
    waiting: list[tuple[int, Callable[[int], None]]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Chain:
    """The KV of one session on this instance, as of its last turn.

    `going_down` has the holdings of the copies that are on their way to a tier, by its name; `then` names the
    tiers that it is copied to after that one. `seen` is what the policy sees of it, while that is up to date;
    `followed` is the path as the `Roll` knows it, `number` counts its chains.
    `soon` counts how often in a row the policy wanted to be asked again at once.
    `hits`, what it was told each tier has, is there while the policy is asked and what it answers is done.
    """

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
    number: int = 0
    soon: int = 0
    pin: Pin | None = None
    coming_up: Pin | None = None
    going_down: dict[str, Holding] = field(default_factory=dict)
    then: tuple[str, ...] = ()
    timer: Timer | None = None
    seen: ChainView | None = None
    followed: Path = ()
    hits: dict[str, Hit] | None = None

    def elsewhere(self) -> Chain:
        """The same session on another instance, which has nothing of it yet."""
        return Chain(
            self.session,
            self.arrival_ps,
            self.path,
            self.blocks,
            self.turns_done,
            self.tools,
            self.hints,
            self.gap_started_ps,
            self.past_gaps_s,
            self.in_gap,
        )


class Kept(Mapping[str, int]):
    """Tokens of a chain that each tier holds, looked up when they are asked for."""

    __slots__ = ("_chain", "_look", "_pools")

    def __init__(self, chain: Chain, pools: Mapping[str, BlockPool], look: Callable[[], None]) -> None:
        self._chain = chain
        self._pools = pools
        self._look = look

    def __getitem__(self, tier: str) -> int:
        pool, chain = self._pools[tier], self._chain
        self._look()
        hit = pool.lookup(chain.path, chain.blocks)
        if chain.hits is not None:
            chain.hits[tier] = hit
        return hit.blocks * pool.block_size

    def __iter__(self) -> Iterator[str]:
        return iter(self._pools)

    def __len__(self) -> int:
        return len(self._pools)

    def __repr__(self) -> str:
        return repr(dict(self))


class Views(Sequence[ChainView]):
    """Views of sessions as they are now, made whenever they are looked at."""

    def __init__(self, make: Callable[[], list[ChainView]]) -> None:
        self._make = make

    @overload
    def __getitem__(self, index: int) -> ChainView: ...

    @overload
    def __getitem__(self, index: slice) -> list[ChainView]: ...

    def __getitem__(self, index: int | slice) -> ChainView | list[ChainView]:
        return self._make()[index]

    def __iter__(self) -> Iterator[ChainView]:
        return iter(self._make())

    def __len__(self) -> int:
        return len(self._make())


class TransferRecord(NamedTuple):
    """A copy between two tiers, or from the HBM of another instance, the `source`.

    What is spilled belongs to no session: both ids are empty then.
    """

    instance: int
    program_id: str
    session_id: str
    link: str
    verb: str
    bytes: int
    asked_ps: int
    start_ps: int
    end_ps: int
    source: int


class ResidencyRecord(NamedTuple):
    """The blocks of a tier by state, from this moment on; they add up to its size. Tier 0 is HBM.

    A block counts with whoever took it from the free queue: a request (active), a pin, or a copy
    (in flight); shared ones count as active when that one lets go and others stay. Cached blocks
    are unreferenced and have content, free ones have none.
    """

    instance: int
    time_ps: int
    tier: int
    active_blocks: int
    pinned_blocks: int
    cached_blocks: int
    in_flight_blocks: int
    free_blocks: int

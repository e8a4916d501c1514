"""What a policy must be able to do, and what it is allowed to see.

A policy is a small object; its dataclass fields are its parameters. It is given views: what a real
server could know at that moment. How long a reply will be, how long a tool will take and how many turns
are to come is in no view.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable


class TurnView(NamedTuple):
    """A turn that is about to be sent. `home` is the instance of its session's last turn, or of the
    program's where the session is new, or None."""

    program_id: str
    session_id: str
    turn_index: int
    prompt_tokens: int
    priority: int
    home: int | None


class InstanceView(Protocol):
    """An instance as its load balancer sees it."""

    @property
    def index(self) -> int:
        """Its number in the fleet."""

    @property
    def load(self) -> int:
        """Turns sent to it whose last token is still to come."""

    @property
    def running(self) -> int:
        """Requests in its running batch."""

    @property
    def waiting(self) -> int:
        """Requests in its waiting queue."""

    @property
    def num_blocks(self) -> int:
        """KV blocks of its pool that can hold tokens."""

    @property
    def free_blocks(self) -> int:
        """KV blocks that no running request holds (vLLM counts cached ones as free)."""


@runtime_checkable
class Router(Protocol):
    """Chooses the instance of each turn."""

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> int:
        """The index of the instance that is to serve the turn."""


class ChainView(NamedTuple):
    """The KV of one session on one instance, while its tools run.

    `tokens` of context are worth keeping; `kept_tokens` says how many of them each tier holds
    (HBM, cached or pinned, under "hbm"). Past gaps are this session's own, oldest first.
    """

    program_id: str
    session_id: str
    instance: int
    arrival_s: float
    turns_done: int
    tokens: int
    kept_tokens: Mapping[str, int]
    pinned_until_s: float | None
    tools: tuple[str, ...]
    gap_started_s: float
    past_gaps_s: tuple[float, ...]
    hints: Mapping[str, object]


class ServerView(Protocol):
    """An instance and its memory, as a residency policy sees it."""

    @property
    def now_s(self) -> float:
        """The time."""

    @property
    def tiers(self) -> tuple[str, ...]:
        """Names of the tiers below HBM, fastest first."""

    @property
    def pool_tokens(self) -> int:
        """Tokens that the HBM pool can hold."""

    @property
    def free_tokens(self) -> int:
        """Tokens of HBM that nothing references (cached content counts as free)."""

    @property
    def running_tokens(self) -> int:
        """Context of the requests that run."""

    @property
    def waiting(self) -> int:
        """Requests that wait for admission."""

    @property
    def queue_delay_s(self) -> float:
        """Mean wait for admission of later turns whose KV was mostly gone; 0 before the first."""

    def tier_free_tokens(self, tier: str) -> int:
        """Tokens of a tier that nothing references."""

    def recompute_s(self, tokens: int) -> float:
        """Time to compute so many tokens from nothing, alone."""

    def step_s(self) -> float:
        """Duration of a step of the present decode batch."""

    def reload_s(self, tier: str, tokens: int) -> float:
        """Time to bring so many tokens up from a tier, the backlog of its link included."""

    def demote_s(self, tier: str, tokens: int) -> float:
        """Time to copy so many tokens down to a tier, the backlog of its link included."""


class Placement(NamedTuple):
    """Where a session's KV is to be while its tools run.

    tier: "hbm" pins it (bringing it up first if it is elsewhere); "cache" leaves it in HBM for LRU to
    evict; "drop" forgets it; the name of a lower tier copies it there and frees it in HBM. With
    `copy` the tier gets a copy and HBM keeps its own for LRU.
    until_s: when to ask again; None is never. hard: a pin that yields only to the valve.
    """

    tier: str
    until_s: float | None = None
    hard: bool = False
    copy: bool = False


CACHE = Placement("cache")
"""Leave it to LRU."""


class GapEnded(NamedTuple):
    """A session came back: its gap is known now."""

    chain: ChainView
    gap_s: float


class TurnAdmitted(NamedTuple):
    """A turn was admitted: how long it waited, and how much of its context was at hand."""

    program_id: str
    session_id: str
    wait_s: float
    prompt_tokens: int
    hit_tokens: int


class ProgramEnded(NamedTuple):
    """A program is done."""

    program_id: str
    turns: int


Event = GapEnded | TurnAdmitted | ProgramEnded


@runtime_checkable
class Residency(Protocol):
    """Decides where the KV of a program is while its tool runs.

    Optional methods: `observe(event)`; `tick_s` with `tick(chains, server)`, which yields
    (chain, placement) pairs every `tick_s` seconds; `rank(tier, chains, server)`, which
    sorts the chains of a tier by what to evict first; `resume(chain, hits, server)`, which says how
    many tokens to load from below when the turn is back (hits: tokens at hand up to each tier).
    """

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        """Asked when the gap starts, and again at each placement's `until_s` while it lasts."""


class OraclePolicy:
    """Base of residency policies that know the future: bounds for the others, labelled as such.

    `next_use_s` tells when each session in its gap (program id, session id) will be back; one that
    still waits for something unknown is missing.
    """

    def __init__(self) -> None:
        self.next_use_s: dict[tuple[str, str], float] = {}

"""What a residency policy sees and decides: where the KV of a program is while its tools run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

from agentservesim.policies.protocols.programs import ProgramEnded


class ChainView(NamedTuple):
    """The KV of one session on one instance, while its tools run.

    `tokens` of context are worth keeping; `kept_tokens` says how many of them each tier holds
    (HBM, cached or pinned, under "hbm"). Past gaps are this session's own, oldest first. Only `rank` is shown
    chains that are not `in_gap`: of sessions whose next turn is ready, or runs.
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
    in_gap: bool = True


class ServerView(Protocol):
    """An instance and its memory, as a residency policy sees it."""

    @property
    def index(self) -> int:
        """Which instance it is, as in `ChainView.instance`."""

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
    def waiting_tokens(self) -> int:
        """Context of the requests that wait for admission."""

    @property
    def prefetching_tokens(self) -> int:
        """Tokens that are on their way up to HBM ahead of their turns."""

    @property
    def queue_delay_s(self) -> float:
        """Mean wait for admission of later turns whose KV was mostly gone; 0 before the first."""

    def tier_tokens(self, tier: str) -> int:
        """Tokens that a tier can hold."""

    def tier_free_tokens(self, tier: str) -> int:
        """Tokens of a tier that nothing references."""

    def recompute_s(self, tokens: int, history: int = 0) -> float:
        """Time to compute so many tokens behind `history` others, which they attend to, alone."""

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
    budget_tokens: for "hbm", how many tokens may be brought up for it now; None is as many as there is room
    for. then: lower tiers that get it too, one after the other, each when the one before has it; HBM lets go,
    if it does, after the last. until_s: when to ask again; None is never. hard: a pin that yields only to
    the valve.
    """

    tier: str
    until_s: float | None = None
    hard: bool = False
    copy: bool = False
    then: tuple[str, ...] = ()
    budget_tokens: int | None = None


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


class PinBroken(NamedTuple):
    """HBM was short, and a session's pin gave way: LRU has what it held, most of which may be there still."""

    instance: int
    program_id: str
    session_id: str


Event = GapEnded | TurnAdmitted | PinBroken | ProgramEnded


@runtime_checkable
class Residency(Protocol):
    """Decides where the KV of a program is while its tool runs.

    Optional methods: `observe(event)`; `tick_s` with `tick(chains, server)`, which yields
    (chain, placement) pairs every `tick_s` seconds; `next_tick_s(instance)`, which says from when on it may
    have some (None is never), so that ticks before that are left out: it is asked when the policy has placed
    or ticked, a gap has ended or a pin was broken; `rank(tier, chains, server)`, which sorts the chains of a
    tier by what to evict first (those it leaves out are left to LRU), and is shown only those in their gaps
    if `ranks_gaps` is True; `resume(chain, hits, server)`, which says how many tokens to load from below
    when the turn is back (hits: tokens at hand up to each tier).
    """

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        """Asked when the gap starts, and again at each placement's `until_s` while it lasts."""

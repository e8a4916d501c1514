"""InferCept: whatever wastes the least memory over time."""

from __future__ import annotations

from dataclasses import dataclass, field

from agentservesim.policies.protocols import ChainView, Event, GapEnded, Placement, ServerView
from agentservesim.policies.residency.gaps import RunningMean, tool_of

Session = tuple[str, str]


@dataclass
class InferCept:
    """Preserves, swaps or discards, whichever wastes the least memory over time (InferCept's min-waste).

    Source: arXiv 2402.01869, by notes that quote the paper, and its code. `tier` takes what is swapped;
    without it nothing is. `gap`: "elapsed" takes the gap to be as long as it has been so far, "mean" as
    long as the tool's gaps were on average (`unseen_gap_s` before the first), or as it has been so far if
    that is longer. `period_s` is the time between two decisions on what is preserved. `preserve` and
    `swap` switch two of the three choices off: the rungs of the paper's ladder.
    """

    tier: str = "dram"
    gap: str = "elapsed"
    unseen_gap_s: float = 1.0
    period_s: float = 0.1
    preserve: bool = True
    swap: bool = True
    _means: RunningMean = field(default_factory=RunningMean, init=False, repr=False)
    _kept: dict[int, dict[Session, tuple[ChainView, float]]] = field(
        default_factory=dict, init=False, repr=False
    )

    def __post_init__(self) -> None:
        if self.gap not in ("elapsed", "mean"):
            raise ValueError(f"gap must be elapsed or mean, not '{self.gap}'")
        if not self.period_s > 0:
            raise ValueError("period_s must be above 0")

    def observe(self, event: Event) -> None:
        """A session that is back is nothing to decide on."""
        if isinstance(event, GapEnded):
            self._means.add(tool_of(event.chain), event.gap_s)
            self._kept.get(event.chain.instance, {}).pop(_session(event.chain), None)

    @property
    def uses(self) -> tuple[str, ...]:
        """The tier that takes what is swapped."""
        return (self.tier,) if self.swap else ()

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        """Swap as far as the link has time for it; preserve or discard what is left."""
        kept, session = self._kept.setdefault(chain.instance, {}), _session(chain)
        if session not in kept:
            kept[session] = chain, server.recompute_s(chain.tokens)
        preserve, discard = self._wastes(*kept[session], server)
        if self.swap and self.tier in server.tiers and self._has_turn_to_swap(kept, session, server):
            del kept[session]
            return Placement(self.tier)
        if self.preserve and preserve <= discard:
            return Placement("hbm", server.now_s + self.period_s)
        del kept[session]
        return Placement("drop")

    def _wastes(self, chain: ChainView, recompute_s: float, server: ServerView) -> tuple[float, float]:
        """Token-seconds wasted by preserving the context, and by discarding it and computing it in chunks."""
        gap_s = server.now_s - chain.gap_started_s
        if self.gap == "mean":
            mean_s = self._means.get(tool_of(chain))
            gap_s = max(gap_s, self.unseen_gap_s if mean_s is None else mean_s)
        return gap_s * chain.tokens, recompute_s * (chain.tokens / 2 + server.running_tokens)

    def _has_turn_to_swap(
        self, kept: dict[Session, tuple[ChainView, float]], session: Session, server: ServerView
    ) -> bool:
        """Whether the link is through, within a period, with what wastes more than this session."""
        idle_s = server.demote_s(self.tier, 0)
        budget_s = max(self.period_s, server.step_s()) - idle_s - server.reload_s(self.tier, 0)
        wastes = {key: self._least(*held, server) for key, held in kept.items()}
        for key in sorted(wastes, key=lambda key: (-wastes[key], key)):
            if budget_s <= 0 or wastes[key] <= 0:
                return False
            if key == session:
                return True
            budget_s -= server.demote_s(self.tier, kept[key][0].tokens) - idle_s
        return False

    def _least(self, chain: ChainView, recompute_s: float, server: ServerView) -> float:
        preserve, discard = self._wastes(chain, recompute_s, server)
        return min(preserve, discard) if self.preserve else discard


def _session(chain: ChainView) -> Session:
    return chain.program_id, chain.session_id

"""InferCept: whatever wastes the least memory over time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf

from agentservesim.policies.protocols import ChainView, Event, GapEnded, PinBroken, Placement, ServerView
from agentservesim.policies.residency.gaps import RunningMean, tool_of
from agentservesim.policies.residency.idleness import Session, session_of


@dataclass(slots=True)
class Held:
    """A context that is preserved, and how long it takes to compute it alone.

    It is decided on again at `look_s`, or when the `fewest` tokens seen to run since are fewer than `enough`,
    or when it is not `pinned` any more.
    """

    chain: ChainView
    recompute_s: float
    look_s: float = 0.0
    enough: float = 0.0
    fewest: float = inf
    pinned: bool = True


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

    def __post_init__(self) -> None:
        if self.gap not in ("elapsed", "mean"):
            raise ValueError(f"gap must be elapsed or mean, not '{self.gap}'")
        if not self.period_s > 0:
            raise ValueError("period_s must be above 0")
        self.tick_s = self.period_s
        self._held: dict[int, dict[Session, Held]] = defaultdict(dict)

    @property
    def uses(self) -> tuple[str, ...]:
        """The tier that takes what is swapped."""
        return (self.tier,) if self.swap else ()

    def observe(self, event: Event) -> None:
        """A session that is back is nothing to decide on; one whose pin was broken is."""
        if isinstance(event, GapEnded):
            self._means.add(tool_of(event.chain), event.gap_s)
            self._held[event.chain.instance].pop(session_of(event.chain), None)
        elif isinstance(event, PinBroken):
            held = self._held[event.instance].get((event.program_id, event.session_id))
            if held is not None:
                held.pinned = False

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        """Preserve, unless that is the greater waste from the start."""
        held, running = Held(chain, server.recompute_s(chain.tokens)), server.running_tokens
        for one in self._held[server.index].values():
            if running < one.fewest:
                one.fewest = running
        self._held[server.index][session_of(chain)] = held
        return next((placement for _, placement in self._decide([held], running, server)), Placement("hbm"))

    def tick(self, chains: Sequence[ChainView], server: ServerView) -> Iterable[tuple[ChainView, Placement]]:
        """Decide on what is preserved: on all of it where the link may have time for it."""
        held, now_s = list(self._held[server.index].values()), server.now_s
        if not (self.swap and self.tier in server.tiers):
            held = [one for one in held if one.look_s <= now_s or one.fewest < one.enough or not one.pinned]
        return self._decide(held, server.running_tokens, server) if held else ()

    def _decide(
        self, looked: Sequence[Held], running: int, server: ServerView
    ) -> Iterator[tuple[ChainView, Placement]]:
        """Swap what wastes most while the link has time for it; discard what wastes more by staying.

        The rest is looked at again half way to the moment from which on it would if as much went on running,
        and before that only if so much less runs that it might have to be.
        """
        now_s = server.now_s
        wastes = [self._wastes(one, now_s, min(one.fewest, running)) for one in looked]
        least = [min(preserve, discard) if self.preserve else discard for preserve, discard in wastes]
        idle_s, budget_s = self._link_s(server) if any(least) else (0.0, 0.0)
        for number in sorted(range(len(looked)), key=lambda number: -least[number]):
            one, (preserve, discard) = looked[number], wastes[number]
            chain, margin = one.chain, discard - preserve
            if budget_s > 0 and least[number] > 0:
                budget_s -= server.demote_s(self.tier, chain.tokens) - idle_s
                placement = Placement(self.tier)
            elif self.preserve and margin >= 0:
                one.look_s = now_s + max(self.period_s, margin / 2 / max(chain.tokens, 1))
                one.enough = running - margin / 2 / max(one.recompute_s, 1e-12)
                one.fewest = inf
                if not one.pinned:
                    one.pinned = True
                    yield chain, Placement("hbm")
                continue
            else:
                placement = Placement("drop")
            del self._held[server.index][session_of(chain)]
            yield chain, placement

    def _wastes(self, held: Held, now_s: float, running: float) -> tuple[float, float]:
        """Token-seconds wasted by preserving the context, and by discarding it and computing it in chunks."""
        tokens = held.chain.tokens
        return self.gap_s(held.chain, now_s) * tokens, held.recompute_s * (tokens / 2 + running)

    def gap_s(self, chain: ChainView, now_s: float) -> float:
        """How long the gap is taken to be."""
        elapsed_s = now_s - chain.gap_started_s
        if self.gap == "elapsed":
            return elapsed_s
        mean_s = self._means.get(tool_of(chain))
        return max(elapsed_s, self.unseen_gap_s if mean_s is None else mean_s)

    def _link_s(self, server: ServerView) -> tuple[float, float]:
        """What the link has to do already, and what it has time for within a period."""
        if not (self.swap and self.tier in server.tiers):
            return 0.0, 0.0
        idle_s = server.demote_s(self.tier, 0)
        return idle_s, max(self.period_s, server.step_s()) - idle_s - server.reload_s(self.tier, 0)

"""InferCept: whatever wastes the least memory over time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

from agentservesim.policies.bounds import above, at_least
from agentservesim.policies.protocols import ChainView, Event, GapEnded, PinBroken, Placement, ServerView
from agentservesim.policies.residency.gaps import Lengths
from agentservesim.policies.residency.idleness import session_of
from agentservesim.policies.residency.preserved import Preserved, Shelf, spare_s


@dataclass
class InferCept:
    """Preserves, swaps or discards, whichever wastes the least memory over time (InferCept's min-waste).

    Source: arXiv 2402.01869, by notes that quote the paper, and its code. `tier` takes what is swapped;
    without it nothing is. `gap`: "elapsed" takes the gap to be as long as it has been so far, "mean" as
    long as the tool's gaps were on average (`unseen_gap_s` before the first), or as it has been so far if
    that is longer. `period_s` is the least time between two decisions on what is preserved. `preserve` and
    `swap` switch two of the three choices off: the rungs of the paper's ladder.
    """

    tier: str = "dram"
    gap: str = "elapsed"
    unseen_gap_s: float = 1.0
    period_s: float = 0.1
    preserve: bool = True
    swap: bool = True

    def __post_init__(self) -> None:
        at_least(self, 0, "unseen_gap_s")
        above(self, 0, "period_s")
        self._lengths = Lengths(self.gap, self.unseen_gap_s)
        self.tick_s = self.period_s
        self._shelves: dict[int, Shelf] = defaultdict(Shelf)

    @property
    def uses(self) -> tuple[str, ...]:
        """The tier that takes what is swapped."""
        return (self.tier,) if self.swap else ()

    @property
    def wants(self) -> Mapping[str, str]:
        """Names of tools, where each has a mean of its own."""
        return {"tools": "all gaps are of one kind"} if self.gap == "mean" else {}

    def observe(self, event: Event) -> None:
        """A session that is back is nothing to decide on; one whose pin was broken is."""
        if isinstance(event, GapEnded):
            self._lengths.ended(event)
            self._shelves[event.chain.instance].pop(session_of(event.chain), None)
        elif isinstance(event, PinBroken):
            self._shelves[event.instance].broken(event)

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        """Preserve, unless that is the greater waste from the start."""
        running = server.running_tokens
        one = self._shelves[server.index].put(chain, server.recompute_s(chain.tokens), running)
        return next((placement for _, placement in self._decide([one], running, server)), Placement("hbm"))

    def next_tick_s(self, instance: int) -> float | None:
        """When something that is preserved is to be looked at."""
        return self._shelves[instance].due_s

    def tick(self, chains: Sequence[ChainView], server: ServerView) -> Iterable[tuple[ChainView, Placement]]:
        """Decide on what it is time for."""
        return self._decide(self._shelves[server.index].due(server.now_s), server.running_tokens, server)

    def _decide(
        self, due: Sequence[Preserved], running: int, server: ServerView
    ) -> Iterator[tuple[ChainView, Placement]]:
        """Swap what wastes most while the link has time for it; discard what wastes more by staying."""
        now_s, swaps = server.now_s, self.swap and self.tier in server.tiers
        wastes = []
        for one in due:
            preserve, discard = one.wastes(self._lengths.of(one.chain, now_s), running)
            wastes.append((min(preserve, discard) if self.preserve else discard, discard - preserve, one))
        wastes.sort(key=itemgetter(0), reverse=True)
        link_s = spare_s(self.tier, self.period_s, server) if swaps and wastes and wastes[0][0] > 0 else 0.0
        for least, margin, one in wastes:
            if link_s > 0 and least > 0:
                link_s -= server.demote_s(self.tier, one.chain.tokens) - server.demote_s(self.tier, 0)
                placement = Placement(self.tier)
            elif self.preserve and margin >= 0:
                one.good_for(None if swaps else margin, now_s, running, self.period_s)
                self._shelves[server.index].look(one)
                if not one.pinned:
                    one.pinned = True
                    yield one.chain, Placement("hbm")
                continue
            else:
                placement = Placement("drop")
            del self._shelves[server.index][session_of(one.chain)]
            yield one.chain, placement

"""A residency policy that behaves badly, within what its protocol allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random

from agentservesim.policies.protocols import ChainView, Placement, ServerView

SPILLS: tuple[Mapping[str, str], ...] = (
    {},
    {"hbm": "dram"},
    {"hbm": "dram", "dram": "ssd"},
    {"hbm": "cxl", "cxl": "ssd"},
    {"hbm": "ssd"},
)


class Unruly:
    """Random placements with deadlines in the past, soft and hard pins for everybody, verdicts changed at
    every tick, orders of eviction that leave chains out, loads of more than there is or less than none."""

    def __init__(self, seed: int, tiers: Sequence[str]) -> None:
        self._random = random = Random(seed)
        self._greedy = random.random() < 0.2
        if random.random() < 0.5:
            self.tick_s = random.choice([0.05, 0.5, 3.0])
            self.tick: Callable[[Sequence[ChainView], ServerView], object] = self._tick
        if random.random() < 0.4:
            self.rank: Callable[[str, Sequence[ChainView], ServerView], object] = self._rank
        if random.random() < 0.4:
            self.resume: Callable[[ChainView, Mapping[str, int], ServerView], int] = self._resume
        spill = random.choice(SPILLS)
        if {*spill, *spill.values()} <= {"hbm", *tiers}:
            self.spill = spill
            self.min_hits = random.choice([0, 0, 1, 2])

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        random = self._random
        if self._greedy:
            return Placement("hbm", hard=True)
        now_s = server.now_s
        tier = random.choice(["hbm", "hbm", "hbm", "cache", "drop", *server.tiers, *server.tiers])
        until_s = random.choice([None, None, -5.0, now_s, *(now_s + x for x in (1e-12, 0.1, 1.0, 10.0))])
        then = (
            tuple(random.choices(server.tiers, k=random.choice([0, 0, 1, 3]))) if tier in server.tiers else ()
        )
        budget = random.choice([None, None, None, 0, 1, 50])
        return Placement(tier, until_s, random.random() < 0.3, random.random() < 0.5, then, budget)

    def _tick(self, chains: Sequence[ChainView], server: ServerView) -> Iterator[tuple[ChainView, Placement]]:
        for chain in chains:
            for _ in range(self._random.choice([0, 1, 1, 2])):
                yield chain, self.place(chain, server)

    def _rank(self, tier: str, chains: Sequence[ChainView], server: ServerView) -> list[ChainView]:
        return self._random.sample(chains, self._random.randint(0, len(chains)))

    def _resume(self, chain: ChainView, hits: Mapping[str, int], server: ServerView) -> int:
        return self._random.choice([0, -3, 10, 100, 10**6])

"""Random scenarios for instances and fleets, on a clock so coarse that ties are common.

A scenario is drawn from a seed. Costs are a few ticks of the clock, arrivals and delays lie on a grid,
contents are shared, continued, forked and cloned, pools are small enough for evictions and preemptions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from agentservesim.cost.base import Batch
from agentservesim.engine.config import EngineConfig, rules_of
from agentservesim.model import Path, Turn
from tests.paths import fork, longer, root, turn

POLICIES = ("fcfs", "fcfs", "priority")
"""Scheduling policies that need to know nothing of programs."""


@dataclass(frozen=True)
class KnottedStepTime:
    """Costs in ticks: `base` per step, `token` per prefill token, `history` per 8 tokens of a chunk's
    history, `row` per decode row, `sample` per sampled token, and for every decode row its context times
    the slope of its cell, from `offsets` on; and by how much the `longest` rows are shorter than the first.
    """

    knots: tuple[int, ...] = (0,)
    slopes: tuple[int, ...] = (0,)
    offsets: tuple[int, ...] = (0,)
    base: int = 10
    token: int = 0
    history: int = 0
    row: int = 0
    sample: int = 0
    longest: int = 0

    def step_ps(self, batch: Batch) -> int:
        chunks = sum(new * self.token + past // 8 * self.history for new, past in batch.chunks)
        cells = zip(self.offsets, self.slopes, batch.counts, batch.contexts, strict=True)
        rows = sum(offset * count + slope * context for offset, slope, count, context in cells)
        waits = sum(batch.longest[0] - context for context in batch.longest[: self.longest])
        return self.base + chunks + rows + waits + self.row * batch.rows + self.sample * batch.sampled

    def growth_ps(self, batch: Batch) -> int:
        return sum(slope * count for slope, count in zip(self.slopes, batch.counts, strict=True))


def draw_step_time(random: Random) -> KnottedStepTime:
    """Up to five cells of different slopes; the cost never falls from one to the next."""
    inner = sorted(random.sample(range(2, 120), random.choice([0, 0, 1, 2, 4])))
    slopes = [random.choice([0, 0, 0, 1, 1, 2, 5]) for _ in range(len(inner) + 1)]
    offsets = [0]
    for knot, before, after in zip(inner, slopes, slopes[1:], strict=False):
        offsets.append(offsets[-1] + (before - after) * knot + random.choice([0, 0, 10]))
    return KnottedStepTime(
        knots=(0, *inner),
        slopes=tuple(slopes),
        offsets=tuple(offsets),
        base=random.choice([1, 5, 10, 10, 20]),
        token=random.choice([0, 0, 1, 5]),
        history=random.choice([0, 0, 1]),
        row=random.choice([0, 0, 1, 5]),
        sample=random.choice([0, 0, 1]),
    )


def draw_config(random: Random, longest: int) -> EngineConfig:
    """Any engine that can serve sequences of `longest` tokens."""
    chunked = random.random() < 0.85
    return EngineConfig(
        engine_version=random.choice(["0.12", "0.19", "0.26", "0.32", "0.32"]),
        block_size=random.choice([1, 2, 4, 4, 8]),
        max_num_batched_tokens=random.choice([3, 8, 16, 32, 64]) if chunked else longest + 1,
        max_num_seqs=random.choice([1, 2, 4, 8, 16]),
        enable_prefix_caching=random.random() < 0.9,
        enable_chunked_prefill=chunked,
        long_prefill_token_threshold=random.choice([0, 0, 0, 3, 8]),
        watermark=random.choice([0.0, 0.0, 0.0, 0.05, 0.2]),
        scheduler_reserve_full_isl=random.choice([None, None, True, False]),
        async_scheduling=random.random() < 0.6,
    )


def draw_blocks(random: Random, config: EngineConfig, longest: int) -> int:
    """A pool in which the longest sequence just fits, or with some room beside it."""
    need = -(-longest // config.block_size)
    room = int(need * random.choice([0.0, 0.1, 0.2, 0.5, 1.0, 3.0]))
    return int((need + 1 + room) / (1 - config.watermark)) + 1


class Contents:
    """Draws the paths of turns: new, continued, forked, or the same again."""

    def __init__(self, random: Random, longest: int) -> None:
        self._random = random
        self._longest = longest
        self._trunks = [root(random.randint(1, longest // 2)) for _ in range(2)]
        self._used: list[Path] = []

    def first(self, clones: float) -> Path:
        """How a program begins."""
        random = self._random
        if self._used and random.random() < clones:
            return random.choice(self._used)
        start = random.random()
        if start < 0.3:
            path = root(self._length(2))
        elif start < 0.7:
            path = self._behind(random.choice(self._trunks))
        else:
            path = self._behind(random.choice(self._used or self._trunks))
        self._used.append(path)
        return path

    def next(self, before: Path) -> Path | None:
        """The turn after one of content `before`, or None if there is no room for another."""
        length = before[-1][1]
        if length + 2 > self._longest:
            return None
        if self._random.random() < 0.15:
            at = self._random.randint(1, length)  # rewound, or the reply was not sent back
            path = fork(before, at, self._length(at + 1))
        else:
            path = longer(before, self._length(length + 2))
        self._used.append(path)
        return path

    def _length(self, least: int) -> int:
        return self._random.randint(least, min(self._longest, least + 50))

    def _behind(self, trunk: Path) -> Path:
        at = self._random.randint(1, min(trunk[-1][1], self._longest - 1))
        return fork(trunk, at, self._length(at + 1))


def draw_prompt(random: Random, path: Path, least: int = 1) -> int:
    """How much of a content is the prompt; at least one token is left for the reply."""
    length = path[-1][1]
    reply = random.choice([1, 2, random.randint(1, 8), random.randint(1, 40), random.randint(1, 100)])
    return max(least, 1, length - reply)


@dataclass(frozen=True)
class Arrival:
    """A turn for an instance: at `time`, or that long after the turn `after` ended (by its place)."""

    turn: Turn
    instance: int
    time: int
    after: int | None = None


@dataclass(frozen=True)
class InstanceScenario:
    """Turns for a few instances."""

    configs: Sequence[EngineConfig]
    blocks: Sequence[int]
    step_times: Sequence[KnottedStepTime]
    arrivals: Sequence[Arrival]
    policy: str = "fcfs"


def draw_instances(seed: int) -> InstanceScenario:
    """One to three instances and up to 30 turns in chains."""
    random = Random(seed)
    longest = random.choice([20, 60, 150, 300])
    count = random.choice([1, 1, 2, 3])
    configs = [draw_config(random, longest) for _ in range(count)]
    contents = Contents(random, longest)
    clones = random.choice([0.0, 0.2, 0.6])
    grid = random.choice([1, 5, 10, 50, 200])
    # Equals that arrive at one time can preempt one another for ever, here as in vLLM, unless the whole
    # sequence is reserved: then no two are equal.
    policy = random.choice(POLICIES)
    thrash = policy == "priority" and not all(rules_of(c).reserve_full for c in configs)
    arrivals: list[Arrival] = []
    for _ in range(random.randint(1, 8)):
        path: Path | None = contents.first(clones)
        instance, after = random.randrange(count), None
        time = random.randrange(12) * grid
        for _ in range(random.randint(1, 4)):
            if path is None:
                break
            name = f"t{len(arrivals)}"
            priority = random.getrandbits(30) if thrash else random.randrange(3)
            one = turn(name, path, draw_prompt(random, path), priority=priority)
            arrivals.append(Arrival(one, instance, time, after))
            after, time = len(arrivals) - 1, random.choice([0, 1, 5, 10, 100]) * random.randrange(3)
            path = contents.next(path)
            if random.random() < 0.1:
                instance = random.randrange(count)
    return InstanceScenario(
        configs,
        [draw_blocks(random, config, longest) for config in configs],
        [draw_step_time(random) for _ in range(count)],
        arrivals,
        policy,
    )

"""CPU seconds that can be compared between machines and between minutes.

A shared machine runs the same code up to twice as slowly from one minute to the next. So every
measurement is framed by a fixed piece of work of the same kind (a heap of events, small objects,
integers), and the time is also given as a multiple of that, in seconds of the reference machine.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heapify, heapreplace
from statistics import median

REFERENCE_S = 0.052
"""CPU seconds of `fixed_work` on the reference machine: the one on which the budgets were set, where NVIDIA
Dynamo 1.6.1's offline replay of the workload of measurement 1 takes 2.84 CPU seconds (KV router, 16-token
blocks), or with 64-token blocks 1.28 (KV router) and 0.85 (round-robin). Replayed beside the fixed
work, five times on another machine (CPython 3.11), those took a median of 68, 25 and 17 times as long:
the fixed work takes 0.042, 0.052 or 0.050 s on the reference machine. This is the least favourable."""


class _Item:
    __slots__ = ("count", "total", "weight")

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self.count = 0
        self.total = 0


def fixed_work() -> float:
    """Do it once; returns its CPU seconds."""
    start = time.process_time()
    items = [_Item(1 + i * 7919 % 1009) for i in range(4000)]
    heap = [(item.weight, i, item) for i, item in enumerate(items)]
    heapify(heap)
    seen: dict[int, int] = {}
    for number in range(4000, 94_000):
        now, _, item = heap[0]
        item.count += 1
        item.total += now * item.weight // 3
        seen[now & 4095] = item.count
        heapreplace(heap, (now + item.weight, number, item))
    return time.process_time() - start


@dataclass(frozen=True)
class Timing:
    """CPU seconds of several runs, and the same as on the reference machine."""

    cpu_s: tuple[float, ...]
    reference_s: tuple[float, ...]

    @property
    def fastest_s(self) -> float:
        """The least CPU time of a run, as this machine is now."""
        return min(self.cpu_s)

    @property
    def median_s(self) -> float:
        """The median CPU time of a run, as this machine is now."""
        return median(self.cpu_s)

    @property
    def normal_s(self) -> float:
        """The median over the runs of the CPU time on the reference machine."""
        return median(self.reference_s)


def measure(work: Callable[[], object], runs: int) -> Timing:
    """CPU time of `work`, framed by the fixed work."""
    cpu, reference = [], []
    fixed_work()
    before = fixed_work()
    for _ in range(runs):
        gc.collect()
        start = time.process_time()
        work()
        cpu.append(time.process_time() - start)
        after = fixed_work()
        reference.append(cpu[-1] / ((before + after) / 2) * REFERENCE_S)
        before = after
    return Timing(tuple(cpu), tuple(reference))

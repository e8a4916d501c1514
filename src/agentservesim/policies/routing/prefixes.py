"""What routers believe to be cached where: prefixes of content by instance, with an age."""

from __future__ import annotations

from heapq import heappop, heappush
from math import inf

from agentservesim.model import Path, Segment

Stairs = list[tuple[int, float]]
"""How far a segment is cached, and since when not used: ends ascend and times do not ascend, because who
uses a prefix uses all shorter ones."""


class PrefixIndex:
    """An approximate index that a router keeps of what it sent where.

    A lookup and an insertion cost as much as the path has segments, however long it is. What was not used
    for more than `ttl_s` does not count. `evict` forgets what is beyond the `capacity` of an instance in
    tokens, the least recently used first, suffix before prefix.
    """

    def __init__(self, instances: int, ttl_s: float = inf, capacity: int | None = None) -> None:
        self.tokens = [0] * instances
        self._ttl_s = ttl_s
        self._capacity = capacity
        self._known: list[dict[Segment, Stairs]] = [{} for _ in range(instances)]
        self._by_age: list[list[tuple[float, int, int, Segment]]] = [[] for _ in range(instances)]
        self._uses = 0

    def match(self, path: Path, now_s: float) -> list[int]:
        """For each instance, how many tokens of a path it is believed to have."""
        return [self._match(known, path, now_s - self._ttl_s) for known in self._known]

    def _match(self, known: dict[Segment, Stairs], path: Path, oldest_s: float) -> int:
        at = 0
        for segment, end in path:
            stairs = known.get(segment)
            if stairs is None:
                break
            at = next((min(stop, end) for stop, used_s in reversed(stairs) if used_s >= oldest_s), at)
            if at < end:
                break
        return at

    def insert(self, index: int, path: Path, now_s: float) -> None:
        """A path was sent to an instance, now."""
        known, by_age = self._known[index], self._by_age[index]
        for segment, end in path:
            stairs = known.setdefault(segment, [])
            self.tokens[index] += max(end - (stairs[-1][0] if stairs else segment.start), 0)
            stairs[:] = [(end, now_s), *(step for step in stairs if step[0] > end)]
            if self._capacity is not None:
                self._uses += 1
                heappush(by_age, (now_s, -end, self._uses, segment))

    def evict(self, index: int) -> None:
        """Forget what is beyond the capacity of an instance."""
        known, by_age = self._known[index], self._by_age[index]
        while self._capacity is not None and self.tokens[index] > self._capacity:
            used_s, end, number, segment = heappop(by_age)
            stairs = known.get(segment)
            if not stairs or stairs[-1] != (-end, used_s):
                continue  # it was used again since
            stairs.pop()
            first = stairs[-1][0] if stairs else segment.start
            left = max(-end - (self.tokens[index] - self._capacity), first)
            self.tokens[index] -= -end - left
            if left > first:
                stairs.append((left, used_s))
                heappush(by_age, (used_s, -left, number, segment))
            elif not stairs:
                del known[segment]

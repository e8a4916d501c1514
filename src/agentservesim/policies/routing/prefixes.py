"""What routers believe to be cached where: prefixes of content by instance, with an age."""

from __future__ import annotations

from collections import deque
from math import inf

from agentservesim.model import Path, Segment

Stairs = list[tuple[int, float]]
"""How far a segment is cached, and since when not used: ends ascend and times do not ascend, because who
uses a prefix uses all shorter ones."""


class PrefixIndex:
    """An approximate index that a router keeps of what it sent where.

    A lookup and an insertion cost as much as the path has segments, however long it is. What was not used
    for more than `ttl_s` does not count. `evict` forgets what is beyond the `capacity` of an instance in
    tokens, the least recently used first, suffix before prefix; what was used at one moment, in the order of
    insertion.
    """

    def __init__(self, instances: int, ttl_s: float = inf, capacity: int | None = None) -> None:
        self.tokens = [0] * instances
        self._ttl_s = ttl_s
        self._capacity = capacity
        self._known: list[dict[Segment, Stairs]] = [{} for _ in range(instances)]
        self._by_age: list[deque[tuple[float, int, Segment]]] = [deque() for _ in range(instances)]

    def match(self, path: Path, now_s: float) -> list[int]:
        """For each instance, how many tokens of a path it is believed to have."""
        return [self._match(known, path, now_s - self._ttl_s) for known in self._known]

    def _match(self, known: dict[Segment, Stairs], path: Path, oldest_s: float) -> int:
        at = 0
        for segment, end in path:
            stairs = known.get(segment)
            if stairs is None:
                break
            stop, used_s = stairs[-1]
            if used_s < oldest_s:
                stop = next((stop for stop, used_s in reversed(stairs) if used_s >= oldest_s), at)
            at = min(stop, end)
            if at < end:
                break
        return at

    def insert(self, index: int, path: Path, now_s: float) -> None:
        """A path was sent to an instance, now."""
        known, by_age, new = self._known[index], self._by_age[index], 0
        for segment, end in path:
            stairs = known.get(segment)
            if stairs is None:
                known[segment] = [(end, now_s)]
                new += end - segment.start
            else:
                new += max(end - stairs[-1][0], 0)
                stairs[:] = [(end, now_s), *[step for step in stairs if step[0] > end]]
        self.tokens[index] += new
        if self._capacity is not None:
            by_age.extend((now_s, end, segment) for segment, end in reversed(path))

    def evict(self, index: int) -> None:
        """Forget what is beyond the capacity of an instance."""
        known, by_age = self._known[index], self._by_age[index]
        while self._capacity is not None and self.tokens[index] > self._capacity:
            used_s, end, segment = by_age.popleft()
            stairs = known.get(segment)
            if not stairs or stairs[-1] != (end, used_s):
                continue  # it was used again since
            stairs.pop()
            first = stairs[-1][0] if stairs else segment.start
            left = max(end - (self.tokens[index] - self._capacity), first)
            self.tokens[index] -= end - left
            if left > first:
                stairs.append((left, used_s))
                by_age.appendleft((used_s, left, segment))
            elif not stairs:
                del known[segment]

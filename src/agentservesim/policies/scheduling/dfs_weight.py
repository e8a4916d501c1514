"""SGLang's depth-first order of the prefix tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from agentservesim.model import Path, Segment, first_tokens
from agentservesim.policies.bounds import at_least
from agentservesim.policies.protocols import Changes, RequestView
from agentservesim.policies.scheduling.lpm import fewest_replied

Place = tuple[Path, list[RequestView]]
"""The cached part of a prompt, and the requests that end there."""


@dataclass
class DfsWeight:
    """Depth first through the tree of cached prefixes, the subtree with the most waiting first (SGLang).

    After SGLang's code (`dfs-weight`). A node's own requests come after those below it. With more than
    `limit` waiting it is fcfs, as lpm is (SGLang has no limit for this one).
    """

    limit: int = 128
    changes: ClassVar[Changes] = "queue"
    _places: dict[RequestView, int] = field(default_factory=dict, init=False, repr=False)
    _cuts: dict[RequestView, tuple[int, Path]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        at_least(self, 0, "limit")

    def survey(self, waiting: Sequence[RequestView], now_s: float) -> None:
        """Walk the tree. What is cached of a prompt is most often the same as when it was asked last."""
        self._places = {}
        if len(waiting) <= self.limit:
            known, self._cuts = self._cuts, {}
            places: dict[Path, Place] = {}
            for request in waiting:
                cached, cut = request.cached_tokens, known.get(request)
                if cut is None or cut[0] != cached:
                    cut = cached, first_tokens(request.prompt, cached)
                self._cuts[request] = cut
                path = cut[1]
                # No two paths end at one place.
                place = places.get(path[-1:])
                if place is None:
                    places[path[-1:]] = path, [request]
                else:
                    place[1].append(request)
            order = _walk(list(places.values()))
            self._places = dict(zip(order, range(len(order)), strict=True))

    def key(self, request: RequestView, now_s: float) -> int:
        """When the walk comes to its node."""
        return self._places.get(request, self.limit)

    def victims(self, running: Sequence[RequestView], now_s: float) -> list[RequestView]:
        """The shortest reply so far first."""
        return fewest_replied(running)


def _walk(places: Sequence[Place], depth: int = 0, at: int = 0) -> list[RequestView]:
    """The requests at and below a node: `depth` segments down, where the last of them is at position `at`."""
    while True:
        own, below = list[RequestView](), dict[Segment, list[Place]]()
        if len(places) == 1:
            return places[0][1]
        for path, requests in places:
            if depth and path[depth - 1][1] > at:
                below.setdefault(path[depth - 1][0], []).append((path, requests))
            elif len(path) > depth:
                below.setdefault(path[depth][0], []).append((path, requests))
            else:
                own += requests
        if own or len(below) != 1:
            break
        places, depth, at = _next(next(iter(below.items())), depth)
    groups = sorted(below.items(), key=lambda item: -sum(len(requests) for _, requests in item[1]))
    return [request for group in groups for request in _walk(*_next(group, depth))] + own


def _next(group: tuple[Segment, list[Place]], depth: int) -> tuple[list[Place], int, int]:
    """The node that a group, which goes on in a segment, comes to next."""
    segment, places = group
    path = places[0][0]
    depth += not depth or path[depth - 1][0] is not segment
    return places, depth, min(path[depth - 1][1] for path, _ in places)

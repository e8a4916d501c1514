"""SGLang's depth-first order of the prefix tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from agentservesim.model import Path, Segment
from agentservesim.policies.protocols import Changes, RequestView
from agentservesim.policies.scheduling.lpm import fewest_replied

Place = tuple[RequestView, Path]
"""A request, and the part of its prompt that is cached."""


@dataclass
class DfsWeight:
    """Depth first through the tree of cached prefixes, the subtree with the most waiting first (SGLang).

    After SGLang's code (`dfs-weight`). A node's own requests come after those below it. With more than
    `limit` waiting it is fcfs, as lpm is (SGLang has no limit for this one).
    """

    limit: int = 128
    changes: ClassVar[Changes] = "queue"
    _places: dict[RequestView, int] = field(default_factory=dict, init=False, repr=False)

    def survey(self, waiting: Sequence[RequestView], now_s: float) -> None:
        """Walk the tree."""
        self._places = {}
        if len(waiting) <= self.limit:
            places = [(request, _cut(request.prompt, request.cached_tokens)) for request in waiting]
            self._places = {request: place for place, request in enumerate(_walk(places))}

    def key(self, request: RequestView, now_s: float) -> int:
        """When the walk comes to its node."""
        return self._places.get(request, self.limit)

    def victims(self, running: Sequence[RequestView], now_s: float) -> list[RequestView]:
        """The shortest reply so far first."""
        return fewest_replied(running)


def _cut(path: Path, tokens: int) -> Path:
    return tuple((segment, min(end, tokens)) for segment, end in path if segment.start < tokens)


def _walk(places: Sequence[Place], depth: int = 0, at: int = 0) -> list[RequestView]:
    """The requests at and below a node: `depth` segments down, where the last of them is at position `at`."""
    while True:
        own, below = [], dict[Segment, list[Place]]()
        for request, path in places:
            if depth and path[depth - 1][1] > at:
                below.setdefault(path[depth - 1][0], []).append((request, path))
            elif len(path) > depth:
                below.setdefault(path[depth][0], []).append((request, path))
            else:
                own.append(request)
        if len(places) == 1:
            return [places[0][0]]
        if own or len(below) != 1:
            break
        places, depth, at = _next(next(iter(below.items())), depth)
    groups = sorted(below.items(), key=lambda item: -len(item[1]))
    return [request for group in groups for request in _walk(*_next(group, depth))] + own


def _next(group: tuple[Segment, list[Place]], depth: int) -> tuple[list[Place], int, int]:
    """The node that a group, which goes on in a segment, comes to next."""
    segment, places = group
    path = places[0][1]
    depth += not depth or path[depth - 1][0] is not segment
    return places, depth, min(path[depth - 1][1] for _, path in places)

"""SGLang's longest prefix match."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import ClassVar

from agentservesim.model import Path, Segment
from agentservesim.policies.bounds import at_least
from agentservesim.policies.protocols import Changes, RequestView


def fewest_replied(running: Sequence[RequestView]) -> list[RequestView]:
    """SGLang's order of retraction: the shortest reply so far first; of those, the longest prompt."""
    return sorted(running, key=lambda request: (request.generated_tokens, -request.prompt_tokens))


@dataclass
class Lpm:
    """The longest cached prefix first (SGLang's `lpm`); with more than `limit` waiting, fcfs.

    After SGLang's code. Of requests that find at most `check` tokens cached and share `share` or more with
    one before them, only the first is served by its prefix; the others wait until it has computed what they
    share.
    """

    limit: int = 128
    check: int = 32
    share: int = 32
    changes: ClassVar[Changes] = "queue"
    _keys: dict[RequestView, float] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        at_least(self, 0, "limit", "check", "share")

    def survey(self, waiting: Sequence[RequestView], now_s: float) -> None:
        """Look up every prefix, in the cache and among those who wait."""
        self._keys = {}
        if len(waiting) > self.limit:
            return
        reach: dict[Segment, int] = {}
        for request in waiting:
            cached = request.cached_tokens
            self._keys[request] = -cached
            if cached <= self.check:
                if _shared(request.prompt, reach) >= self.share:
                    self._keys[request] = inf
                else:
                    for segment, end in request.prompt:
                        reach[segment] = max(end, reach.get(segment, 0))

    def key(self, request: RequestView, now_s: float) -> float:
        """Minus the tokens cached; infinite for who waits for another's."""
        return self._keys.get(request, 0)

    def victims(self, running: Sequence[RequestView], now_s: float) -> list[RequestView]:
        """The shortest reply so far first."""
        return fewest_replied(running)


def _shared(path: Path, reach: dict[Segment, int]) -> int:
    """Tokens of a path that others have too, `reach` being how far they go in each segment."""
    shared = 0
    for segment, end in path:
        shared = max(min(end, reach.get(segment, 0)), shared)
        if shared < end:
            break
    return shared

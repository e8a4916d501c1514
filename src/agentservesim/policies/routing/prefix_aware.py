"""SGLang's router: the longest match while the load is balanced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentservesim.policies.bounds import above, at_least
from agentservesim.policies.protocols import Choice, InstanceView, RouterEvent, TurnView
from agentservesim.policies.routing.books import Books
from agentservesim.policies.routing.prefixes import PrefixIndex


@dataclass
class PrefixAware:
    """SGLang's router: the instance with the longest matching prefix, or, out of balance, the least loaded.

    The load is out of balance if `max - min > balance_abs` and `max > balance_rel * min`: then the turn goes
    to the least loaded instance. Else to the one with the longest match if that is more than `threshold` of
    the prompt, else to the one with the smallest index. Every `evict_s` seconds indexes are cut to
    `capacity` tokens (2**26 characters there, taken as 4 a token).
    """

    threshold: float = 0.3
    balance_abs: int = 64
    balance_rel: float = 1.5
    evict_s: float = 120.0
    capacity: int = 2**24

    def __post_init__(self) -> None:
        at_least(self, 0, "threshold", "balance_abs", "balance_rel")
        at_least(self, 1, "capacity")
        above(self, 0, "evict_s")

    def begin(self, instances: int, seed: int) -> None:
        """Nothing is known yet."""
        self._books = Books(instances)
        self._index = PrefixIndex(instances, capacity=self.capacity)
        self._evicted_s = 0.0

    def observe(self, event: RouterEvent) -> None:
        """Keep the books."""
        self._books.observe(event)

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> Choice:
        """By load if that is out of balance, else by match, else by size."""
        if now_s >= self._evicted_s + self.evict_s:
            self._evicted_s = now_s - now_s % self.evict_s
            for index in range(len(instances)):
                self._index.evict(index)
        loads, matches = self._books.loads, self._index.match(turn.path, now_s)
        low, high, best = min(loads), max(loads), max(matches)
        if high - low > self.balance_abs and high > self.balance_rel * low:
            index = loads.index(low)
        elif best > self.threshold * turn.prompt_tokens:
            index = matches.index(best)
        else:
            index = self._index.tokens.index(min(self._index.tokens))
        self._books.sent(turn, index)
        self._index.insert(index, turn.path, now_s)
        return Choice(index, [match / turn.prompt_tokens for match in matches])

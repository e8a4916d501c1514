"""Prompt caching as model providers sell it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agentservesim.policies.bounds import at_least
from agentservesim.policies.protocols import (
    ChainView,
    Event,
    GapEnded,
    Placement,
    ServerView,
    TurnAdmitted,
)

WRITE_PRICES = {300.0: 1.25, 3600.0: 2.0}
"""Price of a token written to the cache, as a multiple of an input token's: five minutes, one hour."""


@dataclass
class CacheTtl:
    """Keeps KV for five minutes (or `ttl_s`) after its last use, then forgets it; counts the money.

    Source: the public price lists of providers of prompt caching, as of 2025 (own knowledge, not
    verified). A use refreshes the time at no charge. Prices are in dollars per million tokens of input;
    `write_price` and `read_price` are multiples of it; 0 takes the write price that goes with `ttl_s`:
    1.25 up to five minutes, 2 above. `tier` is where the KV is kept: hbm pins it, a lower one has a
    copy that LRU may evict before its time, or keep beyond it.
    """

    ttl_s: float = 300.0
    tier: str = "hbm"
    input_price: float = 3.0
    write_price: float = 0.0
    read_price: float = 0.1
    _written: int = field(default=0, init=False, repr=False)
    _read: int = field(default=0, init=False, repr=False)
    _paid: set[tuple[str, str]] = field(default_factory=set, init=False, repr=False)
    _expired: set[tuple[str, str]] = field(default_factory=set, init=False, repr=False)

    def __post_init__(self) -> None:
        at_least(self, 0, "ttl_s", "input_price", "write_price", "read_price")
        self.write_price = self.write_price or WRITE_PRICES[300.0 if self.ttl_s <= 300 else 3600.0]

    @property
    def needs(self) -> tuple[str, ...]:
        """The tier that KV is kept in, if that is not HBM."""
        return (self.tier,) if self.tier != "hbm" else ()

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        """Keep it for the time to live, counted from the end of the turn."""
        until_s = chain.gap_started_s + self.ttl_s
        return Placement(self.tier, until_s) if until_s > server.now_s else Placement("drop")

    def observe(self, event: Event) -> None:
        """Every prompt is read from the cache as far as it is there; the rest is written to it.

        What comes back after `ttl_s` is written again, be it at hand or not. A turn that is admitted again
        after a preemption is not paid for again.
        """
        if isinstance(event, GapEnded):
            session = event.chain.program_id, event.chain.session_id
            self._paid.discard(session)
            if event.gap_s >= self.ttl_s:
                self._expired.add(session)
        elif isinstance(event, TurnAdmitted):
            session = event.program_id, event.session_id
            if session in self._paid:
                return
            self._paid.add(session)
            read = 0 if session in self._expired else event.hit_tokens
            self._expired.discard(session)
            self._read += read
            self._written += event.prompt_tokens - read

    def figures(self) -> Mapping[str, float]:
        """Dollars for all prompts: as cached here, and at the plain price of input."""
        plain = self.input_price / 1e6
        return {
            "prompt_cost_usd": plain * (self._written * self.write_price + self._read * self.read_price),
            "prompt_cost_uncached_usd": plain * (self._written + self._read),
        }

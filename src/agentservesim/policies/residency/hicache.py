"""SGLang's hierarchical cache: HBM over host memory over a storage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agentservesim.policies.bounds import at_least
from agentservesim.policies.protocols import (
    CACHE,
    ChainView,
    Event,
    GapEnded,
    Placement,
    ServerView,
    TurnAdmitted,
)

SELECTIVE_HITS = 2
"""Turns that must have used a session's KV before `write_through_selective` writes it."""

CHOICES = {
    "write": ("write_through", "write_through_selective", "write_back"),
    "prefetch": ("best_effort", "wait_complete", "timeout"),
}


@dataclass
class HiCache:
    """SGLang HiCache: KV is copied to host memory and a storage, and loaded from there on a hit.

    write: when it is copied: after each turn, from the second turn on, or when HBM evicts it.
    host, storage: names of the tiers; no storage if empty. prefetch: how long a turn waits for what
    only the storage has: not at all, to the end, or `timeout_base_s` and `timeout_per_ki_token_s` for
    each 1024 tokens. What is fetched is a multiple of `page` tokens, from `prefetch_threshold` on; nothing is
    while `prefetch_share` of what the host has more room for than HBM is on its way. A hit of less than
    `load_back_threshold` tokens is computed.
    """

    write: str = "write_through"
    prefetch: str = "best_effort"
    host: str = "dram"
    storage: str = ""
    prefetch_threshold: int = 256
    page: int = 64
    timeout_base_s: float = 1.0
    timeout_per_ki_token_s: float = 0.25
    load_back_threshold: int = 10
    prefetch_share: float = 0.8

    def __post_init__(self) -> None:
        at_least(self, 0, "prefetch_threshold", "load_back_threshold", "prefetch_share")
        at_least(self, 0, "timeout_base_s", "timeout_per_ki_token_s")
        at_least(self, 1, "page")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is '{getattr(self, name)}'; it must be {' or '.join(choices)}")
        self.spill: Mapping[str, str] = {}
        if self.write == "write_back":
            self.spill = {"hbm": self.host} | ({self.host: self.storage} if self.storage else {})
        self._back_s: dict[tuple[str, str], float] = {}
        self._fetching: dict[tuple[str, str], tuple[int, int]] = {}

    @property
    def uses(self) -> tuple[str, ...]:
        """Host memory and, if it is named, the storage."""
        return (self.host, self.storage) if self.storage else (self.host,)

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        """Copy to the host, and when that is there to the storage as well."""
        unused = self.write == "write_through_selective" and chain.turns_done < SELECTIVE_HITS
        if not server.tiers or self.write == "write_back" or unused:
            return CACHE
        return Placement(self.host, copy=True, then=(self.storage,) if self.storage else ())

    def observe(self, event: Event) -> None:
        """Note when a session is back: its prefetch starts there, and has ended when the turn is admitted."""
        if isinstance(event, GapEnded):
            chain = event.chain
            self._back_s[chain.program_id, chain.session_id] = chain.gap_started_s + event.gap_s
        elif isinstance(event, TurnAdmitted):
            self._fetching.pop((event.program_id, event.session_id), None)

    def resume(self, chain: ChainView, hits: Mapping[str, int], server: ServerView) -> int:
        """Load all that the host has, and of what the storage has as much as there was time for."""
        have = hits["hbm"]
        host = hits.get(self.host, have)
        session = chain.program_id, chain.session_id
        waited_s = server.now_s - self._back_s.get(session, server.now_s)
        self._fetching.pop(session, None)
        fetched = self._fetched(hits.get(self.storage, host) - host, waited_s, server)
        tokens = host - have + fetched
        if tokens < self.load_back_threshold:
            return 0
        if fetched:
            self._fetching[session] = chain.instance, fetched
        return tokens

    def _fetched(self, tokens: int, waited_s: float, server: ServerView) -> int:
        """How many of `tokens` in the storage a turn that waited so long gets."""
        if tokens < max(self.prefetch_threshold, 1) or self._limited(server):
            return 0
        if self.prefetch == "timeout":
            limit_s = self.timeout_base_s + self.timeout_per_ki_token_s * tokens / 1024
            waited_s = max(waited_s, limit_s)
        needed_s = server.reload_s(self.storage, tokens)
        if self.prefetch == "wait_complete" or needed_s <= waited_s:
            return tokens
        return int(tokens * waited_s / needed_s) // self.page * self.page

    def _limited(self, server: ServerView) -> bool:
        """Whether as much is on its way from the storage as the host may take for that."""
        under_way = sum(tokens for instance, tokens in self._fetching.values() if instance == server.index)
        return under_way >= self.prefetch_share * (server.tier_tokens(self.host) - server.pool_tokens)

"""Continuum as released."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from agentservesim.policies.bounds import at_least
from agentservesim.policies.protocols import CACHE, ChainView, Event, GapEnded, Placement, ServerView
from agentservesim.policies.residency.gaps import RunningMean, tool_of


@dataclass
class ContinuumPreview:
    """Pins for two seconds if the tool is quick on average (Continuum's released code).

    Source: code read in two forks of the release. `threshold_s`: a tool whose gaps last longer on
    average is not pinned for. A tool never seen is; a reply without a tool call is not. Pins of at most
    `ignore_s` are not made.
    """

    pin_s: float = 2.0
    threshold_s: float = 2.0
    ignore_s: float = 0.01
    wants: ClassVar[Mapping[str, str]] = {"tools": "nothing is pinned"}
    _means: RunningMean = field(default_factory=RunningMean, init=False, repr=False)

    def __post_init__(self) -> None:
        at_least(self, 0, "pin_s", "threshold_s", "ignore_s")

    def observe(self, event: Event) -> None:
        """Learn each tool's mean gap."""
        if isinstance(event, GapEnded) and event.chain.tools:
            self._means.add(tool_of(event.chain), event.gap_s)

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        """Pin, or leave it to LRU."""
        mean_s = self._means.get(tool_of(chain)) or 0.0
        until_s = chain.gap_started_s + self.pin_s
        pin = chain.tools and mean_s <= self.threshold_s and self.pin_s > self.ignore_s
        return Placement("hbm", until_s) if pin and until_s > server.now_s else CACHE

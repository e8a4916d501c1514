"""Picking from figures per instance."""

from __future__ import annotations

from collections.abc import Sequence

from agentservesim.policies.protocols import Choice


def lowest(scores: Sequence[float]) -> Choice:
    """The instance with the lowest figure, the first of equals."""
    return Choice(scores.index(min(scores)), scores)


def highest(scores: Sequence[float]) -> Choice:
    """The instance with the highest figure, the first of equals."""
    return Choice(scores.index(max(scores)), scores)

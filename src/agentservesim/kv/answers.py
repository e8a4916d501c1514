"""Answers to lookups that are asked again and again, each kept for as long as it is true."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from agentservesim.model import Segment


class Answers:
    """How many blocks each asker was told are cached, until one of the segments that says so changes.

    `askers` are those who rely on a segment.
    """

    def __init__(self) -> None:
        self._told: dict[Hashable, tuple[int, Sequence[Segment]]] = {}
        self.askers: dict[Segment, set[Hashable]] = {}

    def get(self, asker: Hashable) -> int | None:
        """What an asker was told, if that is still so."""
        told = self._told.get(asker)
        return told[0] if told is not None else None

    def keep(self, asker: Hashable, blocks: int, segments: Sequence[Segment]) -> None:
        """An asker without an answer is told of blocks in these segments, the last of which has no more."""
        self._told[asker] = blocks, segments
        for segment in segments:
            askers = self.askers.get(segment)
            if askers is None:
                self.askers[segment] = {asker}
            else:
                askers.add(asker)

    def changed(self, segment: Segment) -> None:
        """A segment gained or lost blocks, or somebody is about to write into it."""
        askers = self.askers.get(segment)
        if askers is not None:
            for asker in tuple(askers):
                self.forget(asker)

    def forget(self, asker: Hashable) -> None:
        """An asker will not ask again."""
        told = self._told.pop(asker, None)
        for segment in told[1] if told is not None else ():
            askers = self.askers[segment]
            askers.discard(asker)
            if not askers:
                del self.askers[segment]

"""Content identity from token ids: sequences with an equal beginning share that part of their path."""

from __future__ import annotations

from collections.abc import Sequence

from agentservesim.model import Path, Segment


class TokenTree:
    """Token sequences as paths: the prefix tree of all sequences that were placed."""

    def __init__(self) -> None:
        self._tokens: dict[Segment, list[int]] = {}
        self._children: dict[tuple[Segment | None, int, int], Segment] = {}

    def place(self, tokens: Sequence[int]) -> Path:
        """The path of a sequence; equal prefixes get equal paths."""
        path: list[tuple[Segment, int]] = []
        segment, at = None, 0
        while at < len(tokens):
            child = self._children.get((segment, at, tokens[at]))
            if child is None:
                child = Segment(at, segment)
                self._children[segment, at, tokens[at]] = child
                self._tokens[child] = list(tokens[at:])
            have = self._tokens[child]
            start, end = at, min(len(tokens), at + len(have))
            if list(tokens[start:end]) == have[: end - start]:
                at = end
                if at < len(tokens) and (child, at, tokens[at]) not in self._children:
                    have.extend(tokens[at:])
                    at = len(tokens)
            else:
                while tokens[at] == have[at - start]:
                    at += 1
            path.append((child, at))
            segment = child
        return tuple(path)

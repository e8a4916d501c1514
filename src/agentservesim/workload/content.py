"""Content identity: from what a trace knows about its prompts to paths in a prefix tree.

A place in the tree is a `Spot`: a segment and the token position reached in it. Content grows from
a spot: it stays in the segment where nothing else has gone on from there yet, and otherwise opens a
child. A linear program therefore stays in one segment however long it gets.

A reply is placed late, when the first turn that sends it back arrives. It then lies in the way of
that turn; a reply that nobody sends back is a leaf of its own and does not break up the prompts.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agentservesim.model import Path, Segment, Turn, first_tokens

Spot = tuple[Segment | None, int]
"""A segment and the position (exclusive) reached in it; `(None, 0)` is the root, before any token."""

ROOT: Spot = (None, 0)


@dataclass(slots=True)
class Placed:
    """A turn's prompt in the tree: where it ends, and how long it is with its reply.

    `reply` is the segment that holds the reply, once some turn has sent the reply back.
    """

    spot: Spot
    total: int
    reply: Segment | None = None

    @property
    def prompt(self) -> int:
        """Tokens in the prompt."""
        return self.spot[1]


class ContentTree:
    """Segments, how far each is used, and the path that leads to each."""

    def __init__(self) -> None:
        self._used: dict[Segment, int] = {}
        self._lead: dict[Segment, Path] = {}

    def grow(self, spot: Spot, end: int) -> Spot:
        """New content from `spot` up to position `end`."""
        segment, position = spot
        if end == position:
            return spot
        if segment is None or self._used[segment] != position:
            segment = self._branch(spot)
        self._used[segment] = end
        return segment, end

    def at(self, placed: Placed, position: int) -> Spot:
        """The spot `position` tokens into a turn: in its prompt, or in its reply (which is then placed)."""
        if position <= placed.prompt:
            return cut(placed.spot, position)
        if placed.reply is None:
            placed.reply = self.grow(placed.spot, placed.total)[0]
        return placed.reply, position

    def path(self, placed: Placed) -> Path:
        """The path of prompt and reply."""
        segment, end = self.at(placed, placed.total)
        assert segment is not None
        return (*self._lead[segment], (segment, end))

    def spots(self, spot: Spot) -> Path:
        """The path that ends at `spot`."""
        segment, end = spot
        return () if segment is None else (*self._lead[segment], (segment, end))

    def _branch(self, spot: Spot) -> Segment:
        segment, position = spot
        child = Segment(position, segment)
        self._lead[child] = self.spots(spot)
        return child


def cut(spot: Spot, position: int) -> Spot:
    """The spot `position` tokens from the root on the way to `spot`."""
    segment, end = spot
    if position > end:
        raise ValueError(f"position {position} lies beyond the end, {end}")
    while segment is not None and segment.start >= position:
        segment = segment.parent
    return segment, position


def unlimited_hits(turns: Iterable[Turn]) -> Iterator[int]:
    """For each turn, the leading prompt tokens that some turn before it has had, in prompt or reply."""
    seen: dict[Segment, int] = {}
    for turn in turns:
        hit = 0
        for segment, end in turn.path:
            known = seen.get(segment, 0)
            hit = max(hit, min(known, end))
            if known < end:
                break
        yield min(hit, turn.prompt_tokens)
        for segment, end in turn.path:
            seen[segment] = max(end, seen.get(segment, 0))


def detached(path: Path, prompt: int) -> Path:
    """The path of a turn whose reply is content of its own, whatever later turns send back."""
    kept = first_tokens(path, prompt)
    return (*kept, (Segment(prompt, kept[-1][0]), path[-1][1]))


class Recent:
    """Finds, in the latest session that has a prompt of at least n tokens, the first such prompt.

    The latest session is the likeliest to share content, and its first prompt that is long enough the
    likeliest to be computed in time. Sessions that are neither later nor longer than another are dropped.
    """

    def __init__(self) -> None:
        self._lengths: list[int] = []  # longest prompts, negated, so ascending; latest session last
        self._sessions: list[list[Placed]] = []

    def add(self, session: list[Placed]) -> None:
        """Note the prompt that was appended to `session` last."""
        longest = session[-1].prompt
        while self._lengths and -self._lengths[-1] <= longest:
            self._lengths.pop()
            self._sessions.pop()
        self._lengths.append(-longest)
        self._sessions.append(session)

    def find(self, tokens: int) -> Placed | None:
        """A prompt of at least `tokens` tokens, if there is one."""
        after = bisect_right(self._lengths, -tokens)
        if not after:
            return None
        return next(placed for placed in self._sessions[after - 1] if placed.prompt >= tokens)

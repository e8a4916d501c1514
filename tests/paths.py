"""Contents for tests: paths grown and forked from one another, and their tokens."""

from __future__ import annotations

from agentservesim.model import Path, Segment, Turn


def root(length: int) -> Path:
    """Content that shares nothing with any other."""
    return ((Segment(), length),)


def cut(path: Path, length: int) -> Path:
    """The first `length` tokens (at least 1) of a path."""
    return tuple((segment, min(end, length)) for segment, end in path if segment.start < length)


def longer(path: Path, length: int) -> Path:
    """The path continued in its last segment up to `length` tokens in all."""
    segment, end = path[-1]
    return (*path[:-1], (segment, max(end, length)))


def fork(path: Path, at: int, length: int) -> Path:
    """Content that leaves `path` behind `at` tokens (at least 1) and is `length` long (more than `at`)."""
    stem = cut(path, at)
    return (*stem, (Segment(at, stem[-1][0]), length))


def tokens_of(path: Path) -> list[tuple[Segment, int]]:
    """The tokens: each is its segment and its position."""
    return [(segment, i) for segment, end in path for i in range(segment.start, end)]


def turn(
    name: str, path: Path, prompt: int, *, index: int = 0, priority: int = 0, session: str = "s"
) -> Turn:
    """A turn of this content, of which `prompt` tokens are the prompt."""
    return Turn(
        id=name,
        index=index,
        session_id=session,
        prompt_tokens=prompt,
        output_tokens=path[-1][1] - prompt,
        path=path,
        priority=priority,
    )


def common_tokens(one: Path, other: Path) -> int:
    """Tokens that two contents have in common at their start."""
    shared = 0
    for (mine, end), (theirs, their_end) in zip(one, other, strict=False):
        if mine is not theirs:
            break
        shared = min(end, their_end)
        if end != their_end:
            break
    return shared

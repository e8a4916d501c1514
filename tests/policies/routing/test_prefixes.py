"""The index of prefixes that routers keep: by hand, and against one that knows every token."""

from __future__ import annotations

from math import inf
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from agentservesim.model import Path, Segment
from agentservesim.policies.routing.prefixes import PrefixIndex

TRUNK = Segment()
FORK = Segment(30, TRUNK)


def test_a_match_ends_where_content_parts() -> None:
    index = PrefixIndex(2)
    index.insert(0, ((TRUNK, 100),), 0.0)
    index.insert(1, ((TRUNK, 30), (FORK, 50)), 0.0)
    assert index.tokens == [100, 50]
    assert index.match(((TRUNK, 80),), 0.0) == [80, 30]
    assert index.match(((TRUNK, 30), (FORK, 90)), 0.0) == [30, 50]
    assert index.match(((Segment(), 9),), 0.0) == [0, 0]


def test_who_uses_a_prefix_keeps_that_much_young() -> None:
    """100 tokens at 0 s, 40 of them again at 60 s; after 120 s only those 40 count."""
    index = PrefixIndex(1, ttl_s=100)
    index.insert(0, ((TRUNK, 100),), 0.0)
    index.insert(0, ((TRUNK, 40),), 60.0)
    whole: Path = ((TRUNK, 100),)
    assert [index.match(whole, at)[0] for at in (99.0, 100.0, 101.0, 160.0, 161.0)] == [100, 100, 40, 40, 0]


def test_the_least_recently_used_is_forgotten_suffix_first() -> None:
    """80 tokens fit: 60 and 20 in a fork at 30. Ten more of the fork push out ten of what is oldest then,
    which is the end of the trunk."""
    index = PrefixIndex(1, capacity=80)
    index.insert(0, ((TRUNK, 60),), 0.0)
    index.insert(0, ((TRUNK, 30), (FORK, 50)), 1.0)
    index.evict(0)
    assert index.tokens == [80]
    index.insert(0, ((TRUNK, 30), (FORK, 60)), 2.0)
    index.evict(0)
    assert index.tokens == [80]
    assert index.match(((TRUNK, 60),), 2.0) == [50]
    assert index.match(((TRUNK, 30), (FORK, 60)), 2.0) == [60]


@given(st.integers(0, 10_000))
def test_it_equals_an_index_of_single_tokens(seed: int) -> None:
    """With an index that has the time of the last use of every token."""
    random = Random(seed)
    ttl_s, capacity = random.choice([inf, 3.0]), random.choice([None, 40])
    segments = [Segment()]
    for _ in range(4):
        parent = random.choice(segments)
        segments.append(Segment(parent.start + random.randint(1, 9), parent))

    def path() -> Path:
        at: Segment | None = random.choice(segments)
        assert at is not None
        steps, end = [], at.start + random.randint(1, 12)
        while at is not None:
            steps.append((at, end))
            end, at = at.start, at.parent
        return tuple(reversed(steps))

    def tokens(of: Path) -> list[tuple[Segment, int]]:
        return [(segment, at) for segment, end in of for at in range(segment.start, end)]

    index, used = PrefixIndex(1, ttl_s, capacity), dict[tuple[Segment, int], float]()
    for now in range(20):
        one = path()
        known = [token in used and used[token] >= now - ttl_s for token in tokens(one)]
        assert index.match(one, now) == [known.index(False) if False in known else len(known)]
        index.insert(0, one, now)
        used.update(dict.fromkeys(tokens(one), float(now)))
        index.evict(0)
        order = sorted(used, key=lambda token: (used[token], -token[1]))
        for token in order[: max(len(used) - (capacity or len(used)), 0)]:
            del used[token]
        assert index.tokens[0] == len(used)

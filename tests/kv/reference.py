"""vLLM's block pool written down block by block, to test the pool of extents against.

A plain reading of the rules R1 to R7 and R18 of the oracle's description: a list of free blocks, a
dictionary from content to the blocks that hold it, a list of blocks for each request. Slow and plain on
purpose. A token is any hashable; a block's content is the tuple of all tokens up to its end.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

Tokens = Sequence[Hashable]
Content = tuple[Hashable, ...]


@dataclass(eq=False)
class Block:
    """One block: what it holds (None while it is not hashed) and how many requests use it."""

    content: Content | None = None
    refs: int = 0


@dataclass(eq=False)
class Owner:
    """A request: its tokens (reply included), its blocks in order, how many of them are hashed."""

    tokens: Tokens
    blocks: list[Block] = field(default_factory=list)
    hashed: int = 0


class ReferencePool:
    """`evicted` lists the contents of evicted blocks in order."""

    def __init__(self, num_blocks: int, block_size: int, caching: bool, blanks_first: bool) -> None:
        self.block_size = block_size
        self.caching = caching
        self.blanks_first = blanks_first
        self.queue = [Block() for _ in range(num_blocks - 1)]  # R1: one is the null block
        self.cached: dict[Content, list[Block]] = {}
        self.evicted: list[Content] = []

    @property
    def free(self) -> int:
        """Blocks that can be taken."""
        return len(self.queue)

    def content(self, tokens: Tokens, block: int) -> Content:
        """What names a full block: all tokens up to its end."""
        return tuple(tokens[: (block + 1) * self.block_size])

    def lookup(self, tokens: Tokens, max_blocks: int) -> list[Block]:
        """Whole blocks from the start, of duplicates the oldest (R2, whose limit is the caller's; R3)."""
        found: list[Block] = []
        while self.caching and len(found) < max_blocks:
            copies = self.cached.get(self.content(tokens, len(found)))
            if not copies:
                break
            found.append(copies[0])
        return found

    def acquire(self, owner: Owner, found: list[Block]) -> None:
        """Use cached blocks; those that nobody used leave the free queue (R7)."""
        for block in found:
            if block.refs == 0:
                self.queue.remove(block)
            block.refs += 1
        owner.blocks = list(found)
        owner.hashed = len(found)

    def take(self, owner: Owner, count: int) -> None:
        """New blocks from the head of the queue; only now is their old content lost (R4)."""
        for _ in range(count):
            block = self.queue.pop(0)
            if block.content is not None:
                self.cached[block.content].remove(block)
                self.evicted.append(block.content)
                block.content = None
            block.refs = 1
            owner.blocks.append(block)

    def store(self, owner: Owner, upto: int) -> None:
        """Full blocks can be hit from now on (R5); up to which block is the caller's choice (R18)."""
        if not self.caching:
            return
        for index in range(owner.hashed, upto):
            block = owner.blocks[index]
            block.content = self.content(owner.tokens, index)
            self.cached.setdefault(block.content, []).append(block)
        owner.hashed = max(owner.hashed, upto)

    def release(self, owner: Owner) -> None:
        """Tail first; never hashed ones to the front of the queue, or in older releases to its back (R6)."""
        front: list[Block] = []
        for block in reversed(owner.blocks):
            block.refs -= 1
            if block.refs == 0:
                (front if block.content is None and self.blanks_first else self.queue).append(block)
        self.queue[:0] = front
        owner.blocks, owner.hashed = [], 0

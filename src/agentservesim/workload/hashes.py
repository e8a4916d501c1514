"""Places prompts whose blocks are named by hash ids (or whose tokens are given: blocks of one token).

An id stands for a full block *and* all that precedes it. The id of a last, partial block stands for
that tail only: it makes two prompts equal when both the id and the length of the tail are equal.
How a tail goes on is not in the ids; a turn that continues another one (same session, all full
blocks of the earlier prompt, and no shorter) is taken to begin with the whole earlier prompt, and,
where replies are reusable and there is room, with the earlier reply. Where ids contradict this,
the ids win.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np

from agentservesim.model import Segment
from agentservesim.workload.content import ContentTree, Placed, Spot, cut


@dataclass(slots=True)
class _Run:
    """Ids of the consecutive blocks that end inside one segment, from block `first`."""

    first: int
    ids: array[int]

    def covers(self, block: int) -> bool:
        return 0 <= block - self.first < len(self.ids)


class HashIndex:
    """Finds the content that hash ids name in a tree, for one block size and one scope of ids."""

    def __init__(self, tree: ContentTree, block_size: int, reuse_output: bool) -> None:
        self._tree = tree
        self._size = block_size
        self._reuse = reuse_output
        self._runs: dict[Segment, _Run] = {}
        self._next: dict[tuple[Segment | None, int, int], Segment] = {}
        self._tails: dict[tuple[Segment | None, int, int, int], Segment] = {}

    def place(self, ids: array[int], prompt: int, output: int, previous: Placed | None) -> Placed:
        """Place a prompt of `prompt` tokens that goes on from the turn `previous`, if there is one.

        `ids` has one id for each full block, then possibly one for the partial block.
        """
        full = prompt // self._size
        owner, known = self._walk(ids, full)
        tail = (owner, full, ids[full], prompt % self._size) if len(ids) > full else None
        same = self._tails.get(tail) if tail is not None and known == full else None
        if same is not None:
            return Placed((same, prompt), prompt + output)
        spot: Spot = (owner, known * self._size)
        if previous is not None:
            spot = self._continued(spot, known, prompt, previous)
        spot = self._tree.grow(spot, prompt)
        owner = self._register(ids, owner, known, full, spot)
        if tail is not None and spot[0] is not None:
            self._tails[(owner, *tail[1:])] = spot[0]
        return Placed(spot, prompt + output)

    def _walk(self, ids: array[int], full: int) -> tuple[Segment | None, int]:
        """The segment in which the last known block of `ids` ends, and the number of known blocks."""
        values = np.frombuffer(ids, np.int64)[:full] if full else np.empty(0, np.int64)
        owner: Segment | None = None
        block = 0
        while block < full:
            run = self._runs.get(owner) if owner is not None else None
            if run is not None and run.covers(block):
                block += _common(np.frombuffer(run.ids, np.int64)[block - run.first :], values[block:])
                if block == full:
                    break
            following = self._next.get((owner, block, ids[block]))
            if following is None:
                break
            owner = following
        return owner, block

    def _continued(self, spot: Spot, known: int, prompt: int, previous: Placed) -> Spot:
        """How far the prompt runs along the turn before it, where that is further than `spot`."""
        before = previous.prompt
        if before // self._size > known or prompt < before:
            return spot
        if cut(previous.spot, min(spot[1], before)) != cut(spot, min(spot[1], before)):
            return spot
        target = previous.total if self._reuse and prompt >= previous.total else before
        if target <= spot[1]:
            return spot
        if spot[1] > before and (previous.reply is None or previous.reply is not spot[0]):
            return spot
        if target >= (known + 1) * self._size and self._contradicts(previous, known):
            target = max(spot[1], before)
        return self._tree.at(previous, target)

    def _contradicts(self, previous: Placed, block: int) -> bool:
        """Whether `block`, which our prompt names differently, has a name along `previous` already."""
        if previous.reply is None:
            return False
        owner = cut((previous.reply, previous.total), (block + 1) * self._size)[0]
        run = self._runs.get(owner) if owner is not None else None
        return run is not None and run.covers(block)

    def _register(
        self, ids: array[int], owner: Segment | None, known: int, full: int, spot: Spot
    ) -> Segment | None:
        """Enter the new blocks, each in the segment in which it ends. Returns the last one's segment."""
        if known == full:
            return owner
        for segment, end in self._tree.spots(spot):
            upto = min(full, end // self._size)
            if upto <= known:
                continue
            run = self._runs.get(segment)
            if run is None:
                self._runs[segment] = _Run(known, ids[known:upto])
            elif run.first + len(run.ids) == known:
                run.ids.extend(ids[known:upto])
            else:
                raise AssertionError("blocks of a segment are entered in order")
            if segment is not owner:
                self._next[owner, known, ids[known]] = segment
            owner, known = segment, upto
        return owner


def _common(a: np.ndarray, b: np.ndarray) -> int:
    """Number of leading elements that two arrays have in common."""
    n = min(len(a), len(b))
    different = a[:n] != b[:n]
    first = int(different.argmax()) if n else 0
    return first if n and different[first] else n

"""The decode rows of an instance, advanced together.

Between two decision points every decode row computes one token a step. So the rows share a clock,
a row stores only the difference between its token count and the clock, and a step of all rows is
one addition. What a step needs to know of the rows is kept as sums:

* a histogram of contexts over the cells of the step-time model, for the duration of a step;
* a histogram of block phases, for the number of blocks that the next steps take;
* the rows in order of length, where the step-time model looks at the longest;
* two heaps, for the clocks at which the next row ends and the next row enters another cell.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from heapq import heappop, heappush

from agentservesim.cost.base import Batch
from agentservesim.engine.request import Request

NEVER = 1 << 62


class DecodeRows:
    """Requests that decode in lockstep.

    `clock` counts the steps they took; `end` is what it shows after the step with which the next row
    ends. `version` counts the changes of which rows there are and in which cells. `ends_ps`, kept by the
    clock of a pipeline, is when the step they took last leaves it.
    """

    __slots__ = (
        "_bases",
        "_block_size",
        "_borders",
        "_by_length",
        "_ends",
        "_knots",
        "_longest",
        "_phases",
        "clock",
        "count",
        "counts",
        "end",
        "ends_ps",
        "version",
    )

    def __init__(self, knots: tuple[int, ...], block_size: int, longest: int = 0) -> None:
        self.clock = 0
        self.count = 0
        self.end = NEVER
        self.version = 0
        self.ends_ps = 0
        self.counts = [0] * len(knots)
        self._knots = knots
        self._bases = [0] * len(knots)
        self._longest = longest
        self._by_length: list[int] = []
        self._block_size = block_size
        self._phases = [0] * block_size
        self._ends: list[tuple[int, int, Request]] = []
        self._borders: list[tuple[int, int, Request]] = []

    def contexts(self, ahead: int = 0) -> list[int]:
        """Sum of the rows' contexts per cell, for the step taken last or one further ahead."""
        clock = self.clock + ahead
        if len(self._bases) == 1:
            return [self._bases[0] + self.counts[0] * clock]
        return [base + count * clock for base, count in zip(self._bases, self.counts)]  # noqa: B905

    def longest(self, ahead: int = 0) -> list[int]:
        """Contexts of the longest rows, descending, as many as are looked at, for the same step."""
        clock = self.clock + ahead
        return [clock - shortfall for shortfall in self._by_length[: self._longest]]

    def batch(self, chunks: Sequence[tuple[int, int]] = (), joining: int = 0, ahead: int = 0) -> Batch:
        """The step that these rows took last, or one further ahead, with chunks of prefill, so many of which
        end one."""
        longest = self.longest(ahead) if self._longest else ()
        count = self.count
        return Batch(chunks, count, self.counts, self.contexts(ahead), count + joining, longest)

    def computed(self, request: Request) -> int:
        """Tokens of a row in the KV cache once its last scheduled step has run."""
        return request.base + self.clock

    def add(self, request: Request) -> None:
        """A request whose known tokens are all computed takes one token a step from now on."""
        base = request.base = request.computed - self.clock
        request.rows = self
        self.count += 1
        self.version += 1
        self._phases[base % self._block_size] += 1
        # Its next step attends to one token more than is computed now.
        cell = request.cell = bisect_right(self._knots, request.computed + 1) - 1
        self.counts[cell] += 1
        self._bases[cell] += base
        if self._longest:
            insort(self._by_length, -base)
        end = request.total - 1 - base
        heappush(self._ends, (end, request.place, request))
        if end < self.end:
            self.end = end
        if cell + 1 < len(self._knots):
            heappush(self._borders, (self._knots[cell + 1] - base, request.place, request))

    def remove(self, request: Request) -> None:
        """Take a row out; its `computed` is brought up to date."""
        base = request.base
        request.computed = base + self.clock
        request.rows = None
        self.count -= 1
        self.version += 1
        self._phases[base % self._block_size] -= 1
        self.counts[request.cell] -= 1
        self._bases[request.cell] -= base
        if self._longest:
            del self._by_length[bisect_left(self._by_length, -base)]
        if request.total - 1 - base == self.end:
            self._find_end()

    def advance(self, steps: int) -> None:
        """Every row takes `steps` tokens. No row may end, or enter another cell, before the last."""
        self.clock = clock = self.clock + steps
        borders = self._borders
        while borders and borders[0][0] <= clock:
            at, _, request = heappop(borders)
            cell, base = request.cell + 1, request.base
            if request.rows is not self or cell == len(self._knots) or at != self._knots[cell] - base:
                continue
            self.counts[cell - 1] -= 1
            self._bases[cell - 1] -= base
            self.counts[cell] += 1
            self._bases[cell] += base
            self.version += 1
            request.cell = cell
            if cell + 1 < len(self._knots):
                heappush(borders, (self._knots[cell + 1] - base, request.place, request))

    def pop_ended(self) -> list[Request]:
        """Rows whose last token was scheduled with the step just taken, in running order."""
        ends, clock, ended = self._ends, self.clock, []
        while ends and ends[0][0] <= clock:
            at, _, request = heappop(ends)
            if request.rows is self and at == request.total - 1 - request.base:
                self.remove(request)
                ended.append(request)
        return ended

    def _find_end(self) -> None:
        ends = self._ends
        while ends:
            at, _, request = ends[0]
            if request.rows is self and at == request.total - 1 - request.base:
                self.end = at
                return
            heappop(ends)
        self.end = NEVER

    def next_border(self) -> int:
        """Clock after the step with which the next row enters another cell (or earlier)."""
        return self._borders[0][0] if self._borders else NEVER

    def next_blocks(self) -> int:
        """Blocks that the rows take in the next step."""
        return self._phases[-self.clock % self._block_size]

    def blocks_for(self, steps: int) -> int:
        """Blocks that the rows take in the next `steps` steps."""
        size = self._block_size
        cycles, rest = divmod(steps, size)
        blocks = cycles * self.count
        if rest:
            # Phases are met in descending order, from that of the rows that are at a border now.
            first = -self.clock % size + 1
            phases = self._phases
            blocks += sum(phases[max(first - rest, 0) : first])
            if rest > first:
                blocks += sum(phases[first - rest :])
        return blocks

    def fit(self, steps: int, free: int) -> bool:
        """Whether `free` blocks are enough for the next `steps` steps."""
        most = self.count * -(-steps // self._block_size)
        return most <= free or self.blocks_for(steps) <= free

    def steps_that_fit(self, free: int, most: int) -> int:
        """The largest number of steps, at most `most`, whose blocks are not more than `free`."""
        if self.count == 0:
            return most
        size, phases = self._block_size, self._phases
        cycles = min(free // self.count, most // size)
        free -= cycles * self.count
        steps = cycles * size
        start = -self.clock
        while steps < most:
            free -= phases[(start - steps) % size]
            if free < 0:
                break
            steps += 1
        return steps

"""The Tool Simulator: turns tool calls into gaps.

Without a limit on workers, all calls of a turn start at their offsets and the gap is known at once.
With a limit, calls queue for a worker in the order in which they want to start.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from random import Random
from statistics import NormalDist

from agentservesim.fleet.config import Distribution, ToolsConfig
from agentservesim.kernel import Kernel
from agentservesim.model import Turn, to_ps

_NORMAL = NormalDist()


def draw_s(distribution: Distribution, uniform: float) -> float:
    """The duration at quantile `uniform` (in (0, 1)), in seconds."""
    median = distribution.median_s
    if distribution.kind == "lognormal" and median > 0:
        median *= math.exp(distribution.sigma * _NORMAL.inv_cdf(uniform))
    elif distribution.kind == "exponential":
        median *= -math.log1p(-uniform) / math.log(2)
    return min(median, distribution.max_s)


class ToolSimulator:
    """Runs the tool calls of turns. A call's duration depends on the seed and its turn, not on the run."""

    def __init__(self, config: ToolsConfig, kernel: Kernel, seed: int) -> None:
        self._config = config
        self._kernel = kernel
        self._seed = seed
        self._free_workers = config.max_workers
        self._queue: deque[_Call] = deque()

    @property
    def limited(self) -> bool:
        """Whether calls may have to wait for a worker."""
        return self._free_workers is not None

    def duration_ps(self, turn: Turn, index: int) -> int:
        """How long call `index` of a turn takes."""
        call = turn.tools[index]
        if self._config.durations == "recorded" and call.duration_ps is not None:
            return call.duration_ps
        distribution = self._config.by_tool.get(call.name, self._config.default)
        uniform = Random(f"tool/{self._seed}/{turn.id}/{index}").random()
        return to_ps(draw_s(distribution, max(uniform, 1e-12)))

    def span_ps(self, turn: Turn, recorded_ps: int | None) -> int:
        """From a turn's last token to the end of its last call, with a worker for each call.

        `recorded_ps` is the recorded span, taken where durations are; 0 is of those who wait for no call.
        """
        calls = turn.tools
        if recorded_ps is not None and (not recorded_ps or not calls or self._config.durations == "recorded"):
            return recorded_ps
        return max((calls[i].offset_ps + self.duration_ps(turn, i) for i in range(len(calls))), default=0)

    def run(self, turn: Turn, recorded_ps: int | None, done: Callable[[], None]) -> None:
        """Run a turn's calls, from now, on the limited workers; then call `done`.

        With a worker for each call they take as long as `span_ps` says.
        """
        calls = self._calls(turn, recorded_ps)
        if not calls:
            done()
            return
        batch = _Batch(len(calls), done)
        for offset_ps, duration_ps in calls:
            self._kernel.after(offset_ps, self._want, _Call(duration_ps, batch))

    def _calls(self, turn: Turn, recorded_ps: int | None) -> list[tuple[int, int]]:
        """(offset, duration) of the calls to run.

        Where a span is recorded, calls are cut to it and the last one to end fills it. Calls of which
        the trace knows no more than the span are one call of that length.
        """
        calls = [(call.offset_ps, self.duration_ps(turn, i)) for i, call in enumerate(turn.tools)]
        if recorded_ps is None or (calls and self._config.durations == "drawn"):
            return calls
        if not calls or any(call.duration_ps is None for call in turn.tools):
            return [(0, recorded_ps)]
        inside = [(offset, min(duration, recorded_ps - offset)) for offset, duration in calls]
        inside = [call if call[1] >= 0 else (recorded_ps, 0) for call in inside]
        last = max(range(len(inside)), key=lambda i: sum(inside[i]))
        inside[last] = inside[last][0], recorded_ps - inside[last][0]
        return inside

    def _want(self, call: _Call) -> None:
        self._queue.append(call)
        self._start()

    def _start(self) -> None:
        assert self._free_workers is not None
        while self._queue and self._free_workers:
            self._free_workers -= 1
            call = self._queue.popleft()
            self._kernel.after(call.duration_ps, self._end, call)

    def _end(self, call: _Call) -> None:
        assert self._free_workers is not None
        self._free_workers += 1
        self._start()
        call.batch.left -= 1
        if call.batch.left == 0:
            call.batch.done()


class _Batch:
    """The calls of one turn; `left` are still to end."""

    __slots__ = ("done", "left")

    def __init__(self, left: int, done: Callable[[], None]) -> None:
        self.left = left
        self.done = done


class _Call:
    __slots__ = ("batch", "duration_ps")

    def __init__(self, duration_ps: int, batch: _Batch) -> None:
        self.duration_ps = duration_ps
        self.batch = batch

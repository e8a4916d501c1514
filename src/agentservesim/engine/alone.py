"""How long a turn takes by itself: the reference that slowdowns are measured against."""

from __future__ import annotations

from bisect import bisect_right

from agentservesim.cost.base import Batch, StepTime
from agentservesim.engine.config import EngineConfig, rules_of


class Alone:
    """An idle instance that serves one turn after another, each from its arrival to its last token.

    It takes the steps that the scheduler would decide for a lone request: the prompt in chunks of the token
    budget, then one token a step. `frontend_ps` is the way in and out together.
    """

    def __init__(self, config: EngineConfig, step_time: StepTime, frontend_ps: int = 0) -> None:
        cap = 0 if rules_of(config).lone_uncapped else config.long_prefill_token_threshold
        self._chunk = min(cap or config.max_num_batched_tokens, config.max_num_batched_tokens)
        self._block = config.block_size if config.enable_prefix_caching else 0
        self._step_time = step_time
        self._frontend_ps = frontend_ps
        self._no_rows = [0] * len(step_time.knots)
        self._before = [0]
        self._first: list[int] = []
        self._growth: list[int] = []

    def turn_ps(self, prompt: int, known: int, output: int) -> int:
        """Time of a turn, in picoseconds, whose first `known` prompt tokens were sent before.

        Full blocks of them are cached, but never the whole prompt (vLLM computes its last token).
        """
        cached = min(known, prompt - 1) // self._block * self._block if self._block else 0
        decode_ps = self._decode_ps(prompt + output - 1) - self._decode_ps(prompt)
        return self._frontend_ps + self._prefill_ps(cached, prompt) + decode_ps

    def _prefill_ps(self, start: int, end: int) -> int:
        total = 0
        for at in range(start, end, self._chunk):
            new = min(self._chunk, end - at)
            batch = Batch(((new, at),), 0, self._no_rows, self._no_rows, int(at + new == end))
            total += self._step_time.step_ps(batch)
        return total

    def _decode_ps(self, context: int) -> int:
        """All decode steps of one row up to this context: in each cell an arithmetic series."""
        cell = bisect_right(self._step_time.knots, context) - 1
        while len(self._first) <= cell:
            self._price_next_cell()
        steps = context - max(self._step_time.knots[cell], 1) + 1
        return (
            self._before[cell] + steps * self._first[cell] + self._growth[cell] * (steps * (steps - 1) // 2)
        )

    def _price_next_cell(self) -> None:
        model, cell = self._step_time, len(self._first)
        start = max(model.knots[cell], 1)
        batch = Batch.of(model.knots, contexts=[start])
        first, growth = model.step_ps(batch), model.growth_ps(batch)
        self._first.append(first)
        self._growth.append(growth)
        if cell + 1 < len(model.knots):
            steps = model.knots[cell + 1] - start
            self._before.append(self._before[-1] + steps * first + growth * (steps * (steps - 1) // 2))

"""Step time as a sum of six terms, with coefficients fitted to a real engine's step log.

    step = base + token * new tokens + chunk * chunks + pair * (query, key) pairs of the chunks
         + row * decode rows + context * tokens the decode rows attend to

No coefficient is negative, so that time falls with nothing. The terms are those of Vidur's and
InferCept's linear step models; attention is summed row by row.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from agentservesim.cost.base import Batch
from agentservesim.cost.layers import attended_pairs
from agentservesim.model import to_ps


class Coefficients(BaseModel):
    """Seconds that each unit of a step takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_s: float = Field(gt=0.0, le=10.0, description="Every step.")
    token_s: float = Field(0.0, ge=0.0, le=10.0, description="A prompt token that is computed.")
    chunk_s: float = Field(0.0, ge=0.0, le=10.0, description="A request that computes prompt tokens.")
    pair_s: float = Field(0.0, ge=0.0, le=1.0, description="A prompt token and a token that it attends to.")
    row_s: float = Field(0.0, ge=0.0, le=10.0, description="A request that decodes.")
    context_s: float = Field(0.0, ge=0.0, le=1.0, description="A token that a decoding request attends to.")


def terms(chunks: Sequence[tuple[int, int]], contexts: Sequence[int]) -> tuple[int, int, int, int, int, int]:
    """What the coefficients are multiplied with, in their order."""
    return (
        1,
        sum(new for new, _ in chunks),
        len(chunks),
        sum(attended_pairs(new, history) for new, history in chunks),
        len(contexts),
        sum(contexts),
    )


class Linear:
    """The `StepTime` of six coefficients; `scale` is the machine's speed."""

    knots = (0,)
    longest = 0

    def __init__(self, coefficients: Coefficients, scale: float = 1.0) -> None:
        factors = [to_ps(value * scale) for value in coefficients.model_dump().values()]
        self._base, self._token, self._chunk, self._pair, self._row, self._context = factors

    def step_ps(self, batch: Batch) -> int:
        """Duration of one step in picoseconds."""
        time = max(1, self._base) + self._row * batch.rows + self._context * sum(batch.contexts)
        if batch.chunks:
            _, tokens, chunks, pairs, _, _ = terms(batch.chunks, ())
            time += self._token * tokens + self._chunk * chunks + self._pair * pairs
        return time

    def growth_ps(self, batch: Batch) -> int:
        """Every row attends to one token more."""
        return self._context * batch.rows

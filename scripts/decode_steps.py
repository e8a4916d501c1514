"""Times of decode steps, counted exactly in a recorded run without preemptions, of requests alone.

Two requests whose first tokens came out of the same step, the second of which wrote n tokens more, ended
n steps apart. Where no prompt was computed between their ends, these were n steps of decode rows alone.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from agentservesim.cost.base import Batch, StepTime
from agentservesim.validation import Recording

FEWEST, EVERY = 30, 4
"""Fewer steps between two ends are not counted; ours are priced at every so many."""


@dataclass(frozen=True)
class Stretch:
    """Steps of decode rows alone: when, how many, rows at the end, longest context, milliseconds a step."""

    start_s: float
    steps: int
    rows: int
    longest: int
    real_ms: float
    ours_ms: float


def stretches(run: Recording, step_time: StepTime) -> list[Stretch]:
    """All stretches of a run of one engine that recorded when requests were scheduled, by time."""
    scheduled = run.arrival if run.scheduled is None else run.scheduled
    together = defaultdict(list)
    for index, first in enumerate(run.first_token):
        together[round(float(first), 4)].append(index)
    found = []
    for group in together.values():
        for one, other in pairwise(sorted(group, key=lambda index: float(run.last_token[index]))):
            start, end = float(run.last_token[one]), float(run.last_token[other])
            steps = int(run.output_tokens[other] - run.output_tokens[one])
            if steps >= FEWEST and not ((run.first_token > start) & (scheduled < end)).any():
                found.append(_stretch(run, step_time, start, end, steps))
    return sorted(found, key=lambda stretch: stretch.start_s)


def _stretch(run: Recording, step_time: StepTime, start: float, end: float, steps: int) -> Stretch:
    done = np.minimum(run.output_tokens / np.maximum(run.last_token - run.first_token, 1e-9), 1e6)
    times = start + (end - start) * (np.arange(0, steps, EVERY) + 0.5) / steps
    prices = []
    for time in times:
        live = (run.first_token < time) & (run.last_token >= time)
        contexts = (run.prompt_tokens + (time - run.first_token) * done)[live].astype(int)
        prices.append(step_time.step_ps(Batch.of(step_time.knots, (), contexts.tolist())) / 1e9)
    real = 1e3 * (end - start) / steps
    return Stretch(start, steps, len(contexts), int(contexts.max()), real, float(np.mean(prices)))

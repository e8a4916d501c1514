"""A listener that keeps what happened as columns of integers."""

from __future__ import annotations

from array import array
from dataclasses import fields
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from agentservesim.model import InputError, StepRecord, TurnRecord

TURN_NAMES = tuple(f.name for f in fields(TurnRecord) if f.type == "str")
TURN_NUMBERS = tuple(f.name for f in fields(TurnRecord) if f.type == "int")
STEP_NUMBERS = tuple(f.name for f in fields(StepRecord))

_turn_names = attrgetter(*TURN_NAMES)
_turn_numbers = attrgetter(*TURN_NUMBERS)
_step_numbers = attrgetter(*STEP_NUMBERS)


class Recorder:
    """Keeps every turn, and every step if asked to: 8 bytes a number, one row after the other."""

    def __init__(self, wants_steps: bool = False) -> None:
        self.wants_steps = wants_steps
        self._names: list[tuple[str, ...]] = []
        self._turns = array("q")
        self._steps = array("q")

    def turn_done(self, record: TurnRecord) -> None:
        """Keep a finished turn. Raises InputError if its times do not fit 64 bits."""
        self._names.append(_turn_names(record))
        try:
            self._turns.extend(_turn_numbers(record))
        except OverflowError:
            raise InputError(
                f"program '{record.program_id}', turn '{record.turn_id}': the simulated clock has passed "
                "106 days; shorten the trace with program_rate, max_gap_s or max_programs"
            ) from None

    def step_done(self, record: StepRecord) -> None:
        """Keep a step."""
        self._steps.extend(_step_numbers(record))

    def turn_names(self) -> dict[str, list[str]]:
        """The columns of text, in order of completion."""
        return {name: [row[i] for row in self._names] for i, name in enumerate(TURN_NAMES)}

    def turn_numbers(self) -> dict[str, NDArray[np.int64]]:
        """The columns of integers (times in picoseconds), each of shape (turns,), in order of completion."""
        return _columns(self._turns, TURN_NUMBERS)

    def step_numbers(self) -> dict[str, NDArray[np.int64]]:
        """The columns of the steps (times in picoseconds), each of shape (steps,)."""
        return _columns(self._steps, STEP_NUMBERS)


def _columns(rows: array[int], names: tuple[str, ...]) -> dict[str, NDArray[np.int64]]:
    table = np.array(rows, dtype=np.int64).reshape(-1, len(names))
    return {name: np.ascontiguousarray(table[:, i]) for i, name in enumerate(names)}

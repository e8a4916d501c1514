"""A logged run beside its prediction from a calibration on other runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from agentservesim.calibration.fit import design
from agentservesim.calibration.predict import Outcome, predict, recorded, workload_of
from agentservesim.calibration.steplog import StepLog, read_step_log, read_turns, turns_beside
from agentservesim.cost.base import Batch
from agentservesim.cost.calibration import Calibration, FrontEnd
from agentservesim.cost.linear import Coefficients, Linear
from agentservesim.model import InputError
from agentservesim.random import stream

DRAWS = 100
"""Simulations behind an interval."""

LEVEL = (2.5, 97.5)
"""Percentiles that an interval goes from and to."""


@dataclass(frozen=True)
class Prediction:
    """A run as recorded, as predicted, and as predicted with the machine as fast as it was in that run
    (`speed`: the run's steps took so many times what the calibration says). `interval` has the bounds of each
    time over simulations with speeds and steps that vary as they did in the calibration."""

    name: str
    turns: int
    real: Outcome
    raw: Outcome
    speed: float
    at_speed: Outcome
    interval: dict[str, tuple[float, float]]

    def error(self, figure: str, *, at_speed: bool = False) -> float:
        """Relative error of a time: "TTFT", "TPOT", "program" or "makespan"."""
        simulated = self.at_speed if at_speed else self.raw
        return simulated.times[figure] / self.real.times[figure] - 1.0

    def beyond(self, tolerance: float) -> list[str]:
        """The times whose raw error is larger."""
        return [figure for figure in self.real.times if abs(self.error(figure)) > tolerance]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)

    def print(self, file: TextIO) -> None:
        """Print the comparison as a table of plain text."""
        low, high = LEVEL
        head = ("", "real s", "sim s", "error", f"x{self.speed:.3f} s", "error", f"{low:g} to {high:g} %")
        print(f"{self.name}: {self.turns} turns", file=file)
        print(("  {:<10}" + "{:>10}" * 5 + "{:>22}").format(*head), file=file)
        for name, value in self.real.times.items():
            between = "{:.4f} to {:.4f}".format(*self.interval[name])
            print(
                f"  {name:<10}{value:>10.4f}{self.raw.times[name]:>10.4f}{self.error(name):>+10.1%}"
                f"{self.at_speed.times[name]:>10.4f}{self.error(name, at_speed=True):>+10.1%}{between:>22}",
                file=file,
            )
        sides = self.real, self.raw, self.at_speed
        for name, counts in (
            ("cached tokens", [side.cached_tokens for side in sides]),
            ("preemptions", [side.preemptions for side in sides]),
        ):
            words = "{:,} real, {:,} simulated, {:,} at its speed".format(*counts)
            print(f"  {name}: {words}", file=file)


class Noisy:
    """Step times around those of a linear model; for simulations that take every step."""

    knots = (0,)
    longest = 0

    def __init__(self, coefficients: Coefficients, scale: float, spread: float, draws: np.random.Generator):
        self._exact = Linear(coefficients, scale)
        self._spread, self._draws = spread, draws

    def step_ps(self, batch: Batch) -> int:
        """The model's time, times a factor of mean 1."""
        factor = self._draws.lognormal(-(self._spread**2) / 2, self._spread)
        return max(1, round(self._exact.step_ps(batch) * factor))

    def growth_ps(self, batch: Batch) -> int:
        """Growth of the exact time."""
        return self._exact.growth_ps(batch)


def predict_run(path: Path, calibration: Calibration, seed: int = 0) -> Prediction:
    """Compare the run of a step log, and of the turns file beside it, with what a calibration predicts.

    Raises InputError for unreadable logs, a missing turns file, and a calibration without coefficients.
    """
    log = read_step_log(path)
    beside = turns_beside(path)
    if beside is None:
        raise InputError(
            f"{path}: there is no {log.name}.turns.jsonl beside it; it says what the clients saw"
        )
    if calibration.linear is None:
        raise InputError("the calibration has no step-time coefficients; fit it without a model and a GPU")
    turns = read_turns(beside)
    workload = workload_of(log, turns)
    clients = calibration.front_end or FrontEnd()
    speed = _speed(log, calibration.linear)
    draws = stream(seed, "calibration")
    outcomes = []
    for _ in range(DRAWS):
        scale = _another_speed(calibration, draws)
        noisy = Noisy(calibration.linear, scale, calibration.step_spread, draws)
        outcomes.append(predict(log, workload, noisy, clients, leap=False).times)
    return Prediction(
        name=log.name,
        turns=len(turns),
        real=recorded(log, turns),
        raw=predict(log, workload, Linear(calibration.linear), clients),
        speed=speed,
        at_speed=predict(log, workload, Linear(calibration.linear, speed), clients),
        interval={
            name: (low, high)
            for name in outcomes[0]
            for low, high in [np.percentile([outcome[name] for outcome in outcomes], LEVEL).tolist()]
        },
    )


def _another_speed(calibration: Calibration, draws: np.random.Generator) -> float:
    """The speed of one more run: of n runs with mean 1 and spread s, it is s sqrt(1 + 1/n) away times a
    draw of Student's t with n - 1 degrees of freedom; at most a factor of 2."""
    runs = len(calibration.fitted_to)
    if runs < 2:
        return 1.0
    away = calibration.speed_spread * (1 + 1 / runs) ** 0.5 * draws.standard_t(runs - 1)
    return float(np.exp(np.clip(away, -np.log(2), np.log(2))))


def _speed(log: StepLog, coefficients: Coefficients) -> float:
    """Time of the run's steps over what the coefficients say of the same steps."""
    terms, took = design(log)
    return float(took.sum() / (terms @ np.array(list(coefficients.model_dump().values()))).sum())

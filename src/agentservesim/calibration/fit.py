"""Fits of step-time models to step logs.

Least squares of relative errors, with a loss that grows linearly beyond 10 %, since a step that another
process disturbed is an outlier; then all coefficients are scaled so that the sum of the steps is right,
because what is simulated is a sum of steps. Before that every coefficient lies between 0 and what the
quickest steps that hold its unit allow: a part takes no longer than the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from agentservesim.calibration.steplog import LoggedStep, StepLog
from agentservesim.cost.base import Batch, StepTime
from agentservesim.cost.calibration import Calibration, HostTimes, StepError
from agentservesim.cost.linear import Coefficients, terms
from agentservesim.model import InputError, to_s

Array = NDArray[np.float64]

Part = tuple[Array, Array]
"""Terms of a log's steps, shape (steps, terms), and their durations, shape (steps,)."""

OUTLIER = 0.1
"""Relative error from which on a step counts linearly."""

QUICK = 5
"""Per cent of the steps that count as the quickest."""

BLOCK = 20
"""Steps that go together into the hold-out: neighbours are too alike to judge one by the other."""


def rows_of(step: LoggedStep, prompt_len: dict[str, int]) -> tuple[list[tuple[int, int]], list[int]]:
    """The chunks (new, history) and the contexts of the decode rows of a step."""
    chunks, contexts = [], []
    for request, computed, new in step.sched:
        if new == 1 and computed >= prompt_len[request]:
            contexts.append(computed + 1)
        else:
            chunks.append((new, computed))
    return chunks, contexts


def durations(log: StepLog) -> Array:
    """Seconds that each step took, shape (steps,).

    Steps that follow at once upon each other take from output to output; the first after a pause takes
    from when it was scheduled, and the usual time between taking in an output and scheduling.
    """
    begun = np.array([step.t0 for step in log.steps])
    ended = np.array([step.t3 for step in log.steps])
    if log.limits.async_scheduling:
        ended = np.array([step.t2 for step in log.steps])
        alone: Array = ended - np.maximum(begun, np.concatenate([[-np.inf], ended[:-1]]))
        return alone
    took: Array = ended - begun
    between = begun[1:] - ended[:-1]
    busy = np.array([not after.arrived and bool(before.sched) for before, after in pairwise(log.steps)], bool)
    took += float(np.median(between[busy])) if busy.any() else 0.0
    return took


def design(log: StepLog) -> Part:
    """The six terms of the steps and their durations; empty steps are left out."""
    prompt_len = _prompt_lengths(log)
    table = [terms(*rows_of(step, prompt_len)) for step in log.steps if step.sched]
    return np.array(table, float), _kept_durations(log)


def _batches(log: StepLog, knots: Sequence[int]) -> Iterator[Batch]:
    prompt_len = _prompt_lengths(log)
    for step in log.steps:
        if step.sched:
            chunks, contexts = rows_of(step, prompt_len)
            ended = sum(computed + new >= prompt_len[request] for request, computed, new in step.sched)
            yield Batch.of(knots, chunks, contexts, ended)


def _prompt_lengths(log: StepLog) -> dict[str, int]:
    return {request.id: request.prompt_len for request in log.requests.values()}


def _kept_durations(log: StepLog) -> Array:
    return durations(log)[[bool(step.sched) for step in log.steps]]


def fit_linear(logs: Sequence[StepLog], hold_out: float = 0.2) -> Calibration:
    """Fit the six-term model; every so many blocks of steps are held out and only judged.

    Raises InputError if too few steps are left to fit.
    """
    parts = [design(log) for log in logs]
    zeros, upper = np.zeros(6), _bounds(*_stacked(parts))
    found, errors = _fit(parts, zeros, upper, hold_out)
    names = Coefficients.model_fields
    return _calibration(
        logs, parts, found, errors, linear=Coefficients(**dict(zip(names, found, strict=True)))
    )


def fit_host(
    logs: Sequence[StepLog], kernels: StepTime, floor: StepTime, hold_out: float = 0.2
) -> Calibration:
    """Fit host overheads and the machine's speed to step times whose operators `kernels` prices.

    `kernels` has no host overheads. No step of the scaled model may be below `floor`, the bytes over
    bandwidth and FLOPs over peak of its batch; the machine may be at most half as fast as its tables.
    """
    parts = []
    for log in logs:
        batches = list(_batches(log, kernels.knots))
        table = [(to_s(kernels.step_ps(batch)), 1.0, float(bool(batch.chunks))) for batch in batches]
        parts.append((np.array(table), _kept_durations(log)))
    floors = [
        floor.step_ps(batch) / kernels.step_ps(priced)
        for log in logs
        for batch, priced in zip(_batches(log, floor.knots), _batches(log, kernels.knots), strict=True)
    ]
    x, y = _stacked(parts)
    upper = np.array([2.0, *_bounds(x[:, 1:], y)])
    found, errors = _fit(parts, np.array([min(max(floors), 1.0), 0.0, 0.0]), upper, hold_out)
    host = HostTimes(step_time_scale=found[0], host_overhead_s=found[1], prefill_overhead_s=found[2])
    return _calibration(logs, parts, found, errors, host=host)


def _fit(
    parts: Sequence[Part], lower: Array, upper: Array, hold_out: float
) -> tuple[Array, tuple[StepError, StepError | None]]:
    x, y = _stacked(parts)
    out = _held_out(len(y), hold_out)
    needed = 10 * x.shape[1]
    if np.count_nonzero(~out) < needed:
        raise InputError(
            f"calibrate: {np.count_nonzero(~out)} steps are left to fit {x.shape[1]} coefficients; "
            f"at least {needed} are needed"
        )
    found = bounded_fit(x[~out], y[~out], lower, upper)
    held = _error(x[out] @ found, y[out]) if out.any() else None
    return found, (_error(x[~out] @ found, y[~out]), held)


def _stacked(parts: Sequence[Part]) -> Part:
    return np.vstack([x for x, _ in parts]), np.concatenate([y for _, y in parts])


def _calibration(
    logs: Sequence[StepLog],
    parts: Sequence[Part],
    found: Array,
    errors: tuple[StepError, StepError | None],
    linear: Coefficients | None = None,
    host: HostTimes | None = None,
) -> Calibration:
    speeds = [float(y.sum() / (x @ found).sum()) for x, y in parts]
    around = np.concatenate([y / (x @ found) / speed for (x, y), speed in zip(parts, speeds, strict=True)])
    return Calibration(
        fitted_to=tuple(log.name for log in logs),
        linear=linear,
        host=host,
        speed_spread=min(1.0, float(np.std(speeds, ddof=1))) if len(speeds) > 1 else 0.0,
        step_spread=float(np.std(np.clip(around, 0.5, 2.0))),
        fitted=errors[0],
        held_out=errors[1],
    )


def bounded_fit(x: Array, y: Array, lower: Array, upper: Array) -> Array:
    """The coefficients between the bounds whose relative errors are least, scaled to the right sum.

    Raises InputError where scipy is not installed.
    """
    try:
        from scipy.optimize import least_squares
    except ImportError:
        raise InputError("calibrate: needs scipy; install it with the extra 'calibrate'") from None

    unit = np.where(upper > lower, upper - lower, 1.0)
    relative = x * unit / y[:, None]

    def residuals(shares: Array) -> Array:
        return np.asarray(relative @ shares - 1.0)

    solution = least_squares(
        residuals,
        lower / unit + 0.5 / x.shape[1],
        jac=lambda _: relative,
        bounds=(lower / unit, np.where(upper > lower, upper, lower + 1e-9) / unit),
        loss="soft_l1",
        f_scale=OUTLIER,
    )
    found = np.asarray(solution.x, float) * unit
    return np.asarray(np.maximum(found * (y.sum() / (x @ found).sum()), lower))


def _held_out(steps: int, share: float) -> NDArray[np.bool_]:
    if share <= 0.0:
        return np.zeros(steps, bool)
    every = max(2, round(1.0 / share))
    return np.asarray((np.arange(steps) // BLOCK) % every == every - 1)


def _bounds(x: Array, y: Array) -> Array:
    """What each unit takes at most: the time for each unit in the quickest steps that hold it."""
    return np.array(
        [np.percentile(y[held] / unit[held], QUICK) if (held := unit > 0).any() else 0.0 for unit in x.T]
    )


def _error(predicted: Array, real: Array) -> StepError:
    errors = np.abs(predicted / real - 1.0)
    return StepError(
        steps=len(real),
        mape=float(errors.mean()),
        p95=float(np.percentile(errors, 95)),
        total=float(predicted.sum() / real.sum() - 1.0),
    )

"""Engine constants fitted to recorded runs: what the requests say of kernels, host and front end.

A run is replayed with its own arrivals. What is made least is the mean square of the logarithms of simulated
over recorded TTFT and TPOT of each request, growing only linearly beyond 10 %, since queueing amplifies small
errors of single requests. Every constant has physical bounds: operators no faster than bytes over bandwidth
and FLOPs over peak, overheads no longer than the quickest requests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agentservesim.cost.calibration import (
    Calibration,
    Factors,
    FigureError,
    FrontEnd,
    HostTimes,
    RequestError,
)
from agentservesim.cost.config import CostConfig
from agentservesim.model import InputError
from agentservesim.validation.figures import Side, recorded_side
from agentservesim.validation.recording import Array, Recording
from agentservesim.validation.rerun import instance_of, replay, tables_of

Mask = NDArray[np.bool_]

OUTLIER = 0.1
"""Logarithm of simulated over recorded from which on a request counts linearly."""

QUICK = 1
"""Per cent of the requests that count as the quickest."""

BLOCK = 10
"""Requests that go together into the hold-out: neighbours share their steps."""

FASTEST, SLOWEST = 0.5, 2.0
"""An operator takes between so much of what its table says; none is ever faster than its data sheet, see
`Tables` and `Roofline`."""

FAR, NEAR, SHRINK, LEAST = 0.04, 0.002, 0.88, 50
"""Shares of the constants' ranges over which slopes are taken, at first and at last, and the factor from one
round to the next; fewest requests."""


@dataclass(frozen=True)
class _Constant:
    """A setting to be found: its bounds, and where the search begins."""

    name: str
    lower: float
    upper: float
    start: float

    def at(self, share: float) -> float:
        return self.lower + share * (self.upper - self.lower)


@dataclass(frozen=True)
class _Run:
    """A recording, the settings it does not say, its real side, and who is held out."""

    recording: Recording
    given: Mapping[str, object]
    real: Side
    out: Mask

    def logarithms(self, found: Mapping[str, float]) -> Array:
        """Logarithms of simulated over recorded figures of the requests that are fitted."""
        simulated = replay(self.recording, {**self.given, **found})[0]
        pairs = zip(_figures(self.recording, simulated), _figures(self.recording, self.real), strict=True)
        return np.concatenate([np.log(ours / real)[~self.out & np.isfinite(real)] for ours, real in pairs])


def fit_requests(
    recordings: Sequence[Recording], tables: Path | None = None, hold_out: float = 0.2
) -> Calibration:
    """Fit factors on operators, host overheads and, where clients recorded, the front end.

    `tables` as in `validate_run`. Some blocks of requests are held out: simulated, but only judged.
    Raises InputError for too few requests, and where scipy is not installed.
    """
    runs = [_run(recording, tables, hold_out) for recording in recordings]
    fitted = sum(int((~run.out).sum()) for run in runs)
    if fitted < LEAST:
        raise InputError(f"calibrate: {fitted} requests are left to fit; at least {LEAST} are needed")
    constants = _constants(runs)
    search = _Search(constants, lambda found: np.concatenate([run.logarithms(found) for run in runs]))
    best = search.best()
    return _calibration(runs, search.named(best), search.spreads(best))


def _run(recording: Recording, tables: Path | None, hold_out: float) -> _Run:
    given = {"tables": None if tables is None else tables_of(recording, tables)}
    every = max(2, round(1.0 / hold_out)) if hold_out > 0 else 0
    blocks = np.arange(len(recording.arrival)) // BLOCK
    out = blocks % every == every - 1 if every else np.zeros(len(blocks), bool)
    return _Run(recording, given, recorded_side(recording), out)


def _figures(run: Recording, side: Side) -> tuple[Array, Array]:
    """TTFT and TPOT of every request; the latter is not a number where there is one token."""
    several = run.output_tokens > 1
    tpot = np.full(len(several), np.nan)
    tpot[several] = (side.last_token - side.first_token)[several] / (run.output_tokens[several] - 1)
    return side.first_token - run.arrival, tpot


def _constants(runs: Sequence[_Run]) -> list[_Constant]:
    """What is fitted, between bounds that hold in all runs."""
    quickest = [
        [np.nanpercentile(series, QUICK) for series in _figures(run.recording, run.real)] for run in runs
    ]
    first_s, token_s = (float(figure) for figure in np.nanmin(quickest, axis=0))
    default = instance_of(runs[0].recording, runs[0].given)
    constants = [
        _Constant("linear_scale", FASTEST, SLOWEST, 1.0),
        _Constant("attention_scale", FASTEST, SLOWEST, 1.0),
        _Constant("host_overhead_s", 0.0, token_s, default.host_overhead_s),
        _Constant("prefill_overhead_s", 0.0, first_s, default.prefill_overhead_s),
    ]
    if any(run.recording.queued is None for run in runs):
        constants.append(_Constant("frontend_in_s", 0.0, first_s, default.frontend_in_s))
    return constants


class _Search:
    """Gauss and Newton's steps between bounds.

    An arrival a little before or after a step's end moves a request by a whole step. So slopes are taken over
    distances, which shrink; requests that such a distance moves far count little; and what was best on the
    way is taken. Arrays are over the constants, as shares of their ranges, or over the requests' figures.
    """

    def __init__(
        self, constants: Sequence[_Constant], logarithms: Callable[[dict[str, float]], Array]
    ) -> None:
        self._constants = constants
        self._logarithms = logarithms

    def best(self) -> Array:
        """The shares with which the logarithms are least. Raises InputError where scipy is not installed."""
        try:
            from scipy.optimize import lsq_linear
        except ImportError:
            raise InputError("calibrate: needs scipy; install it with the extra 'calibrate'") from None

        shares = np.array([(c.start - c.lower) / (c.upper - c.lower) for c in self._constants])
        here, reach = self._apart(shares), FAR
        best = _loss(here), shares
        while reach > NEAR:
            slopes, weights = self._slopes(shares, here, reach)
            room = np.maximum(-4 * reach, -shares), np.minimum(4 * reach, 1.0 - shares) + 1e-9
            move = lsq_linear(slopes * weights[:, None], -here * weights, room).x
            shares = np.clip(shares + move, 0.0, 1.0)
            here = self._apart(shares)
            best = min(best, (_loss(here), shares), key=itemgetter(0))
            reach *= SHRINK
        return best[1]

    def spreads(self, shares: Array) -> dict[str, float]:
        """Standard errors of the constants: large where several of them do the same to all requests."""
        here = self._apart(shares)
        slopes, weights = self._slopes(shares, here, FAR / 2)
        weighted = slopes * weights[:, None]
        variance = float(((here * weights) ** 2).sum()) / max(1, len(here) - len(shares))
        errors = np.sqrt(np.diag(np.linalg.pinv(weighted.T @ weighted)) * variance)
        return {
            c.name: float(error) * (c.upper - c.lower)
            for c, error in zip(self._constants, errors, strict=True)
        }

    def named(self, shares: Array) -> dict[str, float]:
        """The constants themselves."""
        return {c.name: c.at(float(share)) for c, share in zip(self._constants, shares, strict=True)}

    def _apart(self, shares: Array) -> Array:
        return self._logarithms(self.named(shares)) / OUTLIER

    def _slopes(self, shares: Array, here: Array, reach: float) -> tuple[Array, Array]:
        """How each figure moves with each constant, and the weight of each figure."""
        steps = reach * np.eye(len(shares))
        ahead, behind = np.clip(shares + steps, 0.0, 1.0), np.clip(shares - steps, 0.0, 1.0)
        pairs = zip(ahead, behind, strict=True)
        moved = np.column_stack([self._apart(one) - self._apart(other) for one, other in pairs])
        weights: Array = 1.0 / (1.0 + here**2 + (moved**2).max(axis=1))
        return moved / (ahead - behind).sum(axis=1), weights


def _loss(apart: Array) -> float:
    return float((np.sqrt(1.0 + apart**2) - 1.0).mean())


def _calibration(
    runs: Sequence[_Run], found: Mapping[str, float], spreads: Mapping[str, float]
) -> Calibration:
    sides = [replay(run.recording, {**run.given, **found})[0] for run in runs]
    front = found.get("frontend_in_s")
    return Calibration(
        fitted_to=tuple(run.recording.name for run in runs),
        host=HostTimes(
            step_time_scale=1.0,
            host_overhead_s=found["host_overhead_s"],
            prefill_overhead_s=found["prefill_overhead_s"],
        ),
        factors=Factors(linear_scale=found["linear_scale"], attention_scale=found["attention_scale"]),
        front_end=None if front is None else FrontEnd(in_s=front, out_s=CostConfig().frontend_out_s),
        spreads=dict(spreads),
        fitted=_error(runs, sides, held_out=False),
        held_out=_error(runs, sides, held_out=True) if any(run.out.any() for run in runs) else None,
    )


def _error(runs: Sequence[_Run], sides: Sequence[Side], held_out: bool) -> RequestError:
    """Errors of the requests of all runs that were fitted, or of those that were not."""
    kept = np.concatenate([run.out == held_out for run in runs])
    ours = _all_figures(runs, sides)
    real = _all_figures(runs, [run.real for run in runs])
    ttft, tpot, e2e = (_figure_error(ours[name][kept], real[name][kept]) for name in ("ttft", "tpot", "e2e"))
    assert ttft is not None
    assert e2e is not None
    return RequestError(requests=int(kept.sum()), ttft=ttft, tpot=tpot, e2e=e2e)


def _all_figures(runs: Sequence[_Run], sides: Sequence[Side]) -> dict[str, Array]:
    pairs = list(zip(runs, sides, strict=True))
    figures = [_figures(run.recording, side) for run, side in pairs]
    return {
        "ttft": np.concatenate([ttft for ttft, _ in figures]),
        "tpot": np.concatenate([tpot for _, tpot in figures]),
        "e2e": np.concatenate([side.last_token - run.recording.arrival for run, side in pairs]),
    }


def _figure_error(ours: Array, real: Array) -> FigureError | None:
    known = np.isfinite(real)
    if not known.any():
        return None
    single = np.abs(ours[known] / real[known] - 1.0)
    return FigureError(mean=float(ours[known].mean() / real[known].mean() - 1.0), mape=float(single.mean()))

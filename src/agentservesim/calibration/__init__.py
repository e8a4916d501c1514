"""Calibration: step times fitted to a real engine's step log, and what they predict of other runs."""

from __future__ import annotations

from agentservesim.calibration.compare import Prediction, predict_run
from agentservesim.calibration.fit import fit_host, fit_linear
from agentservesim.calibration.predict import Outcome, front_end, predict, recorded, replay
from agentservesim.calibration.steplog import StepLog, read_step_log, read_turns, turns_beside

__all__ = [
    "Outcome",
    "Prediction",
    "StepLog",
    "fit_host",
    "fit_linear",
    "front_end",
    "predict",
    "predict_run",
    "read_step_log",
    "read_turns",
    "recorded",
    "replay",
    "turns_beside",
]

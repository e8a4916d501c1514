"""What `agentservesim calibrate` found out about an engine: the file, and what it changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from agentservesim.cost.linear import Coefficients
from agentservesim.files import write_whole
from agentservesim.model import InputError
from agentservesim.settings import Settings, read_text, validate


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HostTimes(_Part):
    """What a step takes besides its operators, and how fast the machine is."""

    step_time_scale: float = Field(gt=0.0, le=100.0, description="Factor on the accelerator's part.")
    host_overhead_s: float = Field(ge=0.0, le=1.0, description="Host time of every step.")
    prefill_overhead_s: float = Field(ge=0.0, le=1.0, description="What a step with prefill adds.")


class Factors(_Part):
    """What operators take beside their tables or roofline: factors by class."""

    linear_scale: float = Field(gt=0.0, le=100.0, description="Factor on linear layers, experts and head.")
    attention_scale: float = Field(gt=0.0, le=100.0, description="Factor on attention.")


LONGEST_FRONT_END_S = 10.0


class FrontEnd(_Part):
    """The way of a request into the engine, and of a token out of it."""

    in_s: float = Field(
        0.0, ge=0.0, le=LONGEST_FRONT_END_S, description="From a client to the scheduler's queue."
    )
    out_s: float = Field(
        0.0, ge=0.0, le=LONGEST_FRONT_END_S, description="From the end of a step to the client."
    )


class StepError(_Part):
    """Errors of predicted step times: of single steps (mean absolute and 95th percentile, relative) and of
    the sum of all."""

    steps: int = Field(ge=1, description="Steps compared.")
    mape: float = Field(ge=0.0, description="Mean absolute relative error of a step.")
    p95: float = Field(ge=0.0, description="95th percentile of it.")
    total: float = Field(description="Relative error of the sum.")

    def __str__(self) -> str:
        return f"{self.steps:,} steps, each {self.mape:.1%} off, sum {self.total:+.2%}"


class FigureError(_Part):
    """Relative errors of a figure of requests: of its mean, and mean absolute of single requests."""

    mean: float = Field(description="Relative error of the mean.")
    mape: float = Field(ge=0.0, description="Mean absolute relative error of a request.")

    def __str__(self) -> str:
        return f"{self.mean:+.1%} (each {self.mape:.1%})"


class RequestError(_Part):
    """Errors of simulated requests."""

    requests: int = Field(ge=1, description="Requests compared.")
    ttft: FigureError = Field(description="Time to first token.")
    tpot: FigureError | None = Field(None, description="Time per output token, where there are several.")
    e2e: FigureError = Field(description="From arrival to last token.")

    def __str__(self) -> str:
        tpot = "" if self.tpot is None else f", TPOT {self.tpot}"
        return f"{self.requests:,} requests, mean TTFT {self.ttft}{tpot}, E2E {self.e2e}"


class Calibration(_Part):
    """A fit to a real engine. `linear` is a step-time model of its own; `host` and `factors` correct
    another one."""

    format: Literal["agentservesim.calibration"] = "agentservesim.calibration"
    version: Literal[1] = 1
    fitted_to: tuple[str, ...] = Field(min_length=1, description="Logs that were used.")
    linear: Coefficients | None = Field(None, description="Six coefficients of a step.")
    host: HostTimes | None = Field(None, description="Host overheads and the machine's speed.")
    factors: Factors | None = Field(None, description="Factors on operators, by class.")
    front_end: FrontEnd | None = Field(None, description="Front-end latencies, where clients were watched.")
    spreads: dict[str, float] = Field(
        default_factory=dict, description="Standard errors of what was fitted to requests, by setting."
    )
    speed_spread: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="Relative standard deviation of the machine's speed between the logs.",
    )
    step_spread: float = Field(
        0.0, ge=0.0, le=10.0, description="Relative standard deviation of a step around its prediction."
    )
    fitted: StepError | RequestError = Field(description="Errors of the steps or requests that were used.")
    held_out: StepError | RequestError | None = Field(None, description="Errors of those held out.")

    @property
    def step_time_scale(self) -> float:
        """The machine's speed, by which a setting of the same name is multiplied."""
        return 1.0 if self.host is None else self.host.step_time_scale

    def settings(self) -> dict[str, float]:
        """The settings of `CostConfig` that were fitted."""
        parts = [part.model_dump() for part in (self.host, self.factors) if part is not None]
        if self.front_end is not None:
            parts.append({"frontend_in_s": self.front_end.in_s, "frontend_out_s": self.front_end.out_s})
        return {name: value for part in parts for name, value in part.items()}

    def write(self, path: Path) -> None:
        """Save as JSON. Raises InputError if the file cannot be written."""
        write_whole(path, (self.model_dump_json(indent=2, exclude_none=True) + "\n").encode())


def read_calibration(path: Path) -> Calibration:
    """Read a file that `calibrate` wrote. Raises InputError for any other."""
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON ({error.msg})") from None
    if not isinstance(content, dict) or content.get("format") != "agentservesim.calibration":
        raise InputError(f"{path}: is no calibration; `agentservesim calibrate LOG --out FILE` writes one")
    return validate(Calibration, Settings(content, source=str(path)))

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


class FrontEnd(_Part):
    """The way of a request into the engine, and of a token out of it."""

    in_s: float = Field(0.0, ge=0.0, le=10.0, description="From a client to the scheduler's queue.")
    out_s: float = Field(0.0, ge=0.0, le=10.0, description="From the end of a step to the client.")


class StepError(_Part):
    """Errors of predicted step times: of single steps (mean absolute and 95th percentile, relative) and of
    the sum of all."""

    steps: int = Field(ge=1, description="Steps compared.")
    mape: float = Field(ge=0.0, description="Mean absolute relative error of a step.")
    p95: float = Field(ge=0.0, description="95th percentile of it.")
    total: float = Field(description="Relative error of the sum.")


class Calibration(_Part):
    """A fit to a real engine. `linear` is a step-time model of its own; `host` corrects another one."""

    format: Literal["agentservesim.calibration"] = "agentservesim.calibration"
    version: Literal[1] = 1
    fitted_to: tuple[str, ...] = Field(min_length=1, description="Logs that were used.")
    linear: Coefficients | None = Field(None, description="Six coefficients of a step.")
    host: HostTimes | None = Field(None, description="Host overheads and the machine's speed.")
    front_end: FrontEnd | None = Field(None, description="Front-end latencies, where clients were watched.")
    speed_spread: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="Relative standard deviation of the machine's speed between the logs.",
    )
    step_spread: float = Field(
        0.0, ge=0.0, le=10.0, description="Relative standard deviation of a step around its prediction."
    )
    fitted: StepError = Field(description="Errors of the steps that were used.")
    held_out: StepError | None = Field(None, description="Errors of the steps that were held out.")

    def settings(self) -> dict[str, float]:
        """The settings of `CostConfig` that were fitted."""
        host = {} if self.host is None else self.host.model_dump()
        ends = self.front_end
        return host | ({} if ends is None else {"frontend_in_s": ends.in_s, "frontend_out_s": ends.out_s})

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

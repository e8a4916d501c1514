"""Recorded runs of vLLM: the format, and its reader.

A run is a folder with `meta.json` (model, engine settings, KV blocks where known) and `requests.jsonl`
(per request: prompt and output tokens, `arrival_time` in UNIX time, and the engine's monotonic stamps
`queued_ts`, `scheduled_ts`, `first_token_ts`, `last_token_ts`), both also accepted in a folder `vllm`
inside. Beside them may lie `sim_config.json`, which names the hardware where `meta.json` does not, and
`reported_errors.json`, another simulator's errors on the same run.

Arrivals are moved to the engine's clock by the smallest difference between queueing and arrival, so
the part of the front end that every request passes is in neither side.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from agentservesim.model import InputError
from agentservesim.settings import Settings, read_text, validate

Array = NDArray[np.float64]

_FIGURES = (("ttft", "TTFT"), ("tpot", "TPOT"), ("latency", "E2E"))
_STAMPS = ("arrival_time", "queued_ts", "scheduled_ts", "first_token_ts", "last_token_ts")


class RequestLine(BaseModel):
    """One line of `requests.jsonl`; what else it says is not needed."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    input_toks: int = Field(ge=1, description="Tokens of the prompt.")
    output_toks: int = Field(ge=1, description="Tokens of the reply.")
    arrival_time: float = Field(description="UNIX time at which the front end took the request.")
    queued_ts: float = Field(
        description="When the engine queued it; this and what follows is monotonic time."
    )
    scheduled_ts: float = Field(description="When it was first scheduled.")
    first_token_ts: float = Field(description="When its first token was out.")
    last_token_ts: float = Field(description="When its last token was out.")

    @model_validator(mode="after")
    def _in_order(self) -> RequestLine:
        if not self.queued_ts <= self.scheduled_ts < self.first_token_ts <= self.last_token_ts:
            raise ValueError("stamps must ascend: queued, scheduled, first token, last token")
        return self


@dataclass(frozen=True)
class Recording:
    """A recorded run. Times are seconds from the first arrival, arrays have one entry a request."""

    name: str
    model: str
    gpu: str
    meta: Mapping[str, Any]
    arrival: Array
    queued: Array
    scheduled: Array
    first_token: Array
    last_token: Array
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    peer: Mapping[str, float]
    source: str

    @property
    def settings(self) -> Mapping[str, Any]:
        """The engine's arguments."""
        return self.section("engine_kwargs")

    @property
    def engines(self) -> int:
        """Data-parallel engines behind one front end."""
        engines = self.settings.get("data_parallel_size") or 1
        if not isinstance(engines, int) or engines < 1:
            raise InputError(
                f"{self.source}: data_parallel_size must be a positive whole number, got {engines!r}"
            )
        return engines

    def section(self, *keys: str) -> Mapping[str, Any]:
        """A table in `meta`, empty where there is none."""
        inside: Any = self.meta
        for key in keys:
            inside = inside.get(key) or {}
            if not isinstance(inside, dict):
                raise InputError(f"{self.source}: '{key}' must be a table of settings")
        return inside  # type: ignore[no-any-return]


def read_run(folder: Path) -> Recording:
    """Read a recorded run. Raises InputError, with file and line, for anything missing or malformed."""
    inner = folder / "vllm" if (folder / "vllm").is_dir() else folder
    if not folder.is_dir():
        raise InputError(f"{folder}: not a folder; a recorded run holds meta.json and requests.jsonl")
    meta = _json(inner / "meta.json")
    requests = [
        _request(inner / "requests.jsonl", number, line)
        for number, line in enumerate(read_text(inner / "requests.jsonl").splitlines(), 1)
        if line.strip()
    ]
    if not requests:
        raise InputError(f"{inner / 'requests.jsonl'}: holds no requests")
    for key in ("engine_kwargs", "model"):
        if key not in meta:
            raise InputError(f"{inner / 'meta.json'}: '{key}' is missing")
    requests.sort(key=lambda request: request.arrival_time)
    column = {key: np.array([getattr(request, key) for request in requests]) for key in _STAMPS}
    arrival = column["arrival_time"] + np.min(column["queued_ts"] - column["arrival_time"])
    start = arrival[0]
    reported = folder / "reported_errors.json"
    return Recording(
        name="/".join(folder.resolve().parts[-2:]),
        model=str(meta["model"]),
        gpu=_hardware(folder, meta),
        meta=meta,
        arrival=arrival - start,
        queued=column["queued_ts"] - start,
        scheduled=column["scheduled_ts"] - start,
        first_token=column["first_token_ts"] - start,
        last_token=column["last_token_ts"] - start,
        prompt_tokens=np.array([request.input_toks for request in requests]),
        output_tokens=np.array([request.output_toks for request in requests]),
        peer=_peer_errors(_json(reported)) if reported.exists() else {},
        source=str(inner / "meta.json"),
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON ({error.msg})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: must hold one object")
    return content


def _request(path: Path, number: int, line: str) -> RequestLine:
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{number}: not JSON ({error.msg})") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}:{number}: must hold one object")
    return validate(RequestLine, Settings(values, source=f"{path}:{number}"))


def _hardware(folder: Path, meta: Mapping[str, Any]) -> str:
    """The accelerator: as the driver or the simulator beside it names it, else the folder above."""
    device = str(meta.get("hardware", {}).get("device_name", ""))
    for maker in ("NVIDIA", "GeForce"):
        device = device.replace(maker, "")
    if device.strip():
        return device.strip()
    config = folder / "sim_config.json"
    if config.exists():
        try:
            return str(_json(config)["nodes"][0]["instances"][0]["hardware"])
        except (KeyError, IndexError, TypeError):
            raise InputError(f"{config}: names no hardware at nodes[0].instances[0]") from None
    return folder.resolve().parent.name


def _peer_errors(reported: Mapping[str, Any]) -> dict[str, float]:
    names = {"mean": "mean", "p50": "median", "p90": "p90", "p99": "p99"}
    metrics = reported.get("metrics", {})
    return {
        f"{figure}/{statistic}": float(metrics[name]["diff_pct"]) / 100
        for key, figure in _FIGURES
        for statistic, theirs in names.items()
        if (name := f"{key}_{theirs}_ms") in metrics
    }

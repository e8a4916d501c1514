"""Recorded runs: the format (docs/runs.md), and its reader.

A run is a folder with `meta.json` (model, accelerator, engine settings, KV blocks where known) and
`requests.jsonl`, both also accepted in a folder `vllm` inside. Beside them may lie `sim_config.json`, which
names the hardware where `meta.json` does not, and `reported_errors.json`, another simulator's errors on the
same run.

Runs recorded inside the engine have its stamps `queued_ts` and `scheduled_ts`. Their arrivals are moved to
the engine's clock by the smallest difference between queueing and arrival, so the part of the front end
that every request passes is in neither side. Runs recorded by their clients have one clock and no such
stamps; the simulation then passes the front end too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
_SLOWEST_S = 10.0
"""A token that takes longer was not stamped in seconds."""

_RESOLVED = ("parallel", "cache", "model", "scheduler")
"""Parts of vLLM's configuration that hold settings of an engine."""

_HASH_BLOCK = 16
"""Tokens of a block of `hash_ids`, unless `meta.json` says otherwise."""


class RequestLine(BaseModel):
    """One line of `requests.jsonl`; what else it says is not needed."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    input_toks: int = Field(ge=1, description="Tokens of the prompt.")
    output_toks: int = Field(ge=1, description="Tokens of the reply.")
    arrival_time: float = Field(description="When it was sent, in UNIX time or on the client's clock.")
    queued_ts: float | None = Field(
        None, description="When the engine queued it; this and what follows is the engine's monotonic time."
    )
    scheduled_ts: float | None = Field(None, description="When it was first scheduled.")
    first_token_ts: float = Field(description="When its first token was out.")
    last_token_ts: float = Field(description="When its last token was out.")
    cached_toks: int | None = Field(None, ge=0, description="Prompt tokens found in the prefix cache.")
    hash_ids: tuple[int, ...] | None = Field(
        None,
        description="An id for each block of the prompt and all before it, the partial last one included.",
    )

    @model_validator(mode="after")
    def _in_order(self) -> RequestLine:
        if (self.queued_ts is None) != (self.scheduled_ts is None):
            raise ValueError("queued_ts and scheduled_ts go together: give both, or neither")
        if self.queued_ts is None or self.scheduled_ts is None:
            if not self.arrival_time < self.first_token_ts <= self.last_token_ts:
                raise ValueError(
                    "stamps must ascend: arrival, first token, last token; without queued_ts, on one clock"
                )
        elif not self.queued_ts <= self.scheduled_ts < self.first_token_ts <= self.last_token_ts:
            raise ValueError("stamps must ascend: queued, scheduled, first token, last token")
        return self


@dataclass(frozen=True)
class Recording:
    """A recorded run. Times are seconds from the first arrival, arrays have one entry a request.

    `queued` and `scheduled` are None in a run that clients recorded; `cached_tokens` and `hash_ids` where the
    run does not have them of every request.
    """

    name: str
    model: str
    gpu: str
    meta: Mapping[str, Any]
    arrival: Array
    queued: Array | None
    scheduled: Array | None
    first_token: Array
    last_token: Array
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    cached_tokens: NDArray[np.int64] | None
    hash_ids: tuple[tuple[int, ...], ...] | None
    hash_block_size: int
    peer: Mapping[str, float]
    source: str

    @property
    def settings(self) -> Mapping[str, Any]:
        """The engine's arguments: as given, else as vLLM resolved them."""
        parts = [self.section("resolved_config", f"{part}_config") for part in _RESOLVED]
        layers = (*parts, self.section("kv_cache"), self.section("engine_kwargs"))
        return {key: value for layer in layers for key, value in layer.items() if value is not None}

    @property
    def engines(self) -> int:
        """Data-parallel engines behind one front end."""
        engines = self.settings.get("data_parallel_size", 1)
        if not isinstance(engines, int) or isinstance(engines, bool) or engines < 1:
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
    inside = [request.queued_ts is not None for request in requests]
    if any(inside) and not all(inside):
        raise InputError(f"{inner / 'requests.jsonl'}: queued_ts must be there for all requests, or for none")
    stamps = (
        _STAMPS if inside[0] else tuple(key for key in _STAMPS if key not in ("queued_ts", "scheduled_ts"))
    )
    _check_seconds(inner / "requests.jsonl", requests)
    column = {key: np.array([getattr(request, key) for request in requests]) for key in stamps}
    arrival = column["arrival_time"]
    if inside[0]:
        arrival = arrival + np.min(column["queued_ts"] - arrival)
    start = arrival[0]
    reported = folder / "reported_errors.json"
    cached = [request.cached_toks for request in requests if request.cached_toks is not None]
    ids = [request.hash_ids for request in requests if request.hash_ids is not None]
    return Recording(
        name="/".join(folder.resolve().parts[-2:]),
        model=str(meta["model"]),
        gpu=_hardware(folder, meta),
        meta=meta,
        arrival=arrival - start,
        queued=column["queued_ts"] - start if inside[0] else None,
        scheduled=column["scheduled_ts"] - start if inside[0] else None,
        first_token=column["first_token_ts"] - start,
        last_token=column["last_token_ts"] - start,
        prompt_tokens=np.array([request.input_toks for request in requests]),
        output_tokens=np.array([request.output_toks for request in requests]),
        cached_tokens=np.array(cached) if len(cached) == len(requests) else None,
        hash_ids=tuple(ids) if len(ids) == len(requests) else None,
        hash_block_size=_block_size(meta, inner / "meta.json"),
        peer=_peer_errors(_json(reported)) if reported.exists() else {},
        source=str(inner / "meta.json"),
    )


def _check_seconds(path: Path, requests: Sequence[RequestLine]) -> None:
    spans = [request.last_token_ts - request.first_token_ts for request in requests]
    tokens = sum(request.output_toks - 1 for request in requests)
    if tokens and sum(spans) / tokens > _SLOWEST_S:
        raise InputError(
            f"{path}: a token took {sum(spans) / tokens:.3g} s on average; are stamps in seconds?"
        )


def _block_size(meta: Mapping[str, Any], path: Path) -> int:
    size = meta.get("hash_block_size", _HASH_BLOCK)
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise InputError(f"{path}: 'hash_block_size' is {size!r}; it must be a positive whole number")
    return size


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
    hardware = meta.get("hardware") or {}
    device = str(hardware.get("device_name") or "") if isinstance(hardware, dict) else str(hardware)
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

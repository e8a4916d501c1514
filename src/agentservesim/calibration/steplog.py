"""Step logs of a real engine: the format, and its reader.

A run is `NAME.steps.jsonl` and, where clients were watched too, `NAME.turns.jsonl` beside it (both also
gzipped). The step log holds one object a line, told apart by `ev`:

- `config`, once: the scheduler's limits, under vLLM's names.
- `req`: a request reached the scheduler at `t`, with `prompt_len`, `max_tokens` and, where there are such,
  `priority` and `prompt`.
- `fin`: a request ended, with its tokens `out` if they were kept.
- `step`: `sched` has (request, tokens computed before, tokens computed now); `t0` is when scheduling
  began, `t2` when the accelerator's output was there, `t3` when it was taken in.

A turn has `id`, `program`, `turn`, `t_send`, `t_first`, `t_last`, `t_done`, `prompt_len`, `n_out` and
`cached`. Its times count from the start of the run, which is `t0` on the step log's clock if it is given.
All times are seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agentservesim.model import InputError
from agentservesim.settings import Settings, validate
from agentservesim.workload.rows import read_objects

_SLOWEST_S = 5.0
"""Half of the steps take longer only if they were not logged in seconds."""

Scheduled = tuple[str, int, int]
"""A row of a step: request, tokens computed before, tokens computed now."""


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Limits(_Line):
    """The `config` line: what the engine's scheduler was told."""

    block_size: int = Field(ge=1, description="Tokens in a KV block.")
    num_blocks: int = Field(ge=2, description="KV blocks.")
    max_num_batched_tokens: int = Field(ge=1, description="Token budget of a step.")
    max_num_seqs: int = Field(ge=1, description="Most requests that run at once.")
    max_model_len: int = Field(ge=2, description="Most tokens of a sequence.")
    long_prefill_token_threshold: int = Field(0, ge=0, description="Most prompt tokens of one request.")
    chunked_prefill: bool = Field(True, description="A prompt may be computed over several steps.")
    reserve_full_isl: bool = Field(True, description="A request is admitted only if all of it fits.")
    watermark: float = Field(0.0, ge=0.0, lt=1.0, description="Share of blocks kept free.")
    prefix_caching: bool = Field(True, description="Full blocks are reused.")
    async_scheduling: bool = Field(False, description="Steps are scheduled one ahead.")
    policy: Literal["fcfs", "priority"] = Field("fcfs", description="Order of the waiting queue.")

    @model_validator(mode="before")
    @classmethod
    def _said(cls, values: dict[str, Any]) -> dict[str, Any]:
        """What is null was not said."""
        return {key: value for key, value in values.items() if value is not None}


class LoggedRequest(_Line):
    """A `req` line."""

    id: str
    t: float
    prompt_len: int = Field(ge=1)
    max_tokens: int = Field(ge=1)
    priority: int = 0
    prompt: tuple[int, ...] | None = None


class LoggedStep(_Line):
    """A `step` line."""

    sched: tuple[Scheduled, ...]
    t0: float
    t2: float
    t3: float
    arrived: tuple[str, ...] = ()
    preempted: tuple[str, ...] = ()
    evicted: tuple[str, ...] = ()
    admitted: tuple[tuple[str, int, str], ...] = ()


class LoggedEnd(_Line):
    """A `fin` line."""

    id: str
    out: tuple[int, ...] | None = None


class LoggedTurn(_Line):
    """A line of the turns file: one LLM call as its client saw it."""

    id: str
    program: str
    turn: int = Field(ge=0)
    t_send: float
    t_first: float
    t_last: float
    t_done: float
    prompt_len: int = Field(ge=1)
    n_out: int = Field(ge=1)
    cached: int | None = None
    t0: float = 0.0


@dataclass(frozen=True)
class StepLog:
    """A run's step log. `requests` and `outputs` (reply tokens, where they were kept) are by request id."""

    name: str
    limits: Limits
    requests: Mapping[str, LoggedRequest]
    outputs: Mapping[str, tuple[int, ...]]
    steps: tuple[LoggedStep, ...]


def read_step_log(path: Path) -> StepLog:
    """Read `NAME.steps.jsonl` or `NAME.steps.jsonl.gz`.

    Raises InputError with file and line for what is no step log.
    """
    limits: Limits | None = None
    requests: dict[str, LoggedRequest] = {}
    outputs: dict[str, tuple[int, ...]] = {}
    steps: list[LoggedStep] = []
    for where, line in _objects(path):
        kind = line.get("ev")
        if kind == "config":
            limits = validate(Limits, Settings(line, source=where))
        elif kind == "req":
            request = validate(LoggedRequest, Settings(line, source=where))
            requests[request.id] = request
        elif kind == "fin":
            end = validate(LoggedEnd, Settings(line, source=where))
            if end.out is not None:
                outputs[end.id] = end.out
        elif kind == "step":
            step = validate(LoggedStep, Settings(line, source=where))
            unknown = next((row[0] for row in step.sched if row[0] not in requests), None)
            if unknown is not None:
                raise InputError(f"{where}: schedules '{unknown}', of which no line before it is the arrival")
            steps.append(step)
    if limits is None:
        raise InputError(f'{path}: is no step log: it has no line with "ev": "config"')
    if not steps:
        raise InputError(f"{path}: holds no steps")
    middle_s = median(step.t3 - step.t0 for step in steps)
    if not 0.0 < middle_s <= _SLOWEST_S:
        raise InputError(f"{path}: steps take {middle_s:.3g} s (t0 to t3); are times in seconds?")
    return StepLog(_name(path), limits, requests, outputs, tuple(steps))


def read_turns(path: Path) -> tuple[LoggedTurn, ...]:
    """Read a turns file. Raises InputError with file and line for what is none."""
    turns = [validate(LoggedTurn, Settings(line, source=where)) for where, line in _objects(path)]
    if not turns:
        raise InputError(f"{path}: holds no turns")
    return tuple(sorted(turns, key=lambda turn: (turn.program, turn.turn)))


def turns_beside(path: Path) -> Path | None:
    """The turns file that belongs to a step log, if it is there."""
    for suffix in (".gz", ""):
        other = path.with_name(f"{_name(path)}.turns.jsonl{suffix}")
        if other.is_file():
            return other
    return None


def _name(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".jsonl").removesuffix(".steps")


def _objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a file, each with its place."""
    for line, values in read_objects(path, str(path), "step log"):
        yield f"{path}:{line}", values

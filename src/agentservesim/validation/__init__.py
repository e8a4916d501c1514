"""How far the simulation is off: a recorded vLLM run, replayed with its own arrivals and settings.

Every request is a program of one turn with contents of its own: recordings carry no token ids, so prefix
hits cannot be replayed. Arrivals, and what is measured from them, begin where the clocks are aligned: see
`agentservesim.validation.recording`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO, TypeVar, get_args

import numpy as np
from pydantic import BaseModel

from agentservesim.cost import CostConfig, build_cost
from agentservesim.engine.config import EngineConfig, EngineVersion
from agentservesim.fleet import Fleet, InstanceSpec
from agentservesim.fleet.config import ToolsConfig
from agentservesim.model import (
    InputError,
    Program,
    Segment,
    StepRecord,
    Turn,
    TurnRecord,
    Workload,
    to_ps,
    to_s,
)
from agentservesim.policies import load_policy
from agentservesim.settings import Settings, validate
from agentservesim.validation.recording import Array, Recording, read_run

__all__ = ["Recording", "Row", "ValidationReport", "print_validation", "read_run", "validate_run"]

Config = TypeVar("Config", bound=BaseModel)

UNQUEUED_S = 0.02
"""A request waited less than this in the engine's queue if it counts as unqueued."""

NUDGE = 0.01
"""Sensitivity is the change of a figure when every step takes this much longer or shorter."""


@dataclass(frozen=True)
class Row:
    """One figure: real and simulated seconds, relative error, another simulator's relative error, and the
    relative change of the simulated figure when the accelerator's part of every step is 1 % longer and
    shorter."""

    figure: str
    statistic: str
    real: float
    simulated: float
    error: float
    peer_error: float | None
    slower: float
    faster: float


@dataclass(frozen=True)
class ValidationReport:
    """Real against simulated, for one run.

    `unqueued_mape` is the mean absolute relative error of the TTFT of each of `unqueued` requests that
    hardly waited (None if all did); `notes` say what the replay leaves out.
    """

    name: str
    requests: int
    figures: tuple[Row, ...]
    unqueued: int
    unqueued_mape: float | None
    provenance: Mapping[str, str]
    notes: tuple[str, ...] = field(default=())

    def rows(self) -> list[tuple[str, ...]]:
        """Cells for printing: figure, statistic, real, simulated, error, peer's error, sensitivities."""
        return [
            (
                row.figure,
                row.statistic,
                f"{row.real:.4f}",
                f"{row.simulated:.4f}",
                f"{row.error:+.1%}",
                "" if row.peer_error is None else f"{row.peer_error:+.1%}",
                f"{row.slower:+.1%}",
                f"{row.faster:+.1%}",
            )
            for row in self.figures
        ]

    def error(self, figure: str, statistic: str = "mean") -> float:
        """Relative error of a figure, such as ("TTFT", "p90")."""
        return next(r.error for r in self.figures if (r.figure, r.statistic) == (figure, statistic))

    def within(self, tolerance: float) -> bool:
        """Whether the means of TTFT, TPOT, E2E and makespan are all at most so far off."""
        means = (row for row in self.figures if row.statistic in ("mean", "total"))
        return all(abs(row.error) <= tolerance for row in means if row.figure != "unqueued TTFT")

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


def validate_run(run_dir: Path, tables: Path | None = None) -> ValidationReport:
    """Replay a recorded run and compare.

    `tables` is a folder of operator tables of the run's model and accelerator, or one that holds such
    folders as `<accelerator>/<model>/<type>`; without it the roofline prices the steps. All engine
    constants are the defaults of `CostConfig`, the same for every run. KV blocks are pinned to what the
    run recorded, if it did.
    Raises InputError for a folder that is no run, an unknown model or accelerator, or unreadable tables.
    """
    run = read_run(run_dir)
    folder = None if tables is None else _tables_of(run, tables)
    simulated, provenance = _simulate(run, folder, 1.0)
    slow, fast = (_figures(run, *_simulate(run, folder, 1.0 + sign * NUDGE)[0]) for sign in (1, -1))
    real, ours = _figures(run, run.first_token, run.last_token), _figures(run, *simulated)
    figures = tuple(
        Row(
            figure=key[0],
            statistic=key[1],
            real=real[key],
            simulated=ours[key],
            error=ours[key] / real[key] - 1.0,
            peer_error=run.peer.get("/".join(key)),
            slower=slow[key] / ours[key] - 1.0,
            faster=fast[key] / ours[key] - 1.0,
        )
        for key in real
    )
    easy = run.scheduled - run.queued < UNQUEUED_S
    single = (simulated[0] - run.first_token)[easy] / (run.first_token - run.arrival)[easy]
    mape = float(np.abs(single).mean()) if easy.any() else None
    return ValidationReport(
        name=run.name,
        requests=len(run.arrival),
        figures=figures,
        unqueued=int(easy.sum()),
        unqueued_mape=mape,
        provenance=provenance,
        notes=_notes(run),
    )


def print_validation(reports: Sequence[ValidationReport], file: TextIO) -> None:
    """Print the reports as tables of plain text."""
    head = ("", "", "real s", "sim s", "error", "peer", f"+{NUDGE:.0%} steps", f"-{NUDGE:.0%} steps")
    for report in reports:
        print(f"{report.name}: {report.requests} requests", file=file)
        for cells in (head, *report.rows()):
            line = f"  {cells[0]:<14}{cells[1]:<6}" + "".join(f"{cell:>11}" for cell in cells[2:])
            print(line.rstrip(), file=file)
        if report.unqueued_mape is not None:
            single = f"MAPE {report.unqueued_mape:.1%} of {report.unqueued} requests"
            print(f"  unqueued TTFT, each on its own: {single}", file=file)
        print(f"  step times: {report.provenance['step_time']}", file=file)
        for note in report.notes:
            print(f"  note: {note}", file=file)
        print(file=file)


def _tables_of(run: Recording, root: Path) -> Path:
    """The folder of the run's own tables, below `root` or `root` itself."""
    wanted = run.model.rsplit("/", 1)[-1].lower()
    for accelerator in root.iterdir() if root.is_dir() else ():
        if accelerator.is_dir() and _letters(accelerator.name) == _letters(run.gpu):
            found = [p for p in accelerator.glob("**/meta.json") if p.parent.parent.name.lower() == wanted]
            if found:
                return sorted(found)[0].parent
            raise InputError(f"tables: {accelerator} holds none of {run.model}")
    return root


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))


def _simulate(
    run: Recording, tables: Path | None, scale: float
) -> tuple[tuple[Array, Array], dict[str, str]]:
    """First and last token of every request, in seconds from the first arrival."""
    engine = _engine(run)
    cost = build_cost(
        _cost(run, tables, scale),
        block_size=engine.block_size,
        max_num_batched_tokens=engine.max_num_batched_tokens,
        max_num_seqs=engine.max_num_seqs,
    )
    stamps = _Stamps(len(run.arrival))
    wave = "recorded" if run.engines > 1 and cost.sparse else None
    spec = InstanceSpec("recorded", engine, cost.step_time, cost.num_gpu_blocks, wave=wave)
    fleet = Fleet(
        _workload(run),
        [spec] * run.engines,
        router=load_policy("router", "least-loaded"),
        tools=ToolsConfig(),
        seed=0,
        listener=stamps,
    )
    fleet.run()
    return (stamps.first_token, stamps.last_token), cost.provenance


def _engine(run: Recording) -> EngineConfig:
    scheduler = run.section("resolved_config", "scheduler_config")
    values = {
        "engine_version": _version(str(run.meta.get("vllm_version", "0.19"))),
        "block_size": run.section("kv_cache").get("block_size"),
        "async_scheduling": scheduler.get("async_scheduling"),
    }
    for key in ("max_num_batched_tokens", "max_num_seqs", "max_model_len"):
        values[key] = run.settings.get(key)
    return _checked(EngineConfig, run, values)


def _cost(run: Recording, tables: Path | None, scale: float) -> CostConfig:
    cache = run.section("kv_cache")
    values = {
        "model": run.model,
        "gpu": run.gpu,
        "tensor_parallel_size": run.settings.get("tensor_parallel_size"),
        "data_parallel_size": run.engines,
        "gpu_memory_utilization": cache.get("gpu_memory_utilization"),
        "num_gpu_blocks": cache.get("num_gpu_blocks"),
        "tables": tables,
        "step_time_scale": scale,
    }
    return _checked(CostConfig, run, values)


def _checked(model: type[Config], run: Recording, values: Mapping[str, Any]) -> Config:
    """The configuration; what the run does not say is left to the default."""
    given = {key: value for key, value in values.items() if value is not None}
    return validate(model, Settings(given, source=run.source))


def _version(recorded: str) -> EngineVersion:
    """The newest version whose rules are known and that is no newer than the recorded one."""

    def number(version: str) -> tuple[int, ...]:
        return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())

    known: list[EngineVersion] = sorted(get_args(EngineVersion), key=number)
    return max((v for v in known if number(v) <= number(recorded)), key=number, default=known[0])


def _workload(run: Recording) -> Workload:
    programs = []
    for index, arrival in enumerate(run.arrival):
        prompt, output = int(run.prompt_tokens[index]), int(run.output_tokens[index])
        turn = Turn(str(index), 0, str(index), prompt, output, ((Segment(), prompt + output),))
        programs.append(Program(str(index), to_ps(float(arrival)), (turn,)))
    return Workload(tuple(programs), run.name)


class _Stamps:
    """Listens for the first and last token of every request."""

    wants_steps = False

    def __init__(self, requests: int) -> None:
        self.first_token = np.zeros(requests)
        self.last_token = np.zeros(requests)

    def turn_done(self, record: TurnRecord) -> None:
        index = int(record.program_id)
        self.first_token[index] = to_s(record.first_token_ps)
        self.last_token[index] = to_s(record.finish_ps)

    def step_done(self, record: StepRecord) -> None:
        """Not asked for."""


def _figures(run: Recording, first: Array, last: Array) -> dict[tuple[str, str], float]:
    """Every figure of one side, by (figure, statistic), in seconds."""
    several = run.output_tokens > 1
    values = {
        "TTFT": first - run.arrival,
        "TPOT": (last - first)[several] / (run.output_tokens[several] - 1),
        "E2E": last - run.arrival,
    }
    figures: dict[tuple[str, str], float] = {}
    for figure, series in values.items():
        figures[figure, "mean"] = float(series.mean())
        for percent in (50, 90, 99):
            figures[figure, f"p{percent}"] = float(np.percentile(series, percent))
    easy = run.scheduled - run.queued < UNQUEUED_S
    if easy.any():
        figures["unqueued TTFT", "mean"] = float(values["TTFT"][easy].mean())
    figures["makespan", "total"] = float(last.max())
    return figures


def _notes(run: Recording) -> tuple[str, ...]:
    notes = ["prefix hits: requests.jsonl has no token ids, every prompt is computed in full"]
    if "num_gpu_blocks" not in run.section("kv_cache"):
        notes.append("KV blocks: not recorded, computed from the accelerator's memory")
    return tuple(notes)

"""Commands about real engines: profile, calibrate, validate."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentservesim.cli.options import Json
from agentservesim.cli.output import print_json
from agentservesim.model import InputError

if TYPE_CHECKING:
    from agentservesim.calibration import Prediction, StepLog
    from agentservesim.cost.calibration import Calibration


def calibrate(
    logs: Annotated[
        list[Path],
        typer.Argument(
            metavar="LOG...",
            help="Step logs of a real engine (NAME.steps.jsonl[.gz]), or folders of recorded runs.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="File to write, for --calibration of run and validate.")] = Path(
        "calibration.json"
    ),
    hold_out: Annotated[
        float,
        typer.Option(min=0.0, max=0.5, help="Share of steps or requests that is not fitted, only judged."),
    ] = 0.2,
    model: Annotated[
        str, typer.Option(help="With --gpu: fit the host and the machine's speed to this model's operators.")
    ] = "",
    gpu: Annotated[str, typer.Option(help="With --model: the accelerator that the log is of.")] = "",
    tables: Annotated[Path | None, typer.Option(help="Operator tables that price the operators.")] = None,
    tensor_parallel_size: Annotated[
        int, typer.Option(min=1, max=64, help="With --model and --gpu: accelerators that share each layer.")
    ] = 1,
) -> None:
    """Fit step times and front-end latencies to logs of a real engine.

    A step log says what each step took; a recorded run (meta.json and requests.jsonl, as for validate) what
    each request saw. From the latter come factors on operators, host overheads and the front end.
    """
    folders = [path for path in logs if path.is_dir()]
    if folders and (len(folders) < len(logs) or model or gpu):
        raise InputError(
            "calibrate: a folder of a recorded run says its model and gpu, and takes no step logs beside it"
        )
    given = {"model": model, "gpu": gpu, "tables": tables, "tensor_parallel_size": tensor_parallel_size}
    found = _of_requests(logs, tables, hold_out) if folders else _of_steps(logs, given, hold_out)
    _print(found)
    found.write(out)
    print(f"written to {out}", file=sys.stderr)


def _of_requests(folders: Sequence[Path], tables: Path | None, hold_out: float) -> Calibration:
    from agentservesim.validation import fit_requests, read_run

    return fit_requests([read_run(folder) for folder in folders], tables, hold_out)


def _of_steps(logs: Sequence[Path], given: Mapping[str, object], hold_out: float) -> Calibration:
    from agentservesim.calibration import fit_linear, front_end, read_step_log, read_turns, turns_beside

    if bool(given["model"]) != bool(given["gpu"]):
        raise InputError("calibrate: --model and --gpu go together; leave both out to fit six coefficients")
    runs = [read_step_log(path) for path in logs]
    found = _of_deployment(runs, given, hold_out) if given["model"] else fit_linear(runs, hold_out)
    watched = [
        front_end(run, read_turns(beside))
        for run, path in zip(runs, logs, strict=True)
        if (beside := turns_beside(path)) is not None
    ]
    if watched:
        in_s = sum(ends.in_s for ends in watched) / len(watched)
        out_s = sum(ends.out_s for ends in watched) / len(watched)
        found = found.model_copy(update={"front_end": type(watched[0])(in_s=in_s, out_s=out_s)})
    return found


def _of_deployment(runs: Sequence[StepLog], given: Mapping[str, object], hold_out: float) -> Calibration:
    from agentservesim.calibration import fit_host
    from agentservesim.cost import CostConfig, build_cost
    from agentservesim.cost.config import Efficiency
    from agentservesim.cost.roofline import IDEAL
    from agentservesim.settings import Settings, validate

    idle = {"host_overhead_s": 0.0, "prefill_overhead_s": 0.0}
    bare = validate(CostConfig, Settings({**given, **idle}, source="calibrate"))
    least = bare.model_copy(update={"step_time": "roofline", "efficiency": Efficiency(**IDEAL)})
    limits = runs[0].limits
    kernels, floor = (
        build_cost(
            config,
            block_size=limits.block_size,
            max_num_batched_tokens=limits.max_num_batched_tokens,
            max_num_seqs=limits.max_num_seqs,
        ).step_time
        for config in (bare, least)
    )
    return fit_host(runs, kernels, floor, hold_out)


def _print(found: Calibration) -> None:
    parts = [("", part) for part in (found.linear, found.host, found.factors) if part is not None]
    for prefix, part in [*parts, *([("front end ", found.front_end)] if found.front_end else [])]:
        for name, field in type(part).model_fields.items():
            spread = found.spreads.get("frontend_in_s" if prefix and name == "in_s" else name)
            spread_text = "" if spread is None else f" +- {spread:<9.2g}"
            value = round(getattr(part, name), 15)
            print(f"{prefix + name:<20}{value:>12.4g}{spread_text}  {field.description}")
    for label, error in (("fitted", found.fitted), ("held out", found.held_out)):
        if error is not None:
            print(f"{label}: {error}")
    if found.linear is not None or found.factors is None:
        print(f"spread of the logs' speeds: {found.speed_spread:.1%}; of steps: {found.step_spread:.1%}")


def profile(
    model: Annotated[str, typer.Argument(help="Catalogue name, Hub name, or a config.json or its folder.")],
    out: Annotated[Path, typer.Option(help="New folder for the tables.")],
    device: Annotated[
        str, typer.Option(help="cuda, cuda:1, cpu (all PyTorch), or numpy to try the profiler out.")
    ] = "cuda",
    tensor_parallel_size: Annotated[
        int, typer.Option(min=1, max=64, help="Shapes are those of one of so many ranks.")
    ] = 1,
    max_tokens: Annotated[int, typer.Option(min=16, help="Most tokens of a step.")] = 8192,
    max_context: Annotated[int, typer.Option(min=32, help="Most tokens of a sequence.")] = 65536,
    max_rows: Annotated[int, typer.Option(min=1, help="Most decode rows of a step.")] = 256,
) -> None:
    """Measure a model's operators on this machine's accelerator, and write tables for --tables."""
    from agentservesim.cost.modelnames import load_model
    from agentservesim.profiling import Grid, link_of, open_device
    from agentservesim.profiling import profile as measure

    grid = Grid(max_tokens=max_tokens, max_context=max(max_context, max_tokens), max_rows=max_rows)

    def tell(name: str, rows: int) -> None:
        print(f"\r{name}: {rows} rows ", end="", file=sys.stderr, flush=True)

    progress = tell if sys.stderr.isatty() else None
    measure(
        load_model(model), open_device(device), out, ranks=tensor_parallel_size, grid=grid, progress=progress
    )
    for direction, words in (("down", "device to host"), ("up", "host to device")):
        bytes_per_s, overhead_s = link_of(out, direction)
        print(f"{words}: {bytes_per_s / 1e9:.1f} GB/s, {overhead_s * 1e6:.1f} us a copy")
    print(f"tables are in {out}; price steps with --tables {out}")


def validate(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Folders of recorded runs (meta.json and requests.jsonl), or step logs (NAME.steps.jsonl).",
        ),
    ],
    tables: Annotated[
        Path | None, typer.Option("--tables", help="Operator tables, of one accelerator or of several.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="What `calibrate` found in other runs; step logs need one.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the comparison and pictures of the load.")
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(min=0.0, help="Exit with code 1 if a mean or the makespan is further off, as 0.03."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare with recorded runs of vLLM.

    Replays each run with its own arrivals and settings, and prints how far the simulation is off.
    """
    from agentservesim.validation import print_validation, validate_run, write_validation

    logs = [path for path in runs if ".steps.jsonl" in path.name]
    predictions = _predictions(logs, calibration)
    reports = [validate_run(folder, tables, calibration) for folder in runs if folder not in logs]
    if out is not None:
        write_validation(reports, out)
    if as_json:
        print_json([r.as_dict() for r in reports] + [p.as_dict() for p in predictions])
    else:
        print_validation(reports, sys.stdout)
        for prediction in predictions:
            prediction.print(sys.stdout)
    if tolerance is None:
        return
    beyond = [(report.name, row.figure, row.error) for report in reports for row in report.beyond(tolerance)]
    beyond += [(p.name, figure, p.error(figure)) for p in predictions for figure in p.beyond(tolerance)]
    for name, figure, error in beyond:
        print(f"beyond {tolerance:.1%}: {figure} of {name} is {error:+.1%} off", file=sys.stderr)
    if beyond:
        raise typer.Exit(1)


def _predictions(logs: Sequence[Path], calibration: Path | None) -> list[Prediction]:
    if not logs:
        return []
    if calibration is None:
        raise InputError(
            f"validate: {logs[0]} is a step log, which says nothing of the hardware; "
            "give --calibration FILE, written by `agentservesim calibrate` from other runs"
        )
    from agentservesim.calibration import predict_run
    from agentservesim.cost.calibration import read_calibration

    found = read_calibration(calibration)
    return [predict_run(path, found) for path in logs]

"""Write docs/accuracy.md anew: python scripts/make_accuracy.py [--out FILE].

Plays every recorded run there is against the simulator and puts the errors into scripts/accuracy.md. Needs
the recorded data beside the repository (../shared) and the extra `calibrate`; takes a few minutes.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Template

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "validation"), str(REPOSITORY / "scripts")]

import h100_loads
import judge
from decode_steps import stretches

from agentservesim.calibration import Prediction, read_step_log, read_turns, recorded, replay
from agentservesim.cost import CostConfig, build_cost
from agentservesim.validation import Row, ValidationReport, by_figure, label, read_run, validate_run

SHARED = REPOSITORY.parent / "shared"
RUNS = ("RTXPRO6000/Llama-3.1-8B", "RTX4090/Llama-3.1-8B", "RTXPRO6000/Qwen3-30B-A3B-Instruct-2507")
RECORDS = REPOSITORY / "validation" / "records" / "vllm-cpu"
PERCENTILES = ("p50", "p90", "p99")

MEAN, PERCENTILE, UNQUEUED, BLOCKS = 0.03, 0.05, 0.11, 0.02
H100_MEAN, H100_P99 = 0.04, 0.08
CPU_RAW = {"TTFT": 0.10, "TPOT": 0.10, "program": 0.04}
CPU_AT_SPEED = {"TTFT": 0.05, "TPOT": 0.03, "program": 0.02}
"""What was aimed at. An error beyond is printed bold."""


def signed(error: float, limit: float = float("inf")) -> str:
    """A relative error, bold beyond the limit."""
    return f"**{error:+.1%}**" if abs(error) > limit else f"{error:+.1%}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, numbers to the right."""
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def run_table(report: ValidationReport) -> str:
    """One replayed run: every figure, with its sensitivity, and what else there is to say."""

    def limit(row: Row) -> float:
        gated = row.figure in ("TTFT", "TPOT", "E2E", "makespan")
        return (PERCENTILE if row.statistic in PERCENTILES else MEAN) if gated else float("inf")

    rows = []
    for figures in by_figure(report):
        first = next(iter(figures.values()))
        cells = [
            label(first),
            f"{first.real:.4g}",
            f"{first.simulated:.4g}",
            signed(first.error, limit(first)),
        ]
        cells += [signed(figures[p].error, PERCENTILE) if p in figures else "" for p in PERCENTILES]
        cells += [signed(first.slower), signed(first.faster)]
        rows.append([*cells, "" if first.peer_error is None else signed(first.peer_error)])
    head = ("", "real", "ours", "error", *PERCENTILES, "+1 % steps", "-1 % steps", "LLMServingSim 2.0")
    mape = report.unqueued_mape or 0.0
    bold = "**" if mape > UNQUEUED else ""
    source = re.sub(r" in \S+$", " beside the runs", report.provenance["step_time"])
    apart = ", ".join(f"{name} {error:.1%}" for name, error in report.over_time.items())
    return (
        f"{table(head, rows)}\n\nUnqueued TTFT, each request on its own: MAPE {bold}{mape:.1%}{bold} of "
        f"{report.unqueued} requests. Over time, mean absolute difference: {apart}. Step times: {source}.\n"
    )


def run_section(reports: Mapping[str, ValidationReport]) -> str:
    """All replayed runs with one source of step times."""
    return "\n".join(f"**{name}**, {r.requests} requests\n\n{run_table(r)}" for name, r in reports.items())


def stretch_table() -> str:
    """Decode steps of the run that neither preempts nor shares, each priced by the tables beside it."""
    run = read_run(SHARED / "data" / "vllm-runs" / RUNS[0])
    folder = SHARED / "data" / "profiles" / "RTXPRO6000" / "meta-llama" / "Llama-3.1-8B" / "bf16"
    cost = build_cost(
        CostConfig(model=run.model, gpu=run.gpu, tables=folder),
        block_size=16,
        max_num_batched_tokens=run.settings["max_num_batched_tokens"],
        max_num_seqs=run.settings["max_num_seqs"],
    )
    rows = [
        [
            f"{s.start_s:.1f} s",
            f"{s.steps}",
            f"{s.rows}",
            f"{s.longest:,}",
            f"{s.real_ms:.2f}",
            f"{s.ours_ms:.2f}",
            signed(s.ours_ms / s.real_ms - 1),
        ]
        for s in stretches(run, cost.step_time)
    ]
    return table(("from", "steps", "rows", "longest context", "real ms", "ours ms", "error"), rows)


def h100_errors(seeds: int) -> dict[float, Mapping[str, tuple[float, float]]]:
    """Errors of each load, by requests a second."""
    return {n / h100_loads.SPAN_S: h100_loads.errors(n, seeds) for n in h100_loads.REAL}


def h100_limit(figure: str) -> float:
    """What was aimed at for a figure of that server."""
    return {"mean": H100_MEAN, "p99": H100_P99}.get(figure.split()[-1], float("inf"))


def h100_table(errors: Mapping[float, Mapping[str, tuple[float, float]]]) -> str:
    """The five loads."""
    rows = [
        [f"{rate:.2f}", *(f"{signed(e, h100_limit(f))} ± {s:.1%}" for f, (e, s) in found.items())]
        for rate, found in errors.items()
    ]
    return table(("req/s", *h100_loads.FIGURES), rows)


def h100_sensitivity() -> str:
    """Change of our figures when the accelerator's part of every step takes 1 % longer, of one draw."""
    rows = []
    for requests in h100_loads.REAL:
        change = h100_loads.simulated(requests, 0, 1.01) / h100_loads.simulated(requests, 0) - 1
        rows.append([f"{requests / h100_loads.SPAN_S:.2f}", *map(signed, change.tolist())])
    return table(("req/s", *h100_loads.FIGURES), rows)


def block_rows() -> list[tuple[str, int, int]]:
    """Servers whose KV blocks are known: what, real, computed."""
    run = read_run(SHARED / "data" / "vllm-runs" / RUNS[1])
    cache, limits = run.section("kv_cache"), run.settings
    share = float(cache["gpu_memory_utilization"])
    servers = (
        ("RTX 4090, Llama-3.1-8B", int(cache["num_gpu_blocks"]), run.gpu, run.model, share, limits),
        ("H100 SXM, Qwen3-14B", 18_038, "h100-sxm", "qwen3-14b", 0.92, h100_loads.ENGINE.model_dump()),
    )
    found = []
    for name, real, gpu, model, share, sizes in servers:
        cost = build_cost(
            CostConfig(gpu=gpu, model=model, gpu_memory_utilization=share, step_time="roofline"),
            block_size=16,
            max_num_batched_tokens=sizes["max_num_batched_tokens"],
            max_num_seqs=sizes["max_num_seqs"],
        )
        found.append((name, real, cost.num_gpu_blocks))
    return found


def block_table(found: Sequence[tuple[str, int, int]]) -> str:
    """Blocks computed beside the real ones."""
    rows = [[name, f"{real:,}", f"{ours:,}", signed(ours / real - 1, BLOCKS)] for name, real, ours in found]
    return table(("server", "real", "computed", "error"), rows)


def logs_in(folder: Path) -> dict[str, list[Path]]:
    """Step logs by workload, however they were served."""
    logs: dict[str, list[Path]] = {}
    for name, paths in judge.logs_of(folder).items():
        logs.setdefault(name.split("_")[-1], []).extend(paths)
    return logs


def cpu_rows(logs: Mapping[str, list[Path]], together: bool) -> list[list[str]]:
    """Every run, or all of a workload together, predicted from the other workloads."""
    rows = []
    for name in logs:
        predictions = judge.judge(dict(logs), name)
        groups = [(name, predictions)] if together else [(p.name, [p]) for p in predictions]
        for which, group in groups:
            rows += [cpu_row(which, figure, group) for figure in predictions[0].real.times]
    return rows


def cpu_row(name: str, figure: str, predictions: Sequence[Prediction]) -> list[str]:
    """One time of a workload: means over its runs, and how many lie in their 95 % interval."""
    real = np.array([p.real.times[figure] for p in predictions])
    raw = float(np.mean([p.raw.times[figure] for p in predictions]) / real.mean() - 1)
    scaled = float(np.mean([p.at_speed.times[figure] for p in predictions]) / real.mean() - 1)
    spread = f"{real.std(ddof=1) / real.mean():.1%}" if len(real) > 1 else ""
    bounds = [p.interval[figure] for p in predictions]
    inside = sum(low <= value <= high for value, (low, high) in zip(real, bounds, strict=True))
    between = "{:+.0%} to {:+.0%}".format(*(np.mean(bounds, axis=0) / real.mean() - 1))
    limits = (limit.get(figure, float("inf")) for limit in (CPU_RAW, CPU_AT_SPEED))
    errors = [signed(error, limit) for error, limit in zip((raw, scaled), limits, strict=True)]
    return [name, figure, f"{real.mean():.4f}", spread, *errors, between, f"{inside} of {len(real)}"]


CPU_HEAD = ("run", "time", "real s", "noise", "raw", "at speed", "95 % of simulations", "runs inside")


def replay_rows(paths: Iterable[Path]) -> list[list[str]]:
    """Decisions of synchronous runs, replayed with their own step times: real, then ours."""
    rows = []
    for path in paths:
        log = read_step_log(path)
        real, ours = recorded(log, read_turns(judge.turns_of(path))), replay(log)
        told = any(step.evicted for step in log.steps)
        pairs = [(real.cached_tokens, ours.cached_tokens), (real.preemptions, ours.preemptions)]
        cells = [f"{a:,} and {b:,}" if a == b else f"**{a:,} and {b:,}**" for a, b in pairs]
        a, b = real.evicted_blocks, ours.evicted_blocks
        evicted = (f"{a:,} and {b:,}" if a == b else f"**{a:,} and {b:,}**") if told else f"not logged, {b:,}"
        rows.append([log.name, *cells, evicted])
    return rows


def verdicts(
    sources: Mapping[str, Mapping[str, ValidationReport]],
    h100: Mapping[float, Mapping[str, tuple[float, float]]],
    blocks: Sequence[tuple[str, int, int]],
) -> str:
    """What was aimed at, and the worst that was found."""
    rows: list[tuple[str, float, float, str]] = []
    for source, reports in sources.items():
        for name, report in reports.items():
            gated = [r for r in report.figures if r.figure in ("TTFT", "TPOT", "E2E", "makespan")]
            for kind, limit, of in (
                ("means and makespan", MEAN, [r for r in gated if r.statistic not in PERCENTILES]),
                ("p50, p90, p99", PERCENTILE, [r for r in gated if r.statistic in PERCENTILES]),
            ):
                worst = max(of, key=lambda row: abs(row.error))
                what = f"{worst.figure} {worst.statistic}".removesuffix(" total")
                rows.append((f"{name}, {source}: {kind}", limit, worst.error, what))
            mape = report.unqueued_mape or 0.0
            rows.append((f"{name}, {source}: unqueued TTFT", UNQUEUED, mape, "MAPE"))
    for kind, limit in (("mean", H100_MEAN), ("p99", H100_P99)):
        found = [(f, e, r) for r, row in h100.items() for f, (e, _) in row.items() if f.endswith(kind)]
        figure, error, rate = max(found, key=lambda cell: abs(cell[1]))
        rows.append((f"H100 under five loads: {kind}", limit, error, f"{figure} at {rate:.0f} req/s"))
    for name, real, ours in blocks:
        rows.append((f"KV blocks, {name}", BLOCKS, ours / real - 1, "blocks"))
    cells = [
        [what, f"{limit:.0%}", f"{signed(error, limit)} ({where})", "no" if abs(error) > limit else "yes"]
        for what, limit, error, where in rows
    ]
    return table(("", "aimed at", "worst", "reached"), cells)


def page(seeds: int = 4) -> str:
    """The whole page."""
    runs = SHARED / "data" / "vllm-runs"
    sources = {
        "own tables": {name: validate_run(runs / name, SHARED / "data" / "profiles") for name in RUNS},
        "as shipped": {name: validate_run(runs / name) for name in RUNS},
    }
    h100, blocks = h100_errors(seeds), block_rows()
    recorded_logs, fresh = logs_in(SHARED / "vllm" / "recorded"), logs_in(RECORDS)
    logs = [path for of in (recorded_logs, fresh) for paths in of.values() for path in paths]
    text = Template((REPOSITORY / "scripts" / "accuracy.md").read_text(encoding="utf-8"))
    return text.substitute(
        verdicts=verdicts(sources, h100, blocks),
        own=run_section(sources["own tables"]),
        shipped=run_section(sources["as shipped"]),
        stretches=stretch_table(),
        h100=h100_table(h100),
        h100_slower=h100_sensitivity(),
        seeds=seeds,
        blocks=block_table(blocks),
        recorded=table(CPU_HEAD, cpu_rows(recorded_logs, together=False)),
        fresh=table(CPU_HEAD, cpu_rows(fresh, together=True)),
        replays=table(("run", "cached tokens", "preemptions", "blocks evicted"), replay_rows(logs)),
    )


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "accuracy.md")
    out = parser.parse_args().out
    if not SHARED.is_dir():
        sys.exit(f"make_accuracy: the recorded data is not here: {SHARED}")
    out.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()

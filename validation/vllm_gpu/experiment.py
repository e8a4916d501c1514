"""Records real vLLM on a real GPU under agent programs, and judges the simulator by the records.

    python validation/vllm_gpu/experiment.py draw work              # here: the workloads
    python validation/vllm_gpu/experiment.py record work records    # there, in vLLM's environment
    python validation/judge.py records/llama-3.1-8b                 # here

Six workloads for each model: three loads, below, at and above saturation of one H100; contexts up to
30,000 tokens; a small KV pool, so that blocks are evicted and requests preempted; and the middle load once
more with KV offloaded to host memory. `--toy` draws them at a size that a CPU can run, with one tiny model.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from programs import Range, draw

HERE = Path(__file__).resolve().parent

AGENTS: dict[str, Range] = {
    "turns": (5, 12),
    "first": (2000, 8000),
    "append": (100, 2000),
    "output": (50, 400),
    "tool_s": (0.2, 8.0),
}
TOY: dict[str, Range] = {"turns": (2, 3), "first": (50, 150), "append": (10, 60), "output": (5, 20)}


@dataclass(frozen=True)
class Workload:
    """A workload, and what its engine is told beyond the defaults."""

    name: str
    programs: int
    rate: float
    engine: tuple[str, ...] = ()
    kind: dict[str, Range] = field(default_factory=dict)


WORKLOADS = (
    Workload("below", 30, 0.5),
    Workload("at", 60, 1.5),
    Workload("above", 80, 4.0),
    Workload("long", 20, 0.3, kind={"first": (10000, 20000), "turns": (3, 6)}),
    Workload("small-pool", 40, 1.5, ("--num-blocks", "4096")),
    Workload("offload", 60, 1.5, ("--num-blocks", "4096", "--kv-offloading-gib", "40")),
)
TOY_ENGINE = (
    *("--max-model-len", "2048", "--max-num-batched-tokens", "256", "--max-num-seqs", "16"),
    *("--block-size", "32", "--enforce-eager", "--gpu-memory-utilization", "0.2", "--num-blocks", "256"),
)


def write_workloads(folder: Path, toy: bool, seed: int) -> None:
    """Draw the workloads."""
    folder.mkdir(parents=True, exist_ok=True)
    for work in WORKLOADS[:3] if toy else WORKLOADS:
        count, rate, kind = (4, 2.0, TOY) if toy else (work.programs, work.rate, {**AGENTS, **work.kind})
        shared = 64 if toy else 2048
        programs = draw(count, rate, seed, shared=shared, **kind)  # type: ignore[arg-type]
        text = "".join(json.dumps(program) + "\n" for program in programs)
        (folder / f"{work.name}.jsonl").write_text(text)


def record(folder: Path, out: Path, toy: bool) -> None:
    """Play the workloads on an engine of each model; workloads with equal settings share one."""
    tiny = HERE.parent / "vllm_cpu" / "model.json"
    for model in [tiny] if toy else [HERE / "llama-3.1-8b.json", HERE / "qwen3-14b.json"]:
        together: dict[tuple[str, ...], list[Path]] = {}
        for work in WORKLOADS[:3] if toy else WORKLOADS:
            together.setdefault(TOY_ENGINE if toy else work.engine, []).append(folder / f"{work.name}.jsonl")
        for options, paths in together.items():
            places = ["--model", model, "--out", out / model.stem]
            engine = HERE / "engine.py"
            subprocess.run(list(map(str, [sys.executable, engine, *paths, *places, *options])), check=True)


def main() -> None:
    """Draw or record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--toy", action="store_true", help="at a size that a CPU can run")
    parser.add_argument("--seed", type=int, default=1)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("draw").add_argument("work", type=Path)
    recording = commands.add_parser("record")
    recording.add_argument("work", type=Path)
    recording.add_argument("out", type=Path)
    given = parser.parse_args()
    if given.command == "draw":
        write_workloads(given.work, given.toy, given.seed)
    else:
        record(given.work, given.out, given.toy)


if __name__ == "__main__":
    main()

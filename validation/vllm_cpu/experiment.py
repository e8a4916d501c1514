"""Predicts runs of real vLLM on a CPU that the simulator has not seen.

    python validation/vllm_cpu/experiment.py --vllm-python V/bin/python --out out/vllm-cpu

Draws three workloads of multi-turn programs with tool gaps: one of moderate load, one that overloads the
engine so that it evicts, one of long replies in so few blocks that it preempts. Each is run several times;
each is predicted by step times calibrated on the other two. Prints the errors beside the noise of the runs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from judge import print_judgement
from programs import draw


@dataclass(frozen=True)
class Workload:
    """A workload to draw, and the KV blocks it is given."""

    name: str
    num_blocks: int
    programs: int
    rate: float
    kind: dict[str, tuple[float, float]] = field(default_factory=dict)


WORKLOADS = (
    Workload("moderate", 256, 12, 0.5),
    Workload("overload", 128, 12, 2.0),
    Workload("preempting", 80, 12, 1.0, {"output": (40, 120)}),
)


def record(given: argparse.Namespace) -> None:
    """Run the engine on every workload; runs that are there already are kept."""
    given.out.mkdir(parents=True, exist_ok=True)
    for work in WORKLOADS:
        if (given.out / f"{work.name}.{given.repeat - 1}.turns.jsonl").exists():
            continue
        path = given.out / f"{work.name}.jsonl"
        drawn = draw(work.programs, work.rate, given.seed, **work.kind)  # type: ignore[arg-type]
        path.write_text("".join(json.dumps(program) + "\n" for program in drawn))
        engine = Path(__file__).with_name("engine.py")
        options = ["--out", given.out, "--repeat", given.repeat, "--num-blocks", work.num_blocks]
        subprocess.run([given.vllm_python, engine, path, *map(str, options)], check=True)


def main() -> None:
    """Record, calibrate, predict, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--vllm-python", required=True, help="the Python of an environment with vllm-cpu")
    parser.add_argument("--out", type=Path, default=Path("out/vllm-cpu"), help="folder for the logs")
    parser.add_argument("--repeat", type=int, default=5, help="runs of each workload")
    parser.add_argument("--seed", type=int, default=1, help="of the workloads")
    parser.add_argument("--verbose", action="store_true", help="print every run")
    given = parser.parse_args()
    if shutil.which(given.vllm_python) is None:
        parser.error(
            f"--vllm-python: {given.vllm_python} is no program; see docs/oracle.md for how to install vLLM"
        )
    record(given)
    print_judgement(given.out, given.verbose)


if __name__ == "__main__":
    main()

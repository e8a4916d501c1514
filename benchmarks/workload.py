"""The agent workload that all speed figures speak of, as a Mooncake trace file.

Programs of about ten turns: a system prompt of 2,048 tokens that all share, a first message, then
each prompt is the whole conversation with the reply and what a tool returned; seconds of tool time in
between. The project's figures were agreed on the output of a script that lies beside the repository
(`../shared/bench/gen.py`). Where that is absent, `write_trace` draws a workload of the same shape and
statistics: it is not the same file, so its figures are only about comparable.
"""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import orjson
from numpy.random import Generator

from agentservesim.random import stream

REPOSITORY = Path(__file__).resolve().parents[1]
AGREED = REPOSITORY.parent / "shared" / "bench" / "gen.py"
CACHE = REPOSITORY / "out" / "bench"

SYSTEM_TOKENS = 2048
MEAN_TURNS = 9.45


@dataclass(frozen=True)
class Trace:
    """A trace file and which generator made it."""

    path: Path
    source: str


def trace(programs: int, rate: float, block_size: int) -> Trace:
    """The workload with so many programs, arriving at `rate` a second; made once and kept in out/bench."""
    source = "gen.py" if AGREED.is_file() else "own"
    path = CACHE / f"{source.removesuffix('.py')}-{programs}-{rate:g}-{block_size}.jsonl"
    if not path.is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        if source == "own":
            write_trace(unfinished, programs, rate, block_size)
        else:
            options = {"sessions": programs, "rate": rate, "block": block_size, "out": unfinished}
            arguments = [text for key, value in options.items() for text in (f"--{key}", str(value))]
            subprocess.run([sys.executable, str(AGREED), *arguments], check=True, stdout=subprocess.DEVNULL)
        unfinished.rename(path)
    return Trace(path, source)


def write_trace(path: Path, programs: int, rate: float, block_size: int, seed: int = 0) -> None:
    """Draw the workload: Poisson arrivals, sessions of a geometric number of turns, lognormal sizes.

    Hash ids are never used twice except by what goes on from the same content: a last, partial block
    has an id of its own.
    """
    rng = stream(seed, "benchmark")
    shared = SYSTEM_TOKENS // block_size
    next_id, arrival_s = shared, 0.0
    with path.open("wb") as file:
        for program in range(programs):
            arrival_s += float(rng.exponential(1 / rate))
            prompt = SYSTEM_TOKENS + int(rng.integers(1024, 4097))
            ids = list(range(shared))
            for turn in range(_turns(rng)):
                full = prompt // block_size
                ids += range(next_id, next_id + full - len(ids))
                next_id = max(next_id, ids[-1] + 1)
                partial = [next_id] if prompt % block_size else []
                next_id += len(partial)
                output = _lognormal(rng, 200, 0.8, 16, 2000)
                when = {"delay": _lognormal(rng, 4000, 1.0, 100, 60_000)}
                row = {
                    "request_id": f"{program}:{turn}",
                    "session_id": str(program),
                    **(when if turn else {"timestamp": round(arrival_s * 1000)}),
                    "input_length": prompt,
                    "output_length": output,
                    "hash_ids": ids + partial,
                }
                file.write(orjson.dumps(row) + b"\n")
                prompt += output + _lognormal(rng, 700, 1.0, 16, 8192)


def _turns(rng: Generator) -> int:
    return min(40, 1 + int(rng.geometric(1 / (MEAN_TURNS - 1))))


def _lognormal(rng: Generator, mean: float, sigma: float, low: int, high: int) -> int:
    """A whole number with this mean before it is cut to `low`..`high`."""
    return int(min(high, max(low, rng.lognormal(math.log(mean) - sigma**2 / 2, sigma))))

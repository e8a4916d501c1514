"""One H100 that serves Qwen3-14B under five loads: the simulator with shipped tables and defaults beside it.

    python validation/h100_loads.py [--seeds N]
    python validation/h100_loads.py --rate 7 --prompt 500 --output 256      # the latencies of another load

The real server: vLLM 0.23, bf16, 8,192 tokens a step, 256 sequences, 18,038 blocks of 16; Poisson arrivals
for 600 s, prompts of 986 +- 15 tokens, each unlike all others, 128 output tokens. Its latencies are the
client's, from public measurements; two runs of one cell on two GPUs differ by up to 1.9 % in mean TTFT and
1.7 % in mean E2E. Its arrivals are not known, so ours are drawn: figures are means over seeds, with the
standard deviation from seed to seed, the noise of one run.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agentservesim.cost import CostConfig, build_cost
from agentservesim.engine.config import EngineConfig
from agentservesim.fleet import Fleet, InstanceSpec
from agentservesim.fleet.config import ToolsConfig
from agentservesim.model import Program, Segment, StepRecord, Turn, TurnRecord, Workload, to_ps, to_s
from agentservesim.policies import load_policy

FIGURES = ("TTFT mean", "TTFT p50", "TTFT p99", "TPOT mean", "TPOT p99", "E2E mean", "E2E p99")

REAL = {
    1181: (66.3, 64.1, 108, 12.32, 13.70, 1631, 1807),
    2363: (73.9, 67.5, 142, 13.63, 16.07, 1805, 2118),
    3597: (80.2, 69.5, 170, 15.00, 18.75, 1986, 2457),
    4817: (88.5, 73.1, 192, 17.15, 21.67, 2266, 2846),
    6016: (104.1, 90.7, 254, 20.44, 29.56, 2700, 3876),
}
"""Milliseconds of the real server, by requests in 600 s."""

SPAN_S = 600.0


class Mix(NamedTuple):
    """Tokens of a prompt (mean and standard deviation) and of a reply."""

    prompt: int = 986
    spread: int = 15
    output: int = 128


MIX = Mix()
COST = CostConfig(model="qwen3-14b", gpu="h100-sxm", num_gpu_blocks=18_038)
ENGINE = EngineConfig(engine_version="0.19", max_num_batched_tokens=8192, max_num_seqs=256)


class Turns:
    """Listens for finished turns."""

    wants_steps = False

    def __init__(self) -> None:
        self.records: list[TurnRecord] = []

    def turn_done(self, record: TurnRecord) -> None:
        """Keep it."""
        self.records.append(record)

    def step_done(self, record: StepRecord) -> None:
        """Not asked for."""


def simulated(requests: int, seed: int, scale: float = 1.0, mix: Mix = MIX) -> NDArray[np.float64]:
    """Our figures of one load, in milliseconds, in the order of `FIGURES`; `scale` is a factor on the
    accelerator's part of every step."""
    priced = COST.model_copy(update={"step_time_scale": scale})
    cost = build_cost(priced, block_size=16, max_num_batched_tokens=8192, max_num_seqs=256)
    turns = Turns()
    fleet = Fleet(
        _workload(requests, seed, mix),
        [
            InstanceSpec(
                "h100",
                ENGINE,
                cost.step_time,
                cost.num_gpu_blocks,
                frontend_in_ps=cost.frontend_in_ps,
                frontend_out_ps=cost.frontend_out_ps,
            )
        ],
        router=load_policy("router", "least-loaded"),
        tools=ToolsConfig(),
        seed=seed,
        listener=turns,
    )
    fleet.run()
    ttft = np.array([to_s(record.first_token_ps - record.ready_ps) for record in turns.records])
    e2e = np.array([to_s(record.finish_ps - record.ready_ps) for record in turns.records])
    tpot = (e2e - ttft) / (mix.output - 1)
    figures = [np.mean(ttft), *np.percentile(ttft, [50, 99])]
    figures += [value for times in (tpot, e2e) for value in (np.mean(times), np.percentile(times, 99))]
    return 1e3 * np.array(figures)


def _workload(requests: int, seed: int, mix: Mix) -> Workload:
    """Poisson arrivals, given how many there are."""
    rng = np.random.default_rng(seed)
    arrivals = np.sort(rng.uniform(0.0, SPAN_S, requests))
    prompts = np.maximum(1, np.rint(rng.normal(mix.prompt, mix.spread, requests))).astype(int)
    programs = []
    for index, (arrival, prompt) in enumerate(zip(arrivals, prompts.tolist(), strict=True)):
        path = ((Segment(), prompt + mix.output),)
        turn = Turn(str(index), 0, str(index), prompt, mix.output, path)
        programs.append(Program(str(index), to_ps(float(arrival)), (turn,)))
    return Workload(tuple(programs), f"{requests} requests")


def errors(requests: int, seeds: int = 1) -> Mapping[str, tuple[float, float]]:
    """Relative error of each figure of a load, mean and standard deviation over seeds."""
    ours = np.array([simulated(requests, seed) for seed in range(seeds)]) / np.array(REAL[requests]) - 1.0
    return {name: (float(ours[:, i].mean()), float(ours[:, i].std())) for i, name in enumerate(FIGURES)}


def main() -> None:
    """Print the errors of all loads, or the latencies of another."""
    parser = argparse.ArgumentParser(
        description="Errors beside a real H100, or the latencies of another load."
    )
    parser.add_argument("--seeds", type=int, default=4, help="draws of the arrivals (4)")
    parser.add_argument("--rate", type=float, help="another load: requests a second, for 600 s")
    for name, tokens in MIX._asdict().items():
        parser.add_argument(f"--{name}", type=int, default=tokens, help=f"tokens, with --rate ({tokens})")
    given = parser.parse_args()
    mix = Mix(given.prompt, given.spread, given.output)
    if given.seeds < 1 or mix.prompt < 1 or mix.spread < 0 or mix.output < 2:
        parser.error("--seeds and --prompt must be at least 1, --spread 0, --output 2")
    if given.rate is None and mix != MIX:
        parser.error("--prompt, --spread and --output are of another load: give its --rate too")
    if given.rate is not None and not 1 / SPAN_S <= given.rate <= 1e3:
        parser.error(f"--rate must be from {1 / SPAN_S:.4f} to 1,000 requests a second")
    cost = build_cost(COST, block_size=16, max_num_batched_tokens=8192, max_num_seqs=256)
    print(cost.provenance["step_time"])
    print(f"{'req/s':>6}" + "".join(f"{name:>17}" for name in FIGURES))
    if given.rate is not None:
        print("milliseconds:")
        requests = round(given.rate * SPAN_S)
        ours = np.array([simulated(requests, seed, mix=mix) for seed in range(given.seeds)])
        pairs = zip(ours.mean(axis=0), ours.std(axis=0), strict=True)
        _print(given.rate, [f"{mean:.4g} +- {spread:.1g}" for mean, spread in pairs])
        return
    for requests in REAL:
        cells = (f"{mean:+.1%} +- {spread:.1%}" for mean, spread in errors(requests, given.seeds).values())
        _print(requests / SPAN_S, cells)


def _print(rate: float, cells: Iterable[str]) -> None:
    print(f"{rate:>6.2f}" + "".join(f"{cell:>17}" for cell in cells))


if __name__ == "__main__":
    main()

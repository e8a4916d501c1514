"""Replay a scheduler workload and print vLLM's step records.

    python -m agentservesim.testing.replay WORKLOAD.jsonl [limits] [--step-time BASE,PREFILL,DECODE,CONTEXT]

The workload lines, limit flags and records are those of the scheduler oracle, which drives vLLM's own
scheduler and KV cache manager without a model. Here the product's own engine and block pool run, so
that the two outputs can be compared line by line.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from agentservesim.engine.config import EngineConfig
from agentservesim.engine.order import order_of
from agentservesim.model import InputError
from agentservesim.policies import load_policy
from agentservesim.testing.oracle_workload import OracleWorkload, check, read_lines
from agentservesim.testing.traced import AffineStepTime, Record, RecordedStepTime, TracedInstance


def replay(
    specs: list[Record],
    config: EngineConfig,
    num_blocks: int,
    step_time: AffineStepTime,
    *,
    policy: str = "fcfs",
    at_once: bool = False,
) -> list[Record]:
    """Step records of a workload under a scheduling policy.

    With `at_once` decode rows are advanced together, as in a leap.
    """
    workload = OracleWorkload(specs, config.max_model_len or 1 << 40)
    order = order_of(load_policy("scheduler", policy))
    return TracedInstance(workload, config, num_blocks, step_time, order, at_once).run()


def recorded_run(path: str) -> tuple[Record, list[Record], list[float]]:
    """Settings, workload and step times out of the step log of a real engine."""
    config: Record = {}
    requests: dict[str, Record] = {}
    outputs: dict[str, list[int]] = {}
    specs: list[Record] = []
    times: list[float] = []
    for line in read_lines(path):
        if line["ev"] == "config":
            config = line
        elif line["ev"] == "req":
            requests[line["id"]] = line
        elif line["ev"] == "fin":
            outputs[line["id"]] = line["out"]
        elif line["ev"] == "step":
            for name in line["arrived"]:
                request = requests[name]
                specs.append(
                    {
                        "request_id": name,
                        "arrival_step": len(times),
                        "prompt_token_ids": request["prompt"],
                        "max_tokens": request["max_tokens"],
                        "priority": request.get("priority", 0),
                    }
                )
            times.append(line["t2"] - line["t0"])
    for spec in specs:
        spec["output_token_ids"] = outputs[spec["request_id"]]
    return config, specs, times


def limit_parser() -> argparse.ArgumentParser:
    """The oracle's limit flags, with its defaults."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--block-size", type=int, default=16)
    parser.add_argument("--num-blocks", type=int, default=64, help="the null block included")
    parser.add_argument("--max-num-batched-tokens", type=int, default=128)
    parser.add_argument("--max-num-seqs", type=int, default=16)
    parser.add_argument("--max-model-len", type=int, default=4096)
    parser.add_argument("--long-prefill-token-threshold", type=int, default=0)
    parser.add_argument("--policy", choices=["fcfs", "priority"], default="fcfs")
    parser.add_argument("--watermark", type=float, default=0.0)
    parser.add_argument("--no-prefix-caching", action="store_true")
    parser.add_argument("--no-chunked-prefill", action="store_true")
    parser.add_argument("--no-reserve-full-isl", action="store_true")
    parser.add_argument("--async-scheduling", action="store_true")
    return parser


def engine_config(limits: argparse.Namespace) -> EngineConfig:
    """The limits as engine settings."""
    return EngineConfig(
        block_size=limits.block_size,
        max_num_batched_tokens=limits.max_num_batched_tokens,
        max_num_seqs=limits.max_num_seqs,
        max_model_len=limits.max_model_len,
        long_prefill_token_threshold=limits.long_prefill_token_threshold,
        watermark=limits.watermark,
        enable_prefix_caching=not limits.no_prefix_caching,
        enable_chunked_prefill=not limits.no_chunked_prefill,
        scheduler_reserve_full_isl=not limits.no_reserve_full_isl,
        async_scheduling=limits.async_scheduling,
    )


def _limits_of(recorded: Record, limits: argparse.Namespace) -> None:
    """Set the limits to those that a recorded run states."""
    limits.num_blocks = recorded["num_blocks"]
    for key in (
        "block_size",
        "max_num_batched_tokens",
        "max_num_seqs",
        "max_model_len",
        "policy",
        "long_prefill_token_threshold",
        "watermark",
        "async_scheduling",
    ):
        setattr(limits, key, recorded[key])
    limits.no_prefix_caching = not recorded["prefix_caching"]
    limits.no_chunked_prefill = not recorded["chunked_prefill"]
    limits.no_reserve_full_isl = not recorded["reserve_full_isl"]


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m agentservesim.testing.replay",
        description=__doc__.split("\n")[0],
        parents=[limit_parser()],
    )
    parser.add_argument("workload", nargs="?", help="JSONL; - for stdin")
    parser.add_argument("-o", "--out", default="-")
    parser.add_argument(
        "--step-time", default="0.01,0.0001,0.0005,0", help="seconds per step, token, row, context"
    )
    parser.add_argument(
        "--replay-trace", help="arrivals, step times and limits from the step log of a real run"
    )
    parser.add_argument("--no-times", action="store_true", help="drop t0..t3 from the output")
    parser.add_argument("--at-once", action="store_true", help="advance decode rows together, as leaps do")
    options = parser.parse_args(arguments)
    try:
        if options.replay_trace:
            recorded, specs, times = recorded_run(options.replay_trace)
            _limits_of(recorded, options)
            step_time: AffineStepTime = RecordedStepTime(times)
        elif options.workload:
            specs = read_lines(options.workload)
            check(specs, options.workload)
            step_time = AffineStepTime(float(x) for x in options.step_time.split(","))
        else:
            raise InputError("needs a workload file or --replay-trace")
        records = replay(
            specs,
            engine_config(options),
            options.num_blocks,
            step_time,
            policy=options.policy,
            at_once=options.at_once,
        )
    except (InputError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    text = "".join(json.dumps(_shown(r, options.no_times), separators=(",", ":")) + "\n" for r in records)
    if options.out == "-":
        sys.stdout.write(text)
    else:
        Path(options.out).write_text(text)
    return 0


def _shown(record: Record, without_times: bool) -> Record:
    return {k: v for k, v in record.items() if not (without_times and k in ("t0", "t1", "t2", "t3"))}


if __name__ == "__main__":
    sys.exit(main())

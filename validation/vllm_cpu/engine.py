"""Runs programs on a real vLLM engine in one process on the CPU, and writes its step logs.

    V/bin/python validation/vllm_cpu/engine.py programs.jsonl --out run --repeat 5

Model, scheduler, KV cache and sampler are vLLM's own; the HTTP front end is left out. The clock is the
CPU time that the process uses: other processes hardly disturb it, and a tool's pause costs nothing.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
for setting, value in {
    "OMP_NUM_THREADS": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_HOST_IP": "127.0.0.1",
}.items():
    os.environ.setdefault(setting, value)

from programs import Context, pause_s, read


class CpuClock:
    """Seconds of CPU time since the start, and pauses that were skipped."""

    def __init__(self):
        self.start, self.skipped = time.process_time(), 0.0

    def __call__(self):
        """Now."""
        return time.process_time() - self.start + self.skipped

    def skip_to(self, when):
        """Let time pass at no cost."""
        self.skipped += max(0.0, when - self())


def build(limits, folder):
    """An engine with these limits; its model is written to `folder`."""
    from vllm.config import KVEventsConfig
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine.core import EngineCore
    from vllm.v1.executor.abstract import Executor

    Path(folder, "config.json").write_text((HERE / "model.json").read_text())
    config = EngineArgs(
        model=folder,
        skip_tokenizer_init=True,
        load_format="dummy",
        dtype="bfloat16",
        enforce_eager=True,
        enable_prefix_caching=True,
        num_gpu_blocks_override=limits.num_blocks,
        block_size=limits.block_size,
        max_model_len=limits.max_model_len,
        max_num_batched_tokens=limits.max_num_batched_tokens,
        max_num_seqs=limits.max_num_seqs,
        kv_cache_memory_bytes=1 << 30,
        seed=0,
        scheduler_cls="tracing.LoggedScheduler",
        kv_events_config=KVEventsConfig(enable_kv_cache_events=False, publisher="null"),
        distributed_executor_backend="uni",
    ).create_engine_config()
    return EngineCore(config, Executor.get_class(config), log_stats=True)


def play(core, programs, hurry=False):
    """Run the programs to their ends; returns the turns as their clients saw them."""
    from vllm import SamplingParams
    from vllm.v1.request import Request

    clock = core.scheduler.clock = CpuClock()
    core.scheduler.lines.clear()
    said = [Context(program) for program in programs]
    due = [(0.0 if hurry else p["arrival_s"], i, 0) for i, p in enumerate(programs)]
    heapq.heapify(due)
    open_turns, done = {}, []
    while due or core.scheduler.has_requests():
        while due and due[0][0] <= clock():
            when, i, k = heapq.heappop(due)
            prompt, count = said[i].prompt(k), programs[i]["turns"][k]["output_tokens"]
            name = f"{said[i].name}.{k}"
            open_turns[name] = {
                "id": name,
                "program": said[i].name,
                "turn": k,
                "t_send": when,
                "prompt_len": len(prompt),
                "out": [],
                "index": i,
            }
            sampling = SamplingParams(
                max_tokens=count, min_tokens=count, temperature=0, ignore_eos=True, detokenize=False
            )
            core.add_request(
                Request(
                    request_id=name,
                    prompt_token_ids=prompt,
                    sampling_params=sampling,
                    pooling_params=None,
                    arrival_time=clock(),
                    block_hasher=core.request_block_hasher,
                )
            )
        if not core.scheduler.has_requests():
            clock.skip_to(due[0][0])
            continue
        outputs, executed = core.step_fn()
        core.post_step(executed)
        now = clock()
        for output in (o for batch in outputs.values() for o in batch.outputs):
            turn = open_turns[output.request_id]
            if output.new_token_ids:
                if not turn["out"]:
                    turn["t_first"] = now
                    turn["cached"] = output.prefill_stats.num_cached_tokens if output.prefill_stats else None
                turn["t_last"] = now
                turn["out"] += output.new_token_ids
            if output.finish_reason is not None:
                del open_turns[output.request_id]
                i, k, out = turn.pop("index"), turn["turn"], turn.pop("out")
                done.append(turn | {"t_done": now, "n_out": len(out)})
                said[i].reply(out)
                if k + 1 < len(said[i].turns):
                    pause = 0.0 if hurry else pause_s(said[i].turns[k])
                    heapq.heappush(due, (now + pause, i, k + 1))
    return done


def main():
    """Run every file, again and again."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("programs", nargs="+", type=Path, help="files of programs (validation/programs.py)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the logs")
    parser.add_argument("--repeat", type=int, default=5, help="runs of each file, taken in turns")
    parser.add_argument("--num-blocks", type=int, default=256)
    parser.add_argument("--block-size", type=int, default=32)
    parser.add_argument("--max-num-batched-tokens", type=int, default=256)
    parser.add_argument("--max-num-seqs", type=int, default=16)
    parser.add_argument("--max-model-len", type=int, default=2048)
    given = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    given.out.mkdir(parents=True, exist_ok=True)
    work = {path.stem: read(path) for path in given.programs}
    with tempfile.TemporaryDirectory() as folder:
        core = build(given, folder)
        for programs in work.values():
            play(core, programs[:4], hurry=True)
        for number in range(given.repeat):
            for name, programs in work.items():
                core.reset_prefix_cache()
                turns = play(core, programs)
                lines = [core.scheduler.config_line, *core.scheduler.lines]
                for kind, rows in (("steps", lines), ("turns", turns)):
                    text = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
                    (given.out / f"{name}.{number}.{kind}.jsonl").write_text(text)
                print(f"{name}.{number}: {len(turns)} turns, {len(lines)} lines", flush=True)
    os._exit(0)  # vLLM's shutdown waits for workers that there are none of


if __name__ == "__main__":
    main()

"""Runs programs on a real vLLM server process (AsyncLLM), and writes its step logs.

    python validation/vllm_gpu/engine.py light.jsonl heavy.jsonl --model llama-3.1-8b.json --out records

An engine process of its own, asynchronous scheduling where the platform has it, CUDA graphs, weights that
are random; programs really wait for their tools, and send the engine's own replies back. Each file of
programs (validation/programs.py) is played on an empty prefix cache. Writes, for each, the step log, the
turns and `NAME.meta.json` (engine arguments, versions, device). The same script runs on a CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOOLS))
os.environ["PYTHONPATH"] = os.pathsep.join([str(TOOLS), os.environ.get("PYTHONPATH", "")])
for setting, value in {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_HOST_IP": "127.0.0.1",
}.items():
    os.environ.setdefault(setting, value)

from programs import Context, pause_s, read


def arguments(given, folder, on_gpu):
    """What the engine is told."""
    ahead = on_gpu and not given.sync
    told = {
        "model": folder,
        "skip_tokenizer_init": True,
        "load_format": "dummy",
        "dtype": "bfloat16",
        "seed": 0,
        "enable_prefix_caching": True,
        "max_model_len": given.max_model_len,
        "max_num_batched_tokens": given.max_num_batched_tokens,
        "max_num_seqs": given.max_num_seqs,
        "block_size": given.block_size,
        "gpu_memory_utilization": given.gpu_memory_utilization,
        "enforce_eager": given.enforce_eager,
        "scheduler_cls": "tracing.LoggedAsyncScheduler" if ahead else "tracing.LoggedScheduler",
        "async_scheduling": ahead,
    }
    if given.num_blocks:
        told["num_gpu_blocks_override"] = given.num_blocks
    if given.kv_offloading_gib:
        told |= {"kv_offloading_size": given.kv_offloading_gib, "kv_offloading_backend": "native"}
    return told


async def live(engine, program, start, turns, hurry):
    """One program: its turns, and the pauses between them."""
    from vllm import SamplingParams

    def now():
        return time.monotonic() - start

    said = Context(program)
    await asyncio.sleep(0.0 if hurry else max(0.0, program["arrival_s"] - now()))
    for index, turn in enumerate(said.turns[:2] if hurry else said.turns):
        prompt, count = said.prompt(index), turn["output_tokens"]
        sampling = SamplingParams(
            max_tokens=count, min_tokens=count, temperature=0, ignore_eos=True, detokenize=False
        )
        name = f"{'warm-' if hurry else ''}{said.name}.{index}"
        sent, first, last, out, cached = now(), None, None, [], None
        async for output in engine.generate({"prompt_token_ids": prompt}, sampling, name):
            if len(output.outputs[0].token_ids) > len(out):
                out, last = list(output.outputs[0].token_ids), now()
                first = last if first is None else first
            cached = output.num_cached_tokens
        said.reply(out)
        turns.append(
            {
                "id": name,
                "program": said.name,
                "turn": index,
                "t0": start,
                "t_send": sent,
                "t_first": first,
                "t_last": last,
                "t_done": now(),
                "prompt_len": len(prompt),
                "n_out": len(out),
                "cached": cached,
            }
        )
        if not hurry:
            await asyncio.sleep(pause_s(turn))


async def play(engine, programs, hurry=False):
    """All programs; returns their turns."""
    await engine.reset_prefix_cache()
    turns, start = [], time.monotonic()
    await asyncio.gather(*(live(engine, program, start, turns, hurry) for program in programs))
    await asyncio.sleep(0.5)  # the engine notes its last step and writes out
    return turns


def steps_since(log, position):
    """The config line, and what came behind `position` of the log."""
    with log.open() as file:
        config = file.readline()
        file.seek(max(position, len(config)))
        return config + file.read()


async def record(given, folder, log):
    """Warm up, then play every file."""
    import torch
    import vllm
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    on_gpu = torch.cuda.is_available()
    told = arguments(given, folder, on_gpu)
    engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**told))
    meta = {
        "vllm": vllm.__version__,
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(0) if on_gpu else platform.machine(),
        "engine": {**told, "model": given.model.stem},
        "model": json.loads(given.model.read_text()),
    }
    work = {path.stem: read(path) for path in given.programs}
    await play(engine, next(iter(work.values()))[:8], hurry=True)
    for name, programs in work.items():
        position = log.stat().st_size
        turns = await play(engine, programs)
        (given.out / f"{name}.steps.jsonl").write_text(steps_since(log, position))
        lines = "".join(json.dumps(turn, separators=(",", ":")) + "\n" for turn in turns)
        (given.out / f"{name}.turns.jsonl").write_text(lines)
        (given.out / f"{name}.meta.json").write_text(json.dumps(meta, indent=2) + "\n")
        wait = sum(turn["t_first"] - turn["t_send"] for turn in turns) / len(turns)
        print(f"{name}: {len(turns)} turns, mean TTFT {wait:.4f} s", flush=True)
    engine.shutdown()


def main():
    """Record the files of programs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("programs", nargs="+", type=Path)
    parser.add_argument("--model", type=Path, required=True, help="a config.json; weights are random")
    parser.add_argument("--out", type=Path, required=True, help="folder for the logs")
    parser.add_argument("--max-model-len", type=int, default=32768)
    parser.add_argument("--max-num-batched-tokens", type=int, default=8192)
    parser.add_argument("--max-num-seqs", type=int, default=256)
    parser.add_argument("--block-size", type=int, default=16)
    parser.add_argument("--num-blocks", type=int, help="KV blocks; by default what the engine finds room for")
    parser.add_argument("--gpu-memory-utilization", type=float, default=0.92)
    parser.add_argument("--kv-offloading-gib", type=float, help="host memory for offloaded KV")
    parser.add_argument("--enforce-eager", action="store_true", help="no CUDA graphs")
    parser.add_argument("--sync", action="store_true", help="synchronous scheduling")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(given.model.read_text())
        log = Path(folder, "steps.jsonl")
        log.touch()
        os.environ["STEP_LOG"] = str(log)
        asyncio.run(record(given, folder, log))


if __name__ == "__main__":
    main()

"""What vLLM's front end takes for the tokens it streams, by how many streams there are.

    V/bin/python validation/vllm_cpu/front_end.py --out out/front-end

Needs vLLM's server packages beside the engine's. Serves a small model with random weights over HTTP and
streams from it. Long replies less short ones leave what a step costs: CPU time of the server's front-end
process and of this client, fitted as a time a step and a time a stream. CPU time, since engine, server and
client share this machine; chunks that are sent together where the engine outruns the server cost less.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import aiohttp
import numpy as np
import psutil
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

PORT = 8791
STREAMS = (1, 4, 12, 24)
SHORT, LONG = 8, 104
"""Tokens of the replies whose difference is looked at."""

LETTERS = "bcdfghjklmnprstvw", "aeiou"


def words(count: int, seed: int = 1) -> list[str]:
    """Made-up words of one to four syllables."""
    draw = random.Random(seed)
    return [
        "".join(draw.choice(part) for _ in range(draw.randint(1, 4)) for part in LETTERS)
        for _ in range(count)
    ]


def make_model(folder: Path) -> None:
    """The model of the CPU runs with a tokenizer of its own; weights are random."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=8000, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator([" ".join(words(9000))], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(kind))
    shape = json.loads(Path(__file__).with_name("model.json").read_text())
    (folder / "config.json").write_text(json.dumps(shape | {"vocab_size": tokenizer.get_vocab_size()}))


def serve(folder: Path) -> subprocess.Popen[bytes]:
    """Start the server and wait until it answers."""
    settings = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    options = {
        "--model": str(folder),
        "--load-format": "dummy",
        "--port": str(PORT),
        "--max-model-len": "2048",
        "--block-size": "32",
        "--num-gpu-blocks-override": "1000",
    }
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *sum(options.items(), ())]
    server = subprocess.Popen(command, env=os.environ | settings)
    while server.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health")
            return server
        except (urllib.error.URLError, ConnectionError):
            time.sleep(2.0)
    sys.exit("front_end: the server did not start")


async def stream(session: aiohttp.ClientSession, model: str, tokens: int) -> None:
    """One streamed completion, read to its end."""
    body = {"model": model, "prompt": " ".join(words(100)), "max_tokens": tokens, "stream": True}
    async with session.post(
        f"http://127.0.0.1:{PORT}/v1/completions", json=body | {"ignore_eos": True, "temperature": 0.0}
    ) as reply:
        async for _ in reply.content:
            pass


async def spent(server: psutil.Process, model: str, streams: int, tokens: int) -> np.ndarray:
    """CPU seconds of the server's front end and of this client while so many streams run once."""

    def now() -> np.ndarray:
        times = server.cpu_times()
        return np.array([times.user + times.system, time.process_time()])

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        before = now()
        await asyncio.gather(*[stream(session, model, tokens) for _ in range(streams)])
        return now() - before


async def measure(server: psutil.Process, model: str, repeat: int) -> None:
    """Print CPU time a step for each number of streams, and the line through it."""
    await spent(server, model, 4, SHORT)
    steps = []
    for streams in STREAMS:
        loads = [
            await spent(server, model, streams, LONG) - await spent(server, model, streams, SHORT)
            for _ in range(repeat)
        ]
        steps.append(np.mean(loads, axis=0) / (LONG - SHORT) * 1e6)
        print(f"{streams:>3} streams: {steps[-1][0]:6.0f} us a step in the server, {steps[-1][1]:6.0f} here")
    for name, times in zip(("server", "client"), np.array(steps).T, strict=True):
        slope, start = np.polyfit(STREAMS, times, 1)
        print(f"{name}: {start:.0f} us a step and {slope:.0f} us a stream")


def main() -> None:
    """Serve, measure, print, stop."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("out/front-end"), help="folder for the model")
    parser.add_argument("--repeat", type=int, default=5, help="times that each number of streams is run")
    given = parser.parse_args()
    make_model(given.out)
    server = serve(given.out)
    try:
        asyncio.run(measure(psutil.Process(server.pid), str(given.out), given.repeat))
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()

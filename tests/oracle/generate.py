"""Random workloads for the scheduler oracle, in families that each press on one rule.

A case is a set of limits (the oracle's flags) and a list of requests (its workload lines). It depends
on nothing but its family and its number.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

Limits = dict[str, Any]
Spec = dict[str, Any]
Case = tuple[Limits, list[Spec]]

STEP_TIME = "0.01,0.0001,0.0005,0.000001"
"""Seconds of a step: base, and per prefill token, decode row and context token."""


class Draft:
    """A workload being written: requests get ids, lengths stay below max_model_len."""

    def __init__(self, random: Random, max_model_len: int, block_size: int) -> None:
        self.random = random
        self.specs: list[Spec] = []
        self.limit = max_model_len
        self.block = block_size
        self.lengths: dict[str, int] = {}

    def add(self, name: str, length: int, output: int, **rest: Any) -> bool:
        """Add a request whose prompt has `length` tokens; False if it would be too long."""
        if length < 1 or length + output >= self.limit:
            return False
        self.specs.append({"request_id": name, "max_tokens": output, **rest})
        self.lengths[name] = length + output
        return True

    def program(self, name: str, turns: int, grow: int, output: int, start: float, **rest: Any) -> None:
        """Turns of one stream, each holding all that came before, with a tool gap between them."""
        r, before, length = self.random, "", 0
        for turn in range(turns):
            length += r.randint(1, grow)
            out = r.randint(1, output)
            when = (
                {"after": before, "delay": round(r.expovariate(8), 3)} if before else {"arrival_time": start}
            )
            label = f"{name}.{turn}"
            if not self.add(
                label,
                length,
                out,
                program_id=rest.get("stream", name),
                prompt_len=length,
                **when,
                **{k: v for k, v in rest.items() if k != "stream"},
            ):
                return
            before, length = label, length + out

    def fork(self, parent: str, children: int, append: int, output: int) -> None:
        """Requests that each go on from the same reply in their own way."""
        r = self.random
        for child in range(children):
            more = r.randint(1, append)
            self.add(
                f"{parent}/{child}",
                self.lengths[parent] + more,
                r.randint(1, output),
                follows=parent,
                append=more,
                after=parent,
                delay=round(r.choice([0.0, r.random() / 5]), 3),
            )


def _limits(block: int, model_len: int, blocks: float, **rest: Any) -> Limits:
    """`blocks` is the size of the pool in sequences of the greatest length."""
    pool = 2 + max(model_len // block, int(blocks * model_len / block))
    return {"block_size": block, "max_model_len": model_len, "num_blocks": pool, **rest}


def _starts(r: Random, count: int, mean_s: float) -> list[float]:
    time, starts = 0.0, []
    for _ in range(count):
        starts.append(round(time, 4))
        time += r.expovariate(1 / mean_s)
    return starts


def _turns(r: Random) -> Case:
    limits = _limits(r.choice([4, 16]), 512, 6, max_num_batched_tokens=128, max_num_seqs=8)
    draft = Draft(r, 512, limits["block_size"])
    for i, start in enumerate(_starts(r, 5, 0.1)):
        draft.program(f"p{i}", 5, 80, 20, start)
    return limits, draft.specs


def _shared(r: Random) -> Case:
    block = r.choice([4, 8, 16])
    limits = _limits(block, 256, 2.5, max_num_batched_tokens=64, max_num_seqs=8)
    draft = Draft(r, 256, block)
    shared = {"id": "system", "len": r.choice([block, 3 * block, 2 * block + 3])}
    for i, start in enumerate(_starts(r, 8, 0.05)):
        draft.program(f"p{i}", 3, 60, 15, start, shared=shared)
    return limits, draft.specs


def _forks(r: Random) -> Case:
    block = r.choice([2, 4, 16])
    limits = _limits(block, 256, r.choice([1.5, 3]), max_num_batched_tokens=64, max_num_seqs=6)
    draft = Draft(r, 256, block)
    for i, start in enumerate(_starts(r, 4, 0.1)):
        draft.program(f"p{i}", 1, 60, 20, start)
        draft.fork(f"p{i}.0", r.randint(2, 4), 40, 20)
        for child in range(2):
            if f"p{i}.0/{child}" in draft.lengths:
                draft.fork(f"p{i}.0/{child}", 2, 20, 10)
    return limits, draft.specs


def _clones(r: Random) -> Case:
    block = r.choice([1, 4, 8])
    limits = _limits(block, 128, r.choice([1.2, 2.5]), max_num_batched_tokens=32, max_num_seqs=6)
    draft = Draft(r, 128, block)
    for i, start in enumerate(_starts(r, 8, 0.03)):
        draft.program(f"p{i}", 2, 50, 30, start, stream=f"s{i % 3}")
    length = 4 * block
    for i in range(3):
        draft.add(
            f"exact{i}", length, 5, program_id="exact", prompt_len=length, arrival_time=round(0.02 * i, 3)
        )
    return limits, draft.specs


def _chunks(r: Random) -> Case:
    limits = _limits(16, 512, 3, max_num_batched_tokens=r.choice([16, 48]), max_num_seqs=8)
    if r.random() < 0.6:
        limits["long_prefill_token_threshold"] = r.choice([8, 20, 40])
    draft = Draft(r, 512, 16)
    for i, start in enumerate(_starts(r, 6, 0.1)):
        draft.program(f"p{i}", 2, 240, 12, start)
    return limits, draft.specs


def _preemption(r: Random) -> Case:
    block = r.choice([2, 4, 8])
    limits = _limits(block, 128, r.choice([1, 1.3]), max_num_batched_tokens=64, max_num_seqs=8)
    draft = Draft(r, 128, block)
    for i, start in enumerate(_starts(r, 8, 0.02)):
        draft.program(f"p{i}", 2, 20, 70, start)
    return limits, draft.specs


def _priority(r: Random) -> Case:
    limits, specs = _preemption(r)
    limits["policy"] = "priority"
    for spec in specs:
        spec["priority"] = r.randrange(3)
    return limits, specs


def _eviction(r: Random) -> Case:
    block = r.choice([4, 16])
    limits = _limits(block, 256, 1.2, max_num_batched_tokens=128, max_num_seqs=4)
    draft = Draft(r, 256, block)
    for i, start in enumerate(_starts(r, 8, 0.2)):
        draft.program(f"p{i}", 3, 70, 10, start)
    return limits, draft.specs


def _watermark(r: Random) -> Case:
    limits, specs = r.choice([_eviction, _preemption, _shared])(r)
    limits["watermark"] = r.choice([0.05, 0.1, 0.25])
    return limits, specs


def _no_reserve(r: Random) -> Case:
    limits, specs = r.choice([_preemption, _chunks])(r)
    limits["no_reserve_full_isl"] = True
    limits["num_blocks"] = 2 + limits["max_model_len"] // limits["block_size"]
    return limits, specs


def _no_caching(r: Random) -> Case:
    limits, specs = r.choice([_eviction, _preemption])(r)
    limits["no_prefix_caching"] = True
    return limits, specs


def _no_chunks(r: Random) -> Case:
    limits, specs = r.choice([_shared, _eviction])(r)
    limits.update(no_chunked_prefill=True, max_num_batched_tokens=limits["max_model_len"])
    return limits, specs


def _by_step(r: Random) -> Case:
    block = r.choice([4, 8])
    limits = _limits(block, 128, 1.5, max_num_batched_tokens=32, max_num_seqs=4)
    draft, before = Draft(r, 128, block), ""
    for i in range(10):
        when: Spec = {"arrival_step": r.randint(0, 25)}
        if before and r.random() < 0.5:
            when = {"after": before, "delay_steps": r.randint(0, 4)}
        tokens = [r.randint(4, 6) for _ in range(r.randint(1, 50))]
        replies = [r.randint(4, 6) for _ in range(r.randint(1, 20))]
        before = f"r{i}"
        draft.add(
            before, len(tokens), len(replies), prompt_token_ids=tokens, output_token_ids=replies, **when
        )
    return limits, draft.specs


FAMILIES: dict[str, Callable[[Random], Case]] = {
    "turns": _turns,
    "shared": _shared,
    "forks": _forks,
    "clones": _clones,
    "chunks": _chunks,
    "preemption": _preemption,
    "priority": _priority,
    "eviction": _eviction,
    "watermark": _watermark,
    "no-reserve": _no_reserve,
    "no-caching": _no_caching,
    "no-chunks": _no_chunks,
    "by-step": _by_step,
}


def case(family: str, number: int) -> Case:
    """Limits and requests of one case; odd numbers schedule asynchronously."""
    limits, specs = FAMILIES[family](Random(f"{family}/{number // 2}"))
    limits["async_scheduling"] = number % 2 == 1
    return limits, specs

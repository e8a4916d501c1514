"""Random workloads for vLLM's scheduler, in families that each press on one feature.

A case is drawn from its family, its mode and a seed, and is plain data: the oracle's limit flags, its
step-time formula and its request lines. `python -m tests.oracle.generate FAMILY/MODE/SEED` prints the
request lines and, on stderr, the flags to run them with.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from random import Random
from typing import Any

Spec = dict[str, Any]
Range = tuple[int, int]

STEP_TIMES = ("0.01,0.0001,0.0005,0.000001", "0.01,0,0,0", "0.005,0.0002,0.001,0.00001", "0.02,0.0001,0,0")


@dataclass(frozen=True)
class Case:
    """One workload with its limits. `name` is "family/mode/seed"."""

    name: str
    flags: list[str]
    step_time: str
    requests: list[Spec]


@dataclass(frozen=True)
class Shape:
    """What the workloads of a family look like.

    Lengths are in tokens, both ends included. `pool` is the size of the KV pool in percent of the longest
    sequence; `clones`, `forks` and `shared` are probabilities; `flags` are choices of further flags. With an
    `alphabet` requests are written out token by token, from so few that prefixes meet by chance.
    """

    programs: Range = (2, 6)
    turns: Range = (1, 3)
    prompt: Range = (4, 90)
    append: Range = (1, 40)
    reply: Range = (1, 25)
    spacing_s: float = 0.03
    gap_s: float = 0.05
    shared: float = 0.0
    clones: float = 0.0
    forks: float = 0.0
    priorities: int = 1
    pool: Range = (200, 500)
    block_size: tuple[int, ...] = (4, 8, 16)
    budget: tuple[int, ...] = (32, 64, 128)
    seqs: tuple[int, ...] = (4, 8, 16)
    flags: tuple[tuple[str, ...], ...] = ((),)
    alphabet: int = 0


RESERVE_OFF = ("--no-reserve-full-isl",)
BY_PRIORITY = ("--policy", "priority")

FAMILIES: dict[str, Shape] = {
    "turns": Shape(turns=(2, 5), prompt=(4, 60)),
    "shared": Shape(programs=(3, 8), turns=(1, 2), shared=1.0),
    "forks": Shape(programs=(1, 3), turns=(2, 3), forks=0.6, spacing_s=0.2),
    "clones": Shape(programs=(3, 7), turns=(1, 2), clones=0.7, spacing_s=0.01, pool=(120, 300)),
    "chunks": Shape(prompt=(60, 240), reply=(1, 12), budget=(16, 24, 40), turns=(1, 2)),
    "preempt-fcfs": Shape(
        programs=(4, 9), turns=(1, 2), prompt=(4, 40), reply=(15, 60), spacing_s=0.01, pool=(105, 170)
    ),
    "preempt-priority": Shape(
        programs=(4, 9),
        turns=(1, 2),
        prompt=(4, 70),
        reply=(10, 50),
        spacing_s=0.02,
        pool=(105, 170),
        priorities=3,
        budget=(8, 16, 32),
        flags=(BY_PRIORITY, (*BY_PRIORITY, *RESERVE_OFF)),
    ),
    "evict": Shape(programs=(6, 12), turns=(1, 4), reply=(1, 10), pool=(105, 180), gap_s=0.2),
    "watermark": Shape(
        programs=(4, 8),
        turns=(1, 2),
        reply=(5, 40),
        spacing_s=0.01,
        pool=(105, 200),
        flags=tuple(("--watermark", share) for share in ("0.05", "0.1", "0.3", "0.5")),
    ),
    "threshold": Shape(
        prompt=(20, 160),
        spacing_s=0.05,
        flags=tuple(("--long-prefill-token-threshold", str(n)) for n in (5, 8, 20, 50)),
    ),
    "no-reserve": Shape(
        programs=(4, 9), prompt=(40, 160), budget=(16, 32, 64), pool=(105, 200), flags=(RESERVE_OFF,)
    ),
    "grants": Shape(
        programs=(4, 8),
        turns=(1, 1),
        prompt=(30, 150),
        reply=(1, 20),
        spacing_s=0.02,
        priorities=3,
        pool=(105, 170),
        block_size=(4, 8),
        budget=(12, 20, 30),
        flags=tuple(
            (*BY_PRIORITY, *RESERVE_OFF, "--long-prefill-token-threshold", str(n)) for n in (6, 9, 12)
        ),
    ),
    "no-caching": Shape(turns=(1, 3), shared=0.5, pool=(120, 300), flags=(("--no-prefix-caching",),)),
    "no-chunks": Shape(programs=(4, 8), pool=(120, 300), flags=(("--no-chunked-prefill",),)),
    "tokens": Shape(
        programs=(6, 12),
        prompt=(1, 50),
        reply=(1, 20),
        pool=(110, 200),
        block_size=(1, 2, 4, 8),
        budget=(16, 32),
        seqs=(2, 4),
        alphabet=2,
    ),
    "mixed": Shape(
        programs=(2, 10),
        turns=(1, 4),
        reply=(1, 50),
        shared=0.3,
        clones=0.2,
        forks=0.2,
        priorities=3,
        pool=(101, 300),
        block_size=(1, 3, 4, 8, 16, 32),
        budget=(16, 17, 33, 64, 256),
        seqs=(1, 2, 4, 8, 16),
        flags=(
            (),
            BY_PRIORITY,
            RESERVE_OFF,
            (*BY_PRIORITY, *RESERVE_OFF),
            ("--watermark", "0.1"),
            ("--long-prefill-token-threshold", "12"),
            ("--long-prefill-token-threshold", "6", *RESERVE_OFF),
        ),
    ),
}
MODES = ("sync", "async")


def draw(family: str, mode: str, seed: int) -> Case:
    """The case of a family (see FAMILIES), a mode ("sync" or "async") and a seed."""
    shape = FAMILIES[family]
    random = Random(f"{family}/{seed}")
    extra = list(random.choice(shape.flags))
    draft = Draft(random, shape, unequal="priority" in extra and "--no-reserve-full-isl" in extra)
    draft.write()
    longest = max(draft.total.values())
    # Some sequences are cut off at the longest length that the model takes.
    longest = max(longest - random.choice([0, 0, 0, 5]), max(draft.prompts.values()) + 1, 16)
    block_size = random.choice(shape.block_size)
    blocks = -(-longest // block_size) * random.randint(*shape.pool) // 100 + 1
    budget = random.choice(shape.budget)
    if "--no-chunked-prefill" in extra:
        budget = longest + random.choice([0, 20, 100])
    limits = {
        "--block-size": block_size,
        "--num-blocks": max(blocks, -(-longest // block_size) + 1),
        "--max-model-len": longest,
        "--max-num-batched-tokens": budget,
        "--max-num-seqs": min(random.choice(shape.seqs), budget),
    }
    flags = [str(word) for pair in limits.items() for word in pair] + extra
    if mode == "async":
        flags.append("--async-scheduling")
    return Case(f"{family}/{mode}/{seed}", flags, random.choice(STEP_TIMES), draft.requests)


@dataclass
class Draft:
    """The request lines of a case in the making. With `unequal` no two requests rank alike: equals that
    arrive together may preempt one another for ever where nobody reserves its whole sequence."""

    random: Random
    shape: Shape
    unequal: bool
    requests: list[Spec] = field(default_factory=list)
    prompts: dict[str, int] = field(default_factory=dict)
    total: dict[str, int] = field(default_factory=dict)
    arrivals_on_grid: bool = True

    def write(self) -> None:
        """Draw all programs."""
        random, shape = self.random, self.shape
        if shape.alphabet:
            self._write_tokens()
            return
        by_step = random.random() < 0.15
        # The oracle's clock is a float: of two times that differ by a rounding error alone it is anybody's
        # guess which comes first. So either arrivals may fall on the end of a step, or followers may.
        self.arrivals_on_grid = random.random() < 0.5
        time = 0.0
        for number in range(random.randint(*shape.programs)):
            time = round(time + random.choice([0, 0.5, 1, 1, 2]) * shape.spacing_s, 3)
            off_grid = 0 if self.arrivals_on_grid else self._speck()
            when: Spec = (
                {"arrival_step": number * 2} if by_step else {"arrival_time": round(time + off_grid, 9)}
            )
            roots = [r for r in self.requests if "after" not in r]
            if roots and random.random() < shape.clones:
                self._clone(random.choice(roots), number, when)
            else:
                self._program(number, when, by_step)

    def _write_tokens(self) -> None:
        """Requests token by token, at steps or behind one another."""
        random, shape = self.random, self.shape
        for number in range(random.randint(*shape.programs)):
            prompt = [4 + random.randrange(shape.alphabet) for _ in range(random.randint(*shape.prompt))]
            reply = [4 + random.randrange(shape.alphabet) for _ in range(random.randint(*shape.reply))]
            when: Spec = {"arrival_step": random.randint(0, 25)}
            if number and random.random() < 0.5:
                when = {"after": f"r{number - 1}", "delay_steps": random.randint(0, 4)}
            tokens = {"prompt_token_ids": prompt, "output_token_ids": reply}
            self._add({"request_id": f"r{number}", "max_tokens": len(reply), **tokens, **when}, len(prompt))

    def _program(self, number: int, when: Spec, by_step: bool) -> None:
        random, shape = self.random, self.shape
        first: Spec = {
            "request_id": f"{number}.0",
            "program_id": f"P{number}",
            "prompt_len": random.randint(*shape.prompt),
            "max_tokens": random.randint(*shape.reply),
            **when,
        }
        if random.random() < shape.shared:
            first["shared"] = {"id": "system", "len": random.choice([7, 16, 33, 64])}
        self._add(first, first["prompt_len"])
        before = first
        forked = False
        for turn in range(1, random.randint(*shape.turns)):
            gap = {"delay_steps": random.randint(0, 4)} if by_step else {"delay": self._gap()}
            appended = random.randint(*shape.append)
            after: Spec = {"request_id": f"{number}.{turn}", "max_tokens": random.randint(*shape.reply)}
            forked = forked or random.random() < shape.forks
            if forked:
                parent = random.choice([r for r in self.requests if r["request_id"].startswith(f"{number}.")])
                after |= {"follows": parent["request_id"], "append": appended}
            else:
                parent = before
                after |= {"program_id": f"P{number}", "prompt_len": self._end(before) + appended}
                if "shared" in first:
                    after["shared"] = first["shared"]
            self._add({**after, "after": parent["request_id"], **gap}, self._end(parent) + appended)
            before = self.requests[-1]

    def _clone(self, of: Spec, number: int, when: Spec) -> None:
        clone = {k: v for k, v in of.items() if k not in ("arrival_time", "arrival_step", "priority")}
        clone |= {"request_id": f"{number}.0", "max_tokens": self.random.randint(*self.shape.reply), **when}
        self._add(clone, of["prompt_len"])

    def _add(self, request: Spec, prompt: int) -> None:
        if self.unequal:
            request["priority"] = self.random.getrandbits(30)
        elif self.shape.priorities > 1:
            request["priority"] = self.random.randrange(self.shape.priorities)
        self.requests.append(request)
        self.prompts[request["request_id"]] = prompt
        self.total[request["request_id"]] = prompt + request["max_tokens"]

    def _end(self, request: Spec) -> int:
        return self.total[request["request_id"]]

    def _gap(self) -> float:
        gap = round(self.random.choice([0, 0.2, 1, 1, 3]) * self.shape.gap_s, 3)
        return gap if gap == 0 and not self.arrivals_on_grid else round(gap + self._speck(), 9)

    def _speck(self) -> float:
        """A few nanoseconds, other ones for each request."""
        return (len(self.requests) + 1) * 1e-9


def main() -> None:
    """Print one case."""
    family, mode, seed = sys.argv[1].split("/")
    case = draw(family, mode, int(seed))
    print(*case.flags, "--step-time", case.step_time, file=sys.stderr)
    for request in case.requests:
        print(json.dumps(request))


if __name__ == "__main__":
    main()

"""Multi-turn programs with tool gaps for real engines: drawn from a seed, in the compact trace format.

    python validation/programs.py --programs 12 --rate 0.5 --seed 1 > programs.jsonl

The same file can be given to `agentservesim run`. Needs nothing but Python, so that it runs anywhere.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Range = tuple[float, float]

VOCABULARY = 32000


def draw(
    programs: int,
    rate: float,
    seed: int,
    *,
    turns: Range = (3, 5),
    shared: int = 64,
    first: Range = (150, 400),
    append: Range = (30, 200),
    output: Range = (10, 60),
    tool_s: Range = (0.5, 2.5),
) -> Iterator[dict[str, Any]]:
    """Programs that arrive as a Poisson process of `rate` a second; ranges are uniform, ends included."""
    draws, now = random.Random(seed), 0.0
    for number in range(programs):
        count = draws.randint(*map(int, turns))
        yield {
            "program_id": f"p{number}",
            "arrival_s": round(now, 4),
            "shared_prefix": {"group": "system", "tokens": shared},
            "turns": [
                {
                    "new_tokens": draws.randint(*map(int, append if index else first)),
                    "output_tokens": draws.randint(*map(int, output)),
                    "tools": [{"name": "tool", "duration_s": round(draws.uniform(*tool_s), 3)}]
                    if index + 1 < count
                    else [],
                }
                for index in range(count)
            ],
        }
        now += draws.expovariate(rate)


def tokens(name: str, count: int, start: int = 0) -> list[int]:
    """Tokens `start` to `start + count` of the endless content of this name."""
    source = random.Random(f"content:{name}")
    return [source.randrange(4, VOCABULARY) for _ in range(start + count)][start:]


def read(path: Path) -> list[dict[str, Any]]:
    """The programs of a file."""
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def pause_s(turn: dict[str, Any]) -> float:
    """How long a turn's tools take, one after the other."""
    return sum(call["duration_s"] for call in turn.get("tools", ()))


class Context:
    """What a program says: its prompts, with the real replies in them."""

    def __init__(self, program: dict[str, Any]) -> None:
        prefix = program.get("shared_prefix") or {"group": "", "tokens": 0}
        self.name = program["program_id"]
        self.turns = program["turns"]
        self._said = tokens(prefix["group"], prefix["tokens"])
        self._used = 0

    def prompt(self, turn: int) -> list[int]:
        """The prompt of a turn: all that was said, and its new tokens."""
        new = self.turns[turn]["new_tokens"]
        self._said += tokens(self.name, new, self._used)
        self._used += new
        return list(self._said)

    def reply(self, out: list[int]) -> None:
        """The engine's reply is part of what was said."""
        self._said += out


def _range(text: str) -> Range:
    low, high = map(float, text.split(","))
    return low, high


def main() -> None:
    """Print programs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--programs", type=int, default=12)
    parser.add_argument("--rate", type=float, default=0.5, help="programs a second")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shared", type=int, default=64, help="tokens that all programs begin with")
    for name, default in (("turns", "3,5"), ("first", "150,400"), ("append", "30,200"), ("output", "10,60")):
        parser.add_argument(f"--{name}", type=_range, default=_range(default), metavar="LOW,HIGH")
    parser.add_argument("--tool", type=_range, default=(0.5, 2.5), metavar="LOW,HIGH", help="seconds")
    given = vars(parser.parse_args())
    given["tool_s"] = given.pop("tool")
    for program in draw(**given):
        print(json.dumps(program))


if __name__ == "__main__":
    main()

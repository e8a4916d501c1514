"""Records what vLLM does in chosen cases, for the tests that run without it.

    python -m tests.oracle.record V/bin/python FOLDER_OF_THE_ORACLE

writes `recorded/FAMILY.jsonl.gz`: a line that says what made it, then a case with its steps in each line.
A case is chosen when what its family is for happens in it, and when it is short.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.oracle.client import Oracle
from tests.oracle.compare import differences, ours, tally
from tests.oracle.generate import FAMILIES, MODES, Case, draw

RECORDED = Path(__file__).with_name("recorded")
PER_MODE = 4
MORE_PER_MODE = {"grants": 9, "preempt-priority": 6, "watermark": 6, "mixed": 6}
"""Some rules matter in few cases of their family."""
MOST_STEPS = 200

FEATURES: dict[str, tuple[str, ...]] = {
    "turns": ("hits",),
    "shared": ("hits",),
    "forks": ("hits",),
    "clones": ("hits",),
    "chunks": ("chunks",),
    "preempt-fcfs": ("preemptions", "resumed"),
    "preempt-priority": ("preemptions", "resumed"),
    "evict": ("evictions", "hits"),
    "watermark": ("held back",),
    "threshold": ("chunks",),
    "no-reserve": ("preemptions", "evictions"),
    "grants": ("preemptions", "resumed", "chunks"),
    "no-caching": ("turns",),
    "no-chunks": ("held back",),
    "tokens": ("hits", "evictions"),
    "mixed": ("preemptions", "evictions", "hits"),
}
"""What must happen in each case of a family."""

SWITCHES: dict[str, tuple[str, ...]] = {
    "preempt-priority": ("--policy", "priority"),
    "watermark": ("--watermark",),
    "threshold": ("--long-prefill-token-threshold",),
    "no-reserve": ("--no-reserve-full-isl",),
    "grants": ("--policy", "priority"),
    "no-caching": ("--no-prefix-caching",),
    "no-chunks": ("--no-chunked-prefill",),
}
"""Flags without which each case of a family would go otherwise; the flag's value goes with it."""


def without(case: Case, switch: tuple[str, ...]) -> Case:
    """The case with a flag (and its value, if it takes one) left out."""
    at = case.flags.index(switch[0])
    takes_value = at + 1 < len(case.flags) and not case.flags[at + 1].startswith("--")
    flags = case.flags[:at] + case.flags[at + 1 + takes_value :]
    return Case(case.name, flags, case.step_time, case.requests)


def is_telling(case: Case, steps: list[dict[str, Any]]) -> bool:
    """Whether the case shows what its family is for."""
    family, mode, _ = case.name.split("/")
    seen = tally(steps)
    if not all(seen[feature] for feature in FEATURES[family]):
        return False
    if mode == "async" and not differences(steps, ours(without(case, ("--async-scheduling",)))):
        return False
    switch = SWITCHES.get(family)
    return switch is None or bool(differences(steps, ours(without(case, switch))))


def choose(oracle: Oracle, family: str, mode: str) -> Iterator[tuple[Case, list[dict[str, Any]]]]:
    """The first short and telling cases of a family."""
    found = seed = 0
    while found < MORE_PER_MODE.get(family, PER_MODE):
        case = draw(family, mode, seed)
        seed += 1
        steps = oracle.ask(case)
        if len(steps) <= MOST_STEPS and is_telling(case, steps):
            found += 1
            yield case, steps


def read(path: Path) -> tuple[dict[str, Any], list[tuple[Case, list[dict[str, Any]]]]]:
    """A recorded file: its first line, and its cases with vLLM's steps."""
    head, *lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    cases = []
    for line in lines:
        entry = json.loads(line)
        steps = entry.pop("steps")
        cases.append((Case(**entry), steps))
    return json.loads(head), cases


def main() -> None:
    """Write all files anew."""
    python, folder = Path(sys.argv[1]), Path(sys.argv[2])
    source = hashlib.sha256((folder / "vllm_oracle.py").read_bytes()).hexdigest()
    RECORDED.mkdir(exist_ok=True)
    with Oracle(python, folder) as oracle:
        head = {
            "made_by": "python -m tests.oracle.record PYTHON_WITH_VLLM FOLDER_OF_THE_ORACLE",
            "vllm": oracle.version,
            "vllm_oracle_sha256": source,
        }
        for family in FAMILIES:
            lines = [json.dumps({"family": family, **head})]
            for mode in MODES:
                for case, steps in choose(oracle, family, mode):
                    lines.append(json.dumps({**asdict(case), "steps": steps}, separators=(",", ":")))
            text = "".join(line + "\n" for line in lines)
            path = RECORDED / f"{family}.jsonl.gz"
            path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
            print(f"{path.name}: {len(lines) - 1} cases, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()

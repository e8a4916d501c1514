"""Compare our step records with vLLM's, in every key."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from agentservesim.testing.replay import AffineStepTime, engine_config, limit_parser, replay

Record = dict[str, Any]
TIMES = ("t0", "t1", "t2", "t3")
TOLERANCE_S = 1e-9


def limits_from(settings: dict[str, Any]) -> Namespace:
    """The oracle's limits, defaults filled in."""
    limits = limit_parser().parse_args([])
    for name, value in settings.items():
        setattr(limits, name, value)
    return limits


def ours(settings: dict[str, Any], specs: list[Record], step_time: str, *, at_once: bool) -> list[Record]:
    """Our records of a case."""
    limits = limits_from(settings)
    model = AffineStepTime(float(x) for x in step_time.split(","))
    return replay(specs, engine_config(limits), limits.num_blocks, model, at_once=at_once)


def differences(theirs: list[Record], mine: list[Record], *, owners: bool = True) -> list[str]:
    """What differs, one line each; empty if nothing does.

    With `owners` false only the indices of evicted blocks are compared, not whose they are: rows that are
    advanced together hash their blocks later in the step, so that of two requests with one content
    the other one may give its name to a block.
    """
    found = [] if len(theirs) == len(mine) else [f"{len(theirs)} steps != {len(mine)}"]
    for number, (a, b) in enumerate(zip(theirs, mine, strict=False)):
        for key in a:
            x, y = a[key], b.get(key)
            if key in TIMES:
                equal = y is not None and abs(x - y) <= TOLERANCE_S
            elif key == "evicted" and not owners and y is not None:
                equal = [label.rsplit(":")[-1] for label in x] == [label.rsplit(":")[-1] for label in y]
            else:
                equal = x == y
            if not equal:
                found.append(f"step {number} {key}: {x} != {y}")
    return found

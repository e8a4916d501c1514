"""What policies want to be told of a trace.

A policy's class may have `wants`, a mapping: each entry names a hint (`workload.hints`), `tools` for the
names of tool calls, or `tenant`, and says what the policy does without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from agentservesim.model import InputError


class Want(NamedTuple):
    """A hint that a policy wants, how many of all turns of the trace have it, and what is done without it."""

    family: str
    policy: str
    hint: str
    turns: int
    all_turns: int
    without: str

    def __str__(self) -> str:
        told = f"{self.turns:,} of {self.all_turns:,} turns have it" if self.turns else "no turn has it"
        who = f"{self.family} {self.policy} wants the hint '{self.hint}'"
        return f"{who}; {told}, and without it {self.without}"


def find_wants(
    specs: Mapping[str, str], policies: Mapping[str, Any], seen: Mapping[str, int], turns: int
) -> list[Want]:
    """All that policies want; `seen` has how many of the `turns` have each hint.

    Raises InputError where a policy's `wants` is no mapping.
    """
    return [
        Want(family, specs[family].split(",")[0], hint, seen.get(hint, 0), turns, without)
        for family, policy in policies.items()
        for hint, without in _wants(family, policy).items()
    ]


def _wants(family: str, policy: object) -> Mapping[str, str]:
    wants = getattr(policy, "wants", {})
    if not isinstance(wants, Mapping):
        raise InputError(
            f"{family} {type(policy).__name__}: wants is {wants!r}; it must be a mapping of hints to what is "
            "done without them"
        )
    return wants

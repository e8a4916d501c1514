"""Workflows that clients told of, and how far each program is in its own."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

Workflow = Mapping[str, Mapping[str, Any]]
"""{agent: {"after": [agents], "join": "all" or "any"}}; an agent is a session."""


def steps_to_execution(workflow: Workflow, now: Collection[str]) -> dict[str, float]:
    """How many steps off each agent's next run is, while the agents `now` run: those right behind are at 1.

    An agent waits for all of `after`: the largest plus 1, or for any: the smallest plus 1. Infinite
    where nothing leads there.
    """
    steps = dict.fromkeys(workflow, math.inf)
    for _ in workflow:
        for agent, node in workflow.items():
            before = [0.0 if name in now else steps.get(name, math.inf) for name in node.get("after", ())]
            if before:
                steps[agent] = 1 + (min(before) if node.get("join") == "any" else max(before))
    return steps


class Workflows:
    """By program. Agents have done their part once all behind them have run."""

    def __init__(self) -> None:
        self._graphs: dict[str, Workflow] = {}
        self._waiting: dict[str, dict[str, set[str]]] = {}
        self._running: dict[str, set[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._graphs)

    def stops(self, program: str, agent: str, hint: object) -> None:
        """An agent's turn is done; the hint is the workflow, if there is one."""
        self._running.get(program, set()).discard(agent)
        if isinstance(hint, Mapping):
            self._graphs[program] = hint
            self._waiting.setdefault(program, {}).setdefault(agent, _behind(hint, agent))

    def runs(self, program: str, agent: str) -> None:
        """An agent's turn is ready or admitted."""
        self._running.setdefault(program, set()).add(agent)
        if program in self._graphs:
            waiting = self._waiting[program]
            for before, behind in list(waiting.items()):
                behind.discard(agent)
                if not behind:
                    del waiting[before]
            waiting[agent] = _behind(self._graphs[program], agent)

    def ends(self, program: str) -> None:
        """Forget a program."""
        for table in (self._graphs, self._waiting, self._running):
            table.pop(program, None)

    def steps(self, programs: Iterable[str]) -> dict[tuple[str, str], float]:
        """Steps to execution of the agents that workflows name, by program and agent: 0 while one runs."""
        found: dict[tuple[str, str], float] = {}
        for program in set(programs) & self._graphs.keys():
            steps = steps_to_execution(self._graphs[program], self._waiting[program])
            steps |= dict.fromkeys(self._running.get(program, ()), 0.0)
            found |= {(program, agent): count for agent, count in steps.items()}
        return found


def _behind(workflow: Workflow, agent: str) -> set[str]:
    """The agents that wait for an agent."""
    return {name for name, node in workflow.items() if agent in node.get("after", ())}

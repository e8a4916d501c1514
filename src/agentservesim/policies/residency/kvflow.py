"""KVFlow: the workflow says which agent runs next."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from agentservesim.policies.protocols import (
    CACHE,
    ChainView,
    Event,
    GapEnded,
    Placement,
    ProgramEnded,
    ServerView,
)

Workflow = Mapping[str, Mapping[str, object]]
"""{agent: {"after": [agents], "join": "all" or "any"}}; an agent is a session."""


def steps_to_execution(workflow: Workflow, now: Collection[str]) -> dict[str, float]:
    """How many steps off each agent's next run is, while the agents `now` run: those right behind are at 1.

    An agent waits for all of `after`: the largest plus 1, or for any: the smallest plus 1. Infinite
    where nothing leads there.
    """
    steps = dict.fromkeys(workflow, math.inf)
    for _ in workflow:
        for agent, node in workflow.items():
            before = [0.0 if name in now else steps.get(name, math.inf) for name in _after(node)]
            if before:
                steps[agent] = 1 + (min(before) if node.get("join") == "any" else max(before))
    return steps


@dataclass
class KvFlow:
    """KVFlow: evicts first what its workflow runs last, and brings up the KV of the agents that run next.

    Turns carry the workflow as the hint `workflow` (see docs/policies/kvflow.md). Where no turn does, this
    is LRU with write-back, and a warning says so. What HBM evicts is kept in the tier `host`. tick_s: how
    often to look for something to prefetch. ahead: steps to execution from which to prefetch.
    """

    host: str = "dram"
    tick_s: float = 1.0
    ahead: int = 1

    def __post_init__(self) -> None:
        self.spill = {"hbm": self.host}
        self._workflows: dict[str, Workflow] = {}
        self._waiting: dict[str, dict[str, set[str]]] = {}
        self._running: dict[str, set[str]] = {}
        self._warned = False

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        """Learn the workflow; leave the KV in HBM, where `rank` decides."""
        workflow = chain.hints.get("workflow")
        self._running.get(chain.program_id, set()).discard(chain.session_id)
        if isinstance(workflow, Mapping):
            self._workflows[chain.program_id] = workflow
            waiting = self._waiting.setdefault(chain.program_id, {})
            waiting.setdefault(chain.session_id, _behind(workflow, chain.session_id))
        elif not self._workflows and not self._warned:
            self._warned = True
            warnings.warn(
                "kvflow: turns carry no workflow hints, so this is LRU with write-back", stacklevel=2
            )
        return CACHE

    def observe(self, event: Event) -> None:
        """An agent runs. Those before it have done their part once all behind them have run."""
        if isinstance(event, ProgramEnded):
            self._workflows.pop(event.program_id, None)
            self._waiting.pop(event.program_id, None)
            self._running.pop(event.program_id, None)
            return
        runs = event.chain if isinstance(event, GapEnded) else event
        self._running.setdefault(runs.program_id, set()).add(runs.session_id)
        workflow = self._workflows.get(runs.program_id)
        if workflow is not None:
            waiting = self._waiting[runs.program_id]
            for agent, behind in list(waiting.items()):
                behind.discard(runs.session_id)
                if not behind:
                    del waiting[agent]
            waiting[runs.session_id] = _behind(workflow, runs.session_id)

    def tick(self, chains: Sequence[ChainView], server: ServerView) -> Iterator[tuple[ChainView, Placement]]:
        """Bring up what will run next and is further down."""
        steps = self._steps(chains)
        for chain in chains:
            if steps[chain.program_id, chain.session_id] > self.ahead:
                continue
            below = max((chain.kept_tokens[tier] for tier in server.tiers), default=0)
            if below > chain.kept_tokens["hbm"]:
                yield chain, Placement("hbm")

    def rank(self, tier: str, chains: Sequence[ChainView], server: ServerView) -> list[ChainView]:
        """Most steps to execution first; LRU where no program has a workflow."""
        if not self._workflows:
            return []
        steps = self._steps(chains)
        return sorted(chains, key=lambda c: (-steps[c.program_id, c.session_id], c.gap_started_s))

    def _steps(self, chains: Sequence[ChainView]) -> dict[tuple[str, str], float]:
        """Steps to execution of each session: 0 while it runs, infinite where no workflow names it."""
        found: dict[tuple[str, str], float] = {}
        for program in {chain.program_id for chain in chains} & self._workflows.keys():
            steps = steps_to_execution(self._workflows[program], self._waiting[program])
            steps |= dict.fromkeys(self._running.get(program, ()), 0.0)
            found |= {(program, session): count for session, count in steps.items()}
        return {key: found.get(key, math.inf) for key in ((c.program_id, c.session_id) for c in chains)}


def _after(node: object) -> list[str]:
    """The agents that an agent waits for."""
    after = node.get("after", []) if isinstance(node, Mapping) else None
    if not isinstance(after, list) or not all(isinstance(name, str) for name in after):
        raise ValueError(
            f"hint workflow has {node!r}; it must be {{'after': [session ids], 'join': 'all' or 'any'}}"
        )
    return after


def _behind(workflow: Workflow, agent: str) -> set[str]:
    """The agents that wait for an agent."""
    return {name for name, node in workflow.items() if agent in _after(node)}

"""Draws workloads from profiles.

Every program has its own random stream: asking for more programs only adds some.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agentservesim.lookup import near_or_all
from agentservesim.model import InputError, ToolCall, Workload
from agentservesim.random import stream
from agentservesim.workload.assemble import assemble
from agentservesim.workload.content import ContentTree
from agentservesim.workload.distributions import Distribution, pick
from agentservesim.workload.drafts import Draft, Link
from agentservesim.workload.profiles import PROFILES, Profile, SubAgents
from agentservesim.workload.rows import QUANTUM_PS

if TYPE_CHECKING:
    from numpy.random import Generator


def synthesise(profile: str, programs: int, seed: int) -> Workload:
    """`programs` programs of a profile ("claude-code", "swe-headless"), labelled synthetic.

    Raises InputError for an unknown profile or fewer than one program.
    """
    if profile not in PROFILES:
        raise InputError(f"unknown profile '{profile}'{near_or_all(profile, PROFILES)}")
    if programs < 1 or seed < 0:
        raise InputError(f"programs is {programs} and seed is {seed}; they must be at least 1 and 0")
    drafts: list[Draft] = []
    arrivals = stream(seed, f"synth {profile} arrivals")
    arrival_ps = 0
    for number in range(programs):
        rng = stream(seed, f"synth {profile} {number}")
        drafts += _Sketch(profile, f"p{number:04d}", arrival_ps, rng).drafts()
        arrival_ps += _us(PROFILES[profile].arrival_gap_s.draw(arrivals))
    command = f"agentservesim trace synth {profile} --programs {programs} --seed {seed}"
    return assemble(drafts, command, ContentTree(), reuse_output=True, synthetic=True)


def _us(seconds: float) -> int:
    return round(seconds * 1e6) * QUANTUM_PS


def _whole(distribution: Distribution, rng: Generator, low: int = 1) -> int:
    return max(low, math.ceil(distribution.draw(rng)))


@dataclass(slots=True)
class _Sketch:
    """One program while it is drawn."""

    profile_name: str
    id: str
    arrival_ps: int
    rng: Generator
    made: list[Draft] = field(default_factory=list)
    ends: dict[str, list[Draft]] = field(default_factory=dict)
    children: int = 0

    @property
    def profile(self) -> Profile:
        return PROFILES[self.profile_name]

    def drafts(self) -> list[Draft]:
        turns = _whole(self.profile.turns, self.rng)
        left = self._message()
        last: Draft | None = None
        for number in range(turns):
            opens = left == 0 or number == 0
            left = self._message() if left == 0 else left
            left -= 1
            last = self._main_turn(last, opens, calls=left > 0 and number + 1 < turns)
        return self.made

    def _message(self) -> int:
        calls = self.profile.calls_per_message
        return 10**9 if calls is None else _whole(calls, self.rng)

    def _main_turn(self, last: Draft | None, opens: bool, calls: bool) -> Draft:
        profile, rng = self.profile, self.rng
        draft = self._draft("", "user" if opens else "tool")
        if last is None:
            draft.shared, draft.group = profile.shared_prefix, self.profile_name
            longest = int(profile.compact_at.draw(rng))
            draft.prompt = min(longest, _whole(profile.first_prompt, rng, profile.shared_prefix + 1))
        else:
            delay = min(profile.most_gap_s, profile.user_gap_s.draw(rng)) if opens else 0.0
            self._follow(draft, last, profile.user_append if opens else profile.tool_append, _us(delay))
            draft.links += [Link(end.id, relation="join") for end in self.ends.get(last.id, ())]
        if calls and not self._spawns(draft):
            draft.tools = tuple(self._calls())
        return draft

    def _follow(self, draft: Draft, last: Draft, append: Distribution, delay_ps: int) -> None:
        """The prompt before it, its reply and what is new; or a compacted context."""
        profile, rng = self.profile, self.rng
        draft.links.append(Link(last.id, delay_ps=delay_ps, relation="sequence"))
        context = last.prompt + last.output + min(profile.most_append, _whole(append, rng))
        if context <= profile.compact_at.draw(rng):
            draft.prompt = context
            return
        draft.prefix = profile.shared_prefix
        draft.prompt = max(draft.prefix + 1, math.ceil(context * min(0.9, profile.compact_to.draw(rng))))

    def _draft(self, session: str, trigger: str) -> Draft:
        draft = Draft(
            id=f"{self.id}:{len(self.made)}",
            line=len(self.made) + 1,
            program=self.id,
            session=self.id + session,
            prompt=1,
            output=_whole(self.profile.output, self.rng),
            arrival_ps=self.arrival_ps,
            trigger=trigger,
            kind=self.profile_name,
            child=bool(session),
        )
        self.made.append(draft)
        return draft

    def _calls(self) -> Iterator[ToolCall]:
        more = float(self.rng.random()) < self.profile.parallel_share
        tools = tuple((tool.share, tool) for tool in self.profile.tools)
        for _ in range(2 + (float(self.rng.random()) < 0.35) if more else 1):
            tool = pick(self.rng, tools)
            duration = min(self.profile.most_gap_s, tool.duration_s.draw(self.rng))
            yield ToolCall(tool.name, _us(duration))

    def _spawns(self, parent: Draft) -> bool:
        agents = self.profile.sub_agents
        if agents is None or float(self.rng.random()) >= agents.share:
            return False
        fan_out = pick(self.rng, agents.fan_out)
        self.ends[parent.id] = [self._child(parent, agents) for _ in range(fan_out)]
        return True

    def _child(self, parent: Draft, agents: SubAgents) -> Draft:
        """A sub-agent's chain of turns; returns the last one."""
        session = f"/a{self.children}"
        self.children += 1
        turns = _whole(agents.turns, self.rng)
        last = self._draft(session, "spawn")
        last.shared, last.group = agents.shared_prefix, f"{self.profile_name} sub-agent"
        last.prompt = _whole(agents.first_prompt, self.rng, agents.shared_prefix + 1)
        last.links.append(Link(parent.id, relation="spawn"))
        for _ in range(turns - 1):
            last.tools = tuple(self._calls())
            draft = self._draft(session, "tool")
            self._follow(draft, last, self.profile.tool_append, 0)
            last = draft
        return last

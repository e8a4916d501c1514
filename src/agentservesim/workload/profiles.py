"""What kinds of agent programs look like: fits to recorded sessions.

"claude-code" describes interactive coding sessions: 273 programs of one team, with the lengths of replies
and of what users type taken from a second set of 676 sessions, whose logs have true counts.
"swe-headless" describes unattended runs on SWE tasks (111 programs, 5,641 turns); its first prompt and its
mix of tools are assumed. In-sample Kolmogorov-Smirnov distances are between .01 and .09, and .17 for
headless file reads. Draws are independent: recorded gaps have busy and idle phases (lag-1 correlation of
their logarithms .33), which these do not.
"""

from __future__ import annotations

from dataclasses import dataclass

from agentservesim.workload.distributions import (
    Constant,
    Distribution,
    Gamma,
    LogNormal,
    Mixture,
    Sum,
    Uniform,
    Weibull,
)


@dataclass(frozen=True, slots=True)
class ToolClass:
    """A kind of tool: its share of all calls, and how long a call takes, in seconds."""

    share: float
    name: str
    duration_s: Distribution


@dataclass(frozen=True, slots=True)
class SubAgents:
    """Sub-agents that a reply with tool calls may start: `share` of such replies do."""

    share: float
    fan_out: tuple[tuple[float, int], ...]
    turns: Distribution
    first_prompt: Distribution
    shared_prefix: int


@dataclass(frozen=True, slots=True)
class Profile:
    """A kind of program. Lengths are in tokens, times in seconds.

    `shared_prefix` (system prompt and tool definitions) is the same in all programs and part of
    `first_prompt`. A user's message is answered by `calls_per_message` turns (None: the whole program
    answers one message), all but the last of which call tools; a reply with calls has two or more of them
    with probability `parallel_share`. A context that would pass `compact_at` is replaced by a shorter one:
    `compact_to` of its length, with the same shared prefix. Arrivals are no fit (no public set has them): a
    Poisson process of three programs a minute, to be replaced by program_rate.
    """

    description: str
    turns: Distribution
    calls_per_message: Distribution | None
    first_prompt: Distribution
    shared_prefix: int
    tool_append: Distribution
    user_append: Distribution
    most_append: int
    output: Distribution
    tools: tuple[ToolClass, ...]
    parallel_share: float
    user_gap_s: Distribution
    most_gap_s: float
    compact_at: Distribution
    compact_to: Distribution
    arrival_gap_s: Distribution
    sub_agents: SubAgents | None = None


PERMISSION_S = LogNormal(2.8, 1.6)
EDIT = Sum(LogNormal(-3.25, 0.52), 0.28, PERMISSION_S)

CLAUDE_CODE = Profile(
    description="interactive coding sessions, contexts to 167k tokens, sub-agents, a user who comes back",
    turns=Weibull(1.00, 70.4),
    calls_per_message=Weibull(0.861, 9.37),
    first_prompt=Mixture(
        ((0.30, LogNormal(10.22, 0.06)), (0.64, LogNormal(10.66, 0.03)), (0.06, LogNormal(11.30, 0.35)))
    ),
    shared_prefix=15_000,
    tool_append=Mixture(((0.90, LogNormal(5.76, 1.44)), (0.10, LogNormal(3.99, 2.95)))),
    user_append=Mixture(((0.905, LogNormal(5.56, 1.69)), (0.095, Constant(1)))),
    most_append=80_000,
    output=Mixture(((0.51, LogNormal(5.10, 0.42)), (0.49, LogNormal(6.04, 0.99)))),
    tools=(
        ToolClass(0.30, "Bash", LogNormal(0.47, 2.22)),
        ToolClass(0.27, "Read", LogNormal(-3.14, 0.73)),
        ToolClass(0.19, "Edit", EDIT),
        ToolClass(0.15, "Grep", LogNormal(-0.84, 0.53)),
        ToolClass(0.07, "TodoWrite", LogNormal(-4.0, 1.7)),
        ToolClass(0.01, "Write", EDIT),
        ToolClass(0.01, "WebFetch", LogNormal(1.9, 1.0)),
    ),
    parallel_share=0.13,
    user_gap_s=Mixture(((0.755, LogNormal(4.73, 1.16)), (0.245, LogNormal(5.78, 2.32)))),
    most_gap_s=3_600.0,
    compact_at=Uniform(155_000, 167_000),
    compact_to=LogNormal(-1.08, 0.25),
    arrival_gap_s=Gamma(1.0, 20.0),
    sub_agents=SubAgents(
        share=0.0081,
        fan_out=((0.91, 1), (0.07, 2), (0.02, 3)),
        turns=Weibull(1.8, 12.0),
        first_prompt=LogNormal(10.2, 0.22),
        shared_prefix=10_000,
    ),
)

SWE_HEADLESS = Profile(
    description="unattended runs on software engineering tasks, contexts to 120k tokens, no user",
    turns=Gamma(2.91, 17.4),
    calls_per_message=None,
    first_prompt=LogNormal(9.2, 0.16),
    shared_prefix=8_000,
    tool_append=LogNormal(5.20, 1.59),
    user_append=Constant(1),
    most_append=80_000,
    output=Mixture(((0.41, LogNormal(4.21, 0.34)), (0.59, LogNormal(5.69, 0.73)))),
    tools=(
        ToolClass(0.40, "Bash", LogNormal(-0.59, 1.48)),
        ToolClass(0.40, "Read", LogNormal(-3.14, 0.73)),
        ToolClass(0.20, "Edit", LogNormal(-3.25, 0.52)),
    ),
    parallel_share=0.0,
    user_gap_s=Constant(0),
    most_gap_s=3_600.0,
    compact_at=Constant(120_000),
    compact_to=LogNormal(-1.08, 0.25),
    arrival_gap_s=Gamma(1.0, 20.0),
)

PROFILES = {"claude-code": CLAUDE_CODE, "swe-headless": SWE_HEADLESS}


def list_profiles() -> dict[str, str]:
    """Names of the profiles, each with a line on what it describes."""
    return {name: profile.description for name, profile in PROFILES.items()}

"""What a scheduling policy is shown, made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agentservesim.model import Path
from agentservesim.policies.protocols import RequestView


@dataclass(eq=False)
class AProgram:
    program_id: str = "p"
    tenant: str = ""
    arrival_s: float = 0.0
    turns_done: int = 0
    running_turns: int = 1
    context_tokens: int = 0
    service_s: float = 0.0
    wait_s: float = 0.0
    home: int | None = None
    in_gap: bool = False
    gap_started_s: float | None = None
    tools: tuple[str, ...] = ()
    past_gaps_s: tuple[float, ...] = ()
    reasoning_s: float = 0.0
    acting_s: float = 0.0
    hints: Mapping[str, object] = field(default_factory=dict)


@dataclass(eq=False)
class ARequest:
    id: str = "r"
    program: AProgram = field(default_factory=AProgram)
    session_id: str = "main"
    turn_index: int = 0
    priority: int = 0
    arrival_s: float = 0.0
    prompt_tokens: int = 1000
    prompt: Path = ()
    computed_tokens: int = 0
    generated_tokens: int = 0
    cached_tokens: int = 0
    pinned: bool = False
    running: bool = False
    waited_s: float = 0.0
    service_s: float = 0.0
    preemptions: int = 0
    critical_path_s: float = 0.0
    hints: Mapping[str, object] = field(default_factory=dict)


def served(policy: object, requests: Sequence[ARequest], now_s: float = 0.0) -> list[str]:
    """The ids of requests that joined in this order, in the order in which a policy serves them."""
    views: Sequence[RequestView] = requests
    if hasattr(policy, "survey"):
        policy.survey(views, now_s)
    keys = [policy.key(view, now_s) for view in views]  # type: ignore[attr-defined]
    return [requests[i].id for i in sorted(range(len(keys)), key=lambda i: (keys[i], i))]

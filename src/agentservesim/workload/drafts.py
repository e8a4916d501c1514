"""What every reader produces: turns whose references are still names and whose content is not placed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agentservesim.model import Path, Relation, ToolCall, Trigger
from agentservesim.workload.content import Placed


@dataclass(slots=True)
class Link:
    """A dependency on the turn called `target`. A `relation` of None is to be inferred from the sessions."""

    target: str
    trigger: Trigger = "completion"
    delay_ps: int = 0
    tools_ps: int | None = None
    relation: Relation | None = None


@dataclass(slots=True)
class Draft:
    """A turn as read. Moments (`start_ps`, `arrival_ps`) are on the trace's clock; None is unknown.

    `prefix` counts leading tokens seen before; a reply may follow them unless the figure is `exact`.
    """

    id: str
    line: int
    program: str
    session: str
    prompt: int
    output: int
    links: list[Link] = field(default_factory=list)
    start_ps: int | None = None
    arrival_ps: int | None = None
    tools: tuple[ToolCall, ...] = ()
    trigger: str = "other"
    priority: int = 0
    prefix: int | None = None
    exact: bool = False
    reset: bool = False
    shared: int = 0
    group: str | None = None
    model: str | None = None
    kind: str = ""
    tenant: str = ""
    child: bool = False
    placed: Placed | None = None
    path: Path | None = None
    hints: Mapping[str, object] | None = None

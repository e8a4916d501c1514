"""The vocabulary: frozen data that every layer shares, and the units of time.

Simulated time is an integer number of picoseconds, so that sums over thousands of steps are exact
and a leap over a decode run equals stepping through it bit for bit on every platform. Seconds
appear only at the edges: in files, on the command line and in results.

Content identity is a prefix tree of token positions. A `Segment` is a stretch of content that
begins where its parent is left; it has no end. A sequence of tokens is a `Path`: the segments it
follows, each with the position at which the sequence leaves it. Two sequences share their first
`n` tokens exactly when they are in the same segments up to position `n`, so a prompt of 120,000
tokens is a handful of numbers, and comparing two of them costs as much as they have segments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

PS_PER_S = 1_000_000_000_000
"""Picoseconds in a second."""


def to_ps(seconds: float) -> int:
    """Seconds to integer picoseconds, rounded to nearest."""
    return round(seconds * PS_PER_S)


def to_s(picoseconds: int) -> float:
    """Picoseconds to seconds."""
    return picoseconds / PS_PER_S


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Content that starts at token position `start`, where it leaves its `parent`.

    Segments are compared by identity: one object is one content. A root segment (parent None)
    starts at 0. `start` lies within the parent, at or after the parent's own start.
    """

    start: int = 0
    parent: Segment | None = None


Path = tuple[tuple[Segment, int], ...]
"""Segments of a sequence from the root, each with the position (exclusive) where it is left.

Ends are strictly ascending; the first segment is a root, every other one is a child of the segment
before it with `start` equal to that segment's end. The last end is the length of the sequence.
"""

Trigger = Literal["dispatch", "completion"]
Relation = Literal["sequence", "spawn", "join"]


def shared_tokens(a: Path, b: Path) -> int:
    """Number of leading tokens that two sequences share."""
    shared = 0
    for (one, one_end), (other, other_end) in zip(a, b, strict=False):
        if one is not other:
            break
        shared = min(one_end, other_end)
        if one_end != other_end:
            break
    return shared


def first_tokens(path: Path, tokens: int) -> Path:
    """The path of a sequence's first tokens; the whole path if it has no more."""
    for number in range(len(path) - 1, -1, -1):
        segment, end = path[number]
        if segment.start < tokens:
            return path[: number + 1] if end <= tokens else (*path[:number], (segment, tokens))
    return ()


@dataclass(frozen=True, slots=True)
class ToolCall:
    """Work outside the engine that a turn's reply starts.

    `duration_ps` is None where the trace does not know it; the Tool Simulator then draws it.
    `offset_ps` is the start of the call relative to the end of the reply (never negative).
    """

    name: str
    duration_ps: int | None = None
    offset_ps: int = 0


@dataclass(frozen=True, slots=True)
class Dependency:
    """What a turn waits for.

    The turn may start `delay_ps` (think time, client overhead) after the dependency's trigger and
    after the tool calls of the turn it depends on. `tools_ps` is the recorded duration of those
    calls as a whole (calls overlap); None means "run the calls of that turn".
    `turn` is an index into `Program.turns`. A `dispatch` trigger fires when that turn is submitted,
    `completion` when its last token is out.
    """

    turn: int
    trigger: Trigger = "completion"
    delay_ps: int = 0
    tools_ps: int | None = None
    relation: Relation = "sequence"


@dataclass(frozen=True, slots=True)
class Turn:
    """One LLM call of a program.

    `path` is the content of prompt and reply together: its last end is
    `prompt_tokens + output_tokens`. A later turn that sends the reply back shares that part of the
    path when replies are reusable, and leaves it at the end of the prompt when they are not.
    `prefix_tokens` is the trace's own figure of how much of the prompt was seen before, if it has
    one. `not_before_ps` is relative to the arrival of the program. `hints` are what the agent framework
    tells the server with the turn (`workload.hints`); policies may read them.
    """

    id: str
    index: int
    session_id: str
    prompt_tokens: int
    output_tokens: int
    path: Path
    dependencies: tuple[Dependency, ...] = ()
    not_before_ps: int = 0
    tools: tuple[ToolCall, ...] = ()
    trigger: str = "other"
    priority: int = 0
    prefix_tokens: int | None = None
    hints: Mapping[str, object] | None = field(default=None, hash=False)

    @property
    def total_tokens(self) -> int:
        """Prompt and reply together."""
        return self.prompt_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class Program:
    """One agent run: a root session and its sub-agents.

    `tenant` is the customer on whose behalf it runs, where the trace knows one. Turns are in an order in
    which every dependency points backwards (index smaller than its own).
    """

    id: str
    arrival_ps: int
    turns: tuple[Turn, ...]
    kind: str = ""
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Workload:
    """Programs in order of arrival, and where they came from."""

    programs: tuple[Program, ...]
    source: str = ""
    synthetic: bool = False
    notes: tuple[str, ...] = field(default=())

    @property
    def num_turns(self) -> int:
        """Turns of all programs."""
        return sum(len(p.turns) for p in self.programs)


@dataclass(slots=True)
class TurnRecord:
    """What happened to one turn. Times are those the client sees, the front end included.

    `queue_ps`, `prefill_ps`, `decode_ps` and `transfer_ps` sum to `finish_ps - ready_ps`; waiting
    again after a preemption counts as queueing, and `requeue_ps` is that part of it; `hold_ps` is the part in
    which admission held the turn. `gap_ps` is the time before the turn in which its program was outside the
    engine: tool calls and think time. Prompt tokens are either cached (prefix hits when first admitted, or
    after a preemption beyond what had been computed) or computed; `loaded_tokens` says how many of the cached
    ones came from which tier below HBM; recomputed tokens are those computed again after preemptions, replies
    included. `scores` are what the router made of each instance, if it says so.
    """

    program_id: str
    turn_id: str
    index: int
    session_id: str
    instance: int
    ready_ps: int
    scheduled_ps: int
    first_token_ps: int
    finish_ps: int
    gap_ps: int
    queue_ps: int
    requeue_ps: int
    hold_ps: int
    prefill_ps: int
    decode_ps: int
    transfer_ps: int
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int
    computed_tokens: int
    recomputed_tokens: int
    preemptions: int
    loaded_tokens: Mapping[str, int] = field(default_factory=dict)
    scores: Sequence[float] = ()


@dataclass(slots=True)
class StepRecord:
    """One engine step: when it ran and what was in it. Blocks and queues are as after scheduling it."""

    instance: int
    start_ps: int
    end_ps: int
    prefill_tokens: int
    decode_rows: int
    running: int
    waiting: int
    free_blocks: int


class Listener(Protocol):
    """Who watches a run. The simulation never asks a listener for anything."""

    wants_steps: bool

    def turn_done(self, record: TurnRecord) -> None:
        """A turn's last token reached its client."""

    def step_done(self, record: StepRecord) -> None:
        """A step ended; called only where `wants_steps` is true."""


class InputError(ValueError):
    """Bad input: the message is one clear line that names the place, the fault and the mend.

    The command line prints it and exits with code 2.
    """

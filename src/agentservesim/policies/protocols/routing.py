"""What a router sees and decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, Protocol, runtime_checkable

from agentservesim.model import Path
from agentservesim.policies.protocols.programs import ProgramView

NO_HINTS: Mapping[str, object] = MappingProxyType({})


class TurnView(NamedTuple):
    """A turn that is about to be sent. `home` is the instance of its session's last turn, or of the
    program's where the session is new, or None. `path` is the content of its prompt."""

    program_id: str
    session_id: str
    turn_index: int
    prompt_tokens: int
    priority: int
    home: int | None
    path: Path = ()
    hints: Mapping[str, object] = NO_HINTS
    program: ProgramView | None = None


class QueuedTurn(NamedTuple):
    """A turn in a waiting queue, and when it was sent."""

    program_id: str
    session_id: str
    sent_s: float


class InstanceView(Protocol):
    """An instance as its router sees it: as it is, or as it was when it last reported.

    Which of the two is the scenario's `[routing]`. What `prefill_s` and `num_blocks` say is never old.
    """

    @property
    def index(self) -> int:
        """Its number in the fleet."""

    @property
    def load(self) -> int:
        """Turns sent to it whose last token is still to come."""

    @property
    def running(self) -> int:
        """Requests in its running batch."""

    @property
    def waiting(self) -> int:
        """Requests in its waiting queue."""

    @property
    def queue(self) -> Sequence[QueuedTurn]:
        """Turns in its waiting queue that have not run yet, in the order of the queue."""

    @property
    def running_tokens(self) -> int:
        """Context of the requests that run."""

    @property
    def block_size(self) -> int:
        """Tokens in a KV block."""

    @property
    def num_blocks(self) -> int:
        """KV blocks of its pool that can hold tokens."""

    @property
    def free_blocks(self) -> int:
        """KV blocks that no running request holds (vLLM counts cached ones as free)."""

    @property
    def step_s(self) -> float:
        """Duration of a step of its decode batch; 0 if that is empty."""

    def hit_tokens(self, path: Path) -> int:
        """How many tokens of a prompt its HBM has."""

    def prefill_s(self, tokens: int, history: int = 0) -> float:
        """Time to compute so many tokens behind `history` others, alone."""

    def transfer_s(self, tokens: int, source: int) -> float:
        """Time to get KV from another instance over the network, its backlog included; inf without one."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Where a turn goes, and why.

    scores: a figure for each instance, by index; whether the lowest or the highest wins is the policy's.
    Results have them. source: an instance whose KV of the prompt is to be sent over the network first.
    """

    index: int
    scores: Sequence[float] = ()
    source: int | None = None


class Prefilled(NamedTuple):
    """A turn's first token is out: its prompt has been computed."""

    turn: TurnView
    instance: int


class Replied(NamedTuple):
    """A turn's last token is out."""

    turn: TurnView
    instance: int
    reply_tokens: int


RouterEvent = Prefilled | Replied


@runtime_checkable
class Router(Protocol):
    """Chooses the instance of each turn.

    Optional methods: `begin(instances, seed)`, called once with the number of instances, for routers that
    draw at random (from `agentservesim.random.stream`); `observe(event)`, told of `Prefilled` and `Replied`;
    `tick_s` with `rebalance(fleet)`, which yields `Move`, `Replicate`, `Pause` and `Restore`; `rebalances`,
    False if, as far as `begin` told, it never will;
    `looks_ahead(turn)`, asked when a turn is done: whether what is known of its session's next prompt, the
    prompt and the reply as it will be sent back, is to be computed at its instance.
    """

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> int | Choice:
        """The index of the instance that is to serve the turn, or a `Choice` of it."""

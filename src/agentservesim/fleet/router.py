"""The Session-Aware Router: asks the routing policy where turns go, and tells it what became of them."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, SupportsIndex

from agentservesim.fleet.config import RoutingConfig
from agentservesim.fleet.reports import Reports
from agentservesim.fleet.servers import Server
from agentservesim.kernel import Kernel
from agentservesim.model import InputError, to_ps, to_s
from agentservesim.policies.asking import FAULTS, fault_of
from agentservesim.policies.protocols import (
    Choice,
    InstanceView,
    Prefilled,
    Replied,
    RouterEvent,
    TurnView,
)

NO_SCORES: Sequence[float] = ()

NEWS = -1
"""Priority: what is known at a moment is known before a turn is routed in it."""


class Dispatcher:
    """A routing policy between the programs and the instances. It may want news of first and last tokens.

    Raises InputError that names the policy, the call and the turn where the policy fails.
    """

    def __init__(
        self, policy: Any, servers: Sequence[Server], config: RoutingConfig, kernel: Kernel, seed: int
    ) -> None:
        self.name = f"router {type(policy).__name__}"
        self.policy = policy
        self._live = [server.view for server in servers]
        self._kernel = kernel
        self._lag_ps = to_ps(config.event_lag_s)
        self._reports = None if config.fresh else Reports(servers, config, kernel)
        self.wants_news = getattr(policy, "observe", None) is not None
        self._may_look_ahead = getattr(policy, "looks_ahead", None) is not None
        if getattr(policy, "begin", None) is not None:
            self._begin(seed)

    def _begin(self, seed: int) -> None:
        try:
            self.policy.begin(len(self._live), seed)
        except FAULTS as error:
            raise fault_of(f"{self.name}: begin()", error) from error

    @property
    def views(self) -> Sequence[InstanceView]:
        """The instances as the router sees them now."""
        return self._live if self._reports is None else self._reports.latest()

    def choose(self, turn: TurnView) -> Choice:
        """Where a turn goes. There are no scores where there is no choice."""
        try:
            answer = self.policy.route(turn, self.views, to_s(self._kernel.now))
        except FAULTS as error:
            raise fault_of(self._named("route", turn), error) from error
        choice = answer if isinstance(answer, Choice) else Choice(answer)
        if type(choice.index) is not int or not 0 <= choice.index < len(self._live):
            choice = replace(choice, index=self._checked("returned", choice.index, turn))
        if choice.source is not None:
            choice = replace(choice, source=self._checked("named the source", choice.source, turn))
        if choice.scores is not NO_SCORES:
            choice = replace(choice, scores=self._scores(choice.scores, turn))
        return choice

    def _checked(self, did: str, index: object, turn: TurnView) -> int:
        """The index of an instance; other kinds of whole numbers, such as numpy's, will do."""
        if isinstance(index, SupportsIndex) and 0 <= index.__index__() < len(self._live):
            return index.__index__()
        raise InputError(
            f"{self._named('route', turn)} {did} {index!r}; it must be the index of an instance, "
            f"0 to {len(self._live) - 1}"
        )

    def _scores(self, scores: Sequence[float], turn: TurnView) -> Sequence[float]:
        """A figure for each instance; none where there is no choice, or where there are none."""
        try:
            figures = array("d", scores)
        except (TypeError, ValueError, OverflowError):
            raise InputError(
                f"{self._named('route', turn)} gave the scores {scores!r}; they must be numbers"
            ) from None
        if figures and len(figures) != len(self._live):
            raise InputError(
                f"{self._named('route', turn)} gave {len(figures)} scores; there are {len(self._live)} "
                "instances"
            )
        return figures.tolist() if len(self._live) > 1 else NO_SCORES

    def _named(self, name: str, turn: TurnView) -> str:
        return f"{self.name}: {name}() of turn {turn.turn_index} of program '{turn.program_id}'"

    # ---- news ---------------------------------------------------------------------------------

    def sent(self, index: int) -> None:
        """A turn is on its way to an instance."""
        if self._reports is not None:
            self._reports.event(index)

    def looks_ahead(self, turn: TurnView) -> bool:
        """Whether the beginning of the next prompt is to be computed, now that a turn is done."""
        if not self._may_look_ahead:
            return False
        try:
            return bool(self.policy.looks_ahead(turn))
        except FAULTS as error:
            raise fault_of(self._named("looks_ahead", turn), error) from error

    def prefilled(self, turn: TurnView, index: int, at_ps: int) -> None:
        """A turn's first token comes out at `at_ps`, now or later."""
        self._kernel.at(at_ps + self._lag_ps, self._tell, Prefilled(turn, index), NEWS)

    def replied(self, turn: TurnView, index: int, reply_tokens: int) -> None:
        """A turn's last token is out."""
        if self.wants_news:
            event = Replied(turn, index, reply_tokens)
            self._kernel.at(self._kernel.now + self._lag_ps, self._tell, event, NEWS)
        if self._reports is not None:
            self._reports.event(index)

    def _tell(self, event: RouterEvent) -> None:
        try:
            self.policy.observe(event)
        except FAULTS as error:
            raise fault_of(self._named("observe", event.turn), error) from error

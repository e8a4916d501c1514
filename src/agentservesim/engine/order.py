"""A scheduling policy as the engine asks it: what it answers is checked, what it raises is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from itertools import zip_longest
from math import isfinite
from operator import ne
from typing import Any

from agentservesim.model import InputError, to_ps
from agentservesim.policies.asking import FAULTS, fault_of
from agentservesim.policies.protocols import RequestView, SchedulerEvent
from agentservesim.policies.protocols.scheduling import CHANGES
from agentservesim.policies.scheduling.fcfs import Fcfs

LEAST_TICK_S = 1e-3

PLAIN = {int, float, str, bool}
"""Kinds of keys of which only nan has no place in any order."""


def order_of(policy: object) -> Order | None:
    """The order that a policy makes; None for fcfs, which needs no keys."""
    return None if type(policy) is Fcfs else Order(policy)


class Order:
    """The order of the waiting queues of a fleet: one policy for all of them.

    `tick_ps` is how often all keys may change ("time"), 0 otherwise. `followers` are told the id of a program
    whose requests may have other keys now, `on_version` are called when those of all may. Raises InputError
    that names the policy, the call and the turn where it fails.
    """

    def __init__(self, policy: Any) -> None:
        self.policy = policy
        self.followers: list[Callable[[str], None]] = []
        self.on_version: list[Callable[[], None]] = []
        self._name = f"scheduler {type(policy).__name__}"
        self.changes = policy.changes
        if self.changes not in CHANGES:
            raise InputError(
                f"{self._name}: changes is {self.changes!r}; it must be one of {', '.join(CHANGES)}"
            )
        self.tick_ps = self._tick_ps() if self.changes == "time" else 0
        self.surveys = getattr(policy, "survey", None) is not None
        self.preempts = bool(getattr(policy, "preempts", False))
        self.caps = getattr(policy, "budget", None) is not None
        self.chooses_victims = getattr(policy, "victims", None) is not None
        self._observe = getattr(policy, "observe", None)
        self._may_have_version = self.tick_ps > 0 and not self.preempts

    def _tick_ps(self) -> int:
        tick_s = getattr(self.policy, "tick_s", None)
        if not isinstance(tick_s, (int, float)) or not isfinite(tick_s) or tick_s < LEAST_TICK_S:
            raise InputError(f"{self._name}: tick_s is {tick_s!r}; it must be at least {LEAST_TICK_S:g} s")
        return to_ps(tick_s)

    @property
    def version(self) -> object:
        """As long as this is the same, and not None, no key changes."""
        try:
            return getattr(self.policy, "version", None) if self._may_have_version else None
        except FAULTS as error:
            raise self._failed("version", error) from error

    def key(self, request: RequestView, now_s: float) -> Any:
        """What a request is sorted by."""
        try:
            key = self.policy.key(request, now_s)
        except FAULTS as error:
            raise self._failed(_call("key", request), error) from error
        if not _can_be_sorted(key):
            raise self._no_order(request, key)
        return key

    def is_below(self, key: Any, request: RequestView, now_s: float) -> bool:
        """Whether a key is lower than that of a request."""
        other = self.key(request, now_s)
        try:
            return bool(key < other)
        except TypeError as error:
            raise self.incomparable(error) from error

    def keys(self, waiting: Sequence[RequestView], now_s: float) -> list[Any]:
        """What all requests of a queue are sorted by; the policy is shown the whole of it first."""
        key, keys, request = self.policy.key, list[Any](), None
        try:
            if self.surveys:
                self.policy.survey(waiting, now_s)
            for request in waiting:
                keys.append(key(request, now_s))
        except FAULTS as error:
            call = _call("key", request) if request is not None else "survey()"
            raise self._failed(call, error) from error
        if not _can_all_be_sorted(keys):
            pairs = zip(waiting, keys, strict=True)
            raise self._no_order(*next(pair for pair in pairs if not _can_be_sorted(pair[1])))
        return keys

    def _no_order(self, request: RequestView, key: object) -> InputError:
        return InputError(
            f"{self._name}: {_call('key', request)} returned {key!r}; a key must be a number, a text or a "
            "tuple of them, and not nan"
        )

    def budgets(self, requests: Sequence[RequestView], now_s: float) -> list[int]:
        """Most tokens of its prompt that each request may compute in this step, at least 1."""
        budget, answers, request = self.policy.budget, list[Any](), None
        try:
            for request in requests:
                answers.append(budget(request, now_s))
        except FAULTS as error:
            call = _call("budget", request) if request is not None else "budget()"
            raise self._failed(call, error) from error
        if set(map(type, answers)) == {int} and min(answers) > 0:
            return answers
        return [self._whole(request, tokens) for request, tokens in zip(requests, answers, strict=True)]

    def _whole(self, request: RequestView, tokens: object) -> int:
        if not isinstance(tokens, (int, float)) or not tokens >= 1:
            raise InputError(
                f"{self._name}: {_call('budget', request)} returned {tokens!r}; "
                "it must be a number of tokens, at least 1"
            )
        return int(min(tokens, 1 << 62))

    def victim(self, running: Sequence[RequestView], now_s: float) -> RequestView:
        """The running request to preempt first."""
        try:
            order = list(self.policy.victims(running, now_s))
        except FAULTS as error:
            raise self._failed("victims()", error) from error
        if not order or order[0] not in running:
            raise InputError(f"{self._name}: victims() must return the running requests, not {order!r}")
        first: RequestView = order[0]
        return first

    def tell(self, event: SchedulerEvent) -> None:
        """Something happened."""
        if self._observe is None:
            return
        before = self.version
        try:
            self._observe(event)
        except FAULTS as error:
            raise self._failed(f"observe() of {type(event).__name__}", error) from error
        if self.version != before:
            for follow in self.on_version:
                follow()

    def changed(self, program_id: str) -> None:
        """The keys of a program's requests may have changed."""
        if self.changes == "program":
            for follow in self.followers:
                follow(program_id)

    def incomparable(self, error: TypeError) -> InputError:
        """What to raise where keys cannot be compared."""
        return InputError(f"{self._name}: its keys cannot be compared with one another: {error}")

    def _failed(self, call: str, error: BaseException) -> InputError:
        return fault_of(f"{self._name}: {call}", error)


def _call(method: str, request: RequestView) -> str:
    return f"{method}() of turn {request.turn_index} of program '{request.program.program_id}'"


def _can_be_sorted(key: Any) -> bool:
    """Whether a key has a place in some order, as nan has not, nor what `<` does not compare.

    Two keys may both have one, and still not be comparable with one another.
    """
    if isinstance(key, (tuple, list)):
        return all(map(_can_be_sorted, key))
    try:
        return not isinstance(key, Set) and not key < key and bool(key == key)
    except (TypeError, ValueError, ArithmeticError):
        return False


def _can_all_be_sorted(keys: Sequence[Any]) -> bool:
    """The same of many keys: tuples place by place, and plain numbers and texts all at once."""
    kinds = set(map(type, keys))
    if kinds == {tuple}:
        return all(map(_can_all_be_sorted, zip_longest(*keys, fillvalue=0)))
    if kinds <= PLAIN:
        return float not in kinds or not any(map(ne, keys, keys))
    return all(map(_can_be_sorted, keys))

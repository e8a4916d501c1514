"""Laws for authors of scheduling policies: the built-ins keep them, a policy that breaks one is caught."""

from __future__ import annotations

from random import Random
from typing import ClassVar

import pytest

from agentservesim.model import InputError
from agentservesim.policies import list_policies, load_policy
from agentservesim.policies.protocols import Changes, RequestView
from agentservesim.testing import SchedulerLaws

LAWS = [name for name in dir(SchedulerLaws) if name.startswith("test_")]

FORCEFUL = "autellix-mlfq,preempts=true,tick_s=0.05,boundaries=4/8/12,quanta=4/4/4/4,starvation=1000"
"""One that preempts by force: some 140 times in these cases."""


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", [*sorted(list_policies("scheduler")), FORCEFUL])
def test_built_in_policies_keep_the_laws(name: str, law: str) -> None:
    class Laws(SchedulerLaws):
        seeds = range(10)

        def make_policy(self) -> object:
            return load_policy("scheduler", name)

    getattr(Laws(), law)()


class Late:
    """Says that its keys never change, but they do."""

    changes: ClassVar[Changes] = "never"

    def key(self, request: RequestView, now_s: float) -> float:
        return -now_s


class Moody(Late):
    """Answers differently in every run."""

    random = Random(0)

    def key(self, request: RequestView, now_s: float) -> float:
        return self.random.random()


class Clairvoyant(Late):
    """Looks where a policy must not."""

    def key(self, request: RequestView, now_s: float) -> float:
        return request._request.total  # type: ignore[attr-defined]


class Impatient(Late):
    changes: ClassVar[Changes] = "time"
    tick_s = 0.0


class Wordless(Late):
    def key(self, request: RequestView, now_s: float) -> object:  # type: ignore[override]
        return request.id if request.turn_index else request.turn_index


class Picky(Late):
    def victims(self, running: list[RequestView], now_s: float) -> list[RequestView]:
        return []


BROKEN = [
    (Moody, "test_it_is_deterministic", AssertionError, "case"),
    (Clairvoyant, "test_it_sees_no_future", AssertionError, "case"),
    (Impatient, "test_it_is_a_policy", InputError, "Impatient: tick_s is 0.0; it must be at least 0.001 s"),
    (Wordless, "test_every_turn_completes", InputError, "Wordless: its keys cannot be compared"),
    (Picky, "test_every_turn_completes", InputError, "victims.. must return the running requests"),
]


@pytest.mark.parametrize(("policy", "law", "error", "said"), BROKEN)
def test_a_policy_that_breaks_a_law_is_caught(
    policy: type, law: str, error: type[Exception], said: str
) -> None:
    class Laws(SchedulerLaws):
        seeds = range(40)

        def make_policy(self) -> object:
            return policy()

    with pytest.raises(error, match=said):
        getattr(Laws(), law)()

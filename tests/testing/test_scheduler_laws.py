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


@pytest.mark.parametrize("seed", [25, 29])
def test_sessions_that_part_are_no_look_ahead(seed: int) -> None:
    class Laws(SchedulerLaws):
        seeds = range(seed, seed + 1)

        def make_policy(self) -> object:
            return load_policy("scheduler", "fair-share")

    Laws().test_it_sees_no_future()


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
        return float(request._request.total)  # type: ignore[attr-defined]


class Measuring(Late):
    """Looks how long the reply will be."""

    def key(self, request: RequestView, now_s: float) -> float:
        return float(request._request.turn.output_tokens)  # type: ignore[attr-defined]


class Hashing(Late):
    def key(self, request: RequestView, now_s: float) -> float:
        return hash(request.program.program_id)


class Impatient(Late):
    changes: ClassVar[Changes] = "time"
    tick_s = 0.0


class Wordless(Late):
    def key(self, request: RequestView, now_s: float) -> object:  # type: ignore[override]
        return request.id if request.turn_index else request.turn_index


class Picky(Late):
    def victims(self, running: list[RequestView], now_s: float) -> list[RequestView]:
        return []


class Unversioned(Late):
    changes: ClassVar[Changes] = "time"
    tick_s = 1.0

    @property
    def version(self) -> object:
        raise KeyError("none yet")


BROKEN = [
    (Moody, "test_it_is_deterministic", AssertionError, "case"),
    (Clairvoyant, "test_it_sees_no_future", AssertionError, "case"),
    (Measuring, "test_it_sees_no_future", AssertionError, "case"),
    (Hashing, "test_it_does_not_go_by_hashes", AssertionError, "other hashes"),
    (Impatient, "test_it_is_a_policy", InputError, "Impatient: tick_s is 0.0; it must be at least 0.001 s"),
    (Wordless, "test_every_turn_completes", InputError, "Wordless: its keys cannot be compared"),
    (
        Unversioned,
        "test_every_turn_completes",
        InputError,
        "Unversioned: version raised KeyError: 'none yet'",
    ),
    (Picky, "test_every_turn_completes", InputError, "victims.. must return the running requests"),
]


@pytest.mark.parametrize(("policy", "law", "error", "said"), BROKEN)
def test_a_policy_that_breaks_a_law_is_caught(
    policy: type, law: str, error: type[Exception], said: str
) -> None:
    class Laws(SchedulerLaws):
        seeds = range(40) if policy is Picky else SchedulerLaws.seeds  # of the first 12 none preempts

        def make_policy(self) -> object:
            return policy()

    with pytest.raises(error, match=said):
        getattr(Laws(), law)()

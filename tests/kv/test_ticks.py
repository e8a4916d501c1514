"""Policies that say when they want to be ticked next."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from agentservesim.model import InputError
from agentservesim.policies.protocols import CACHE, ChainView, Placement, ServerView
from agentservesim.policies.residency import InferCept
from tests.policies.residency.views import run


class Sleeper:
    """Wants to be ticked from `wants` on, one after the other, and never after the last."""

    tick_s = 0.5

    def __init__(self, *wants: float) -> None:
        self.wants = list(wants)
        self.ticks: list[float] = []

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        return CACHE

    def next_tick_s(self, instance: int) -> float | None:
        return self.wants[0] if self.wants else None

    def tick(self, chains: Sequence[ChainView], server: ServerView) -> list[tuple[ChainView, Placement]]:
        self.ticks.append(server.now_s)
        self.wants.pop(0)
        return []


def test_only_the_ticks_that_are_wanted_come_at_multiples_of_the_period() -> None:
    # It is asked first when the first gap begins, at 0.42 s: 220 tokens of prompt, 20 of reply.
    policy = Sleeper(0.0, 2.0, 2.1, 3.2, 9.5)
    run(policy)
    assert policy.ticks == [0.5, 2.0, 2.5, 3.5, 9.5]


def test_what_is_no_time_is_refused() -> None:
    with pytest.raises(InputError, match=r"residency Sleeper: next_tick_s\(\) returned 'soon'; it must"):
        run(Sleeper("soon"))  # type: ignore[arg-type]


@pytest.mark.parametrize("swap", [True, False])
@pytest.mark.parametrize("gap", ["elapsed", "mean"])
def test_infercept_misses_nothing_in_the_ticks_that_it_leaves_out(gap: str, swap: bool) -> None:
    class Restless(InferCept):
        """Looks at every tick."""

        ticks = 0

        def next_tick_s(self, instance: int) -> float:
            return 0.0

        def tick(self, chains: Sequence[ChainView], server: ServerView):  # type: ignore[no-untyped-def]
            self.ticks += 1
            return super().tick(chains, server)

    class Counted(Restless):
        def next_tick_s(self, instance: int) -> float | None:  # type: ignore[override]
            return InferCept.next_tick_s(self, instance)

    restless, counted = Restless(gap=gap, swap=swap), Counted(gap=gap, swap=swap)
    assert run(restless).same_as(run(counted))
    assert counted.ticks < restless.ticks / 2

"""How often policies are asked, and what is told where they fail."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from agentservesim.model import PS_PER_S, InputError
from agentservesim.policies.asking import fault_of, tick_ps


@pytest.mark.parametrize(("tick_s", "every_ps"), [(2, 2 * PS_PER_S), (0.5, PS_PER_S // 2), (0, 0), (None, 0)])
def test_a_policy_says_how_often_it_is_asked(tick_s: float | None, every_ps: int) -> None:
    assert tick_ps(SimpleNamespace(tick_s=tick_s), "router X") == every_ps


def test_a_policy_without_a_tick_is_never_asked() -> None:
    assert tick_ps(object(), "router X") == 0


@pytest.mark.parametrize("tick_s", [-1.0, float("inf"), float("nan"), "5"])
def test_what_is_no_time_is_refused(tick_s: object) -> None:
    with pytest.raises(InputError, match=r"^router X: tick_s is .*; it must be a time"):
        tick_ps(SimpleNamespace(tick_s=tick_s), "router X")


def test_an_error_is_told_with_the_call_and_an_input_error_as_it_is() -> None:
    own = InputError("no such tenant")
    assert fault_of("router X: route()", own) is own
    told = fault_of("router X: route()", KeyError("a"))
    assert isinstance(told, InputError)
    assert str(told) == "router X: route() raised KeyError: 'a'"

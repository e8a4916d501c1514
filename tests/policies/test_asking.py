"""How often policies are asked, and what is told where they fail."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from agentservesim.model import PS_PER_S, InputError
from agentservesim.policies.asking import attribute, fault_of, figures, tick_ps


@pytest.mark.parametrize(("tick_s", "every_ps"), [(2, 2 * PS_PER_S), (0.5, PS_PER_S // 2), (None, 0)])
def test_a_policy_says_how_often_it_is_asked(tick_s: float | None, every_ps: int) -> None:
    assert tick_ps(SimpleNamespace(tick_s=tick_s), "router X") == every_ps


def test_a_policy_without_a_tick_is_never_asked() -> None:
    assert tick_ps(object(), "router X") == 0


@pytest.mark.parametrize("tick_s", [0, 0.0, 1e-14, -1.0, float("inf"), float("nan"), "5"])
def test_what_is_no_time_is_refused(tick_s: object) -> None:
    with pytest.raises(InputError, match=r"^router X: tick_s is .*; it must be a time"):
        tick_ps(SimpleNamespace(tick_s=tick_s), "router X")


class Silent(Exception):
    """Cannot even be told."""

    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (InputError("no such tenant"), ": no such tenant"),
        (KeyError("a"), " raised KeyError: 'a'"),
        (ValueError("one\n  two"), " raised ValueError: one two"),
        (AssertionError(), " raised AssertionError"),
        (SystemExit(0), " raised SystemExit: 0"),
        (Silent(), " raised Silent: (it has no text)"),
    ],
)
def test_an_error_is_told_in_one_line_with_the_call(error: BaseException, said: str) -> None:
    told = fault_of("router X: route()", error)
    assert isinstance(told, InputError)
    assert str(told) == "router X: route()" + said


def test_a_property_that_fails_is_named() -> None:
    class Broken:
        @property
        def needs(self) -> str:
            raise RuntimeError("no disk")

    assert attribute(Broken(), "uses", "residency X", ()) == ()
    with pytest.raises(InputError, match=r"^residency X: needs raised RuntimeError: no disk$"):
        attribute(Broken(), "needs", "residency X")


def test_figures_are_plain_numbers() -> None:
    told = figures(SimpleNamespace(figures=lambda: {"a": 1, "b": np.float32(0.5), "c": 1 << 70}), "router X")
    assert told == {"a": 1, "b": 0.5, "c": float(1 << 70)}
    assert [type(value) for value in told.values()] == [int, float, float]
    assert figures(object(), "router X") is None


@pytest.mark.parametrize("answer", [5, None, {"a": object()}, {"a": "1"}, {1: 1}])
def test_what_are_no_figures_is_refused(answer: object) -> None:
    with pytest.raises(
        InputError, match=r"^router X: figures\(\) returned .*; it must map names to numbers$"
    ):
        figures(SimpleNamespace(figures=lambda: answer), "router X")

"""Answers of scheduling policies that are no order: refused in one line that names policy, call and turn."""

from __future__ import annotations

from decimal import Decimal
from math import inf, nan
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from agentservesim.cli import main
from agentservesim.engine.order import Order
from agentservesim.model import InputError
from agentservesim.policies.protocols import Changes
from tests.engine.rationed import Rationed
from tests.fleet.parts import S, chain, serve
from tests.policies.scheduling.views import AProgram, ARequest


class Answering:
    """Answers what it is told to."""

    changes: ClassVar[Changes] = "never"

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)

    def key(self, request: object, now_s: float) -> object:
        return self.answers.pop(0)


class Least:
    """Has `<` alone, which is enough for an order."""

    def __lt__(self, other: object) -> bool:
        return False


NO_ORDER: list[Any] = [
    nan,
    -nan,
    np.float64(nan),
    Decimal("nan"),
    (0, nan),
    (0, ("a", nan)),
    None,
    (1, None),
    {1, 2},
    {"a": 1},
    1j,
    object(),
    np.arange(3),
]
AN_ORDER: list[Any] = [
    0,
    -1.5,
    inf,
    -inf,
    True,
    "a",
    b"a",
    (),
    (1, "a", (2.0, inf)),
    [1, 2],
    Least(),
    Decimal(1),
]
AN_ORDER += [np.float64(1), np.int64(1), np.bool_(True)]
TURN = ARequest("t", AProgram("shop"), turn_index=3)


@pytest.mark.parametrize("key", NO_ORDER, ids=lambda key: type(key).__name__)
def test_a_key_that_is_no_order_is_refused(key: object) -> None:
    said = r"scheduler Answering: key\(\) of turn 3 of program 'shop' returned .*; a key must be a number"
    with pytest.raises(InputError, match=said) as one:
        Order(Answering(key)).key(TURN, 0.0)
    assert "\n" not in str(one.value)
    others = [ARequest(str(number)) for number in range(4)]
    good = (0, 1.0) if isinstance(key, tuple) else 1.0
    with pytest.raises(InputError, match=said):
        Order(Answering(good, good, key, good, good)).keys([*others[:2], TURN, *others[2:]], 0.0)


@pytest.mark.parametrize("key", AN_ORDER, ids=lambda key: type(key).__name__)
def test_whatever_can_be_sorted_is_a_key(key: object) -> None:
    assert Order(Answering(key)).key(TURN, 0.0) is key
    assert Order(Answering(key, key)).keys([TURN, TURN], 0.0) == [key, key]


def test_keys_of_two_kinds_are_told_wherever_they_meet() -> None:
    """Among those who wait, and between one of them and one who runs."""
    said = "scheduler Answering: its keys cannot be compared with one another: '<' not supported"
    order = Order(Answering(1.0, "a"))
    assert order.is_below(0.0, TURN, 0.0)
    with pytest.raises(InputError, match=said):
        order.is_below(0.0, TURN, 0.0)


@pytest.mark.parametrize("tokens", [0, -1, 0.5, nan, "8"])
def test_a_budget_of_less_than_a_token_is_refused(tokens: Any) -> None:
    with pytest.raises(InputError) as raised:
        serve([chain("p", [2])], scheduler=Rationed(tokens))
    call = "scheduler Rationed: budget() of turn 0 of program 'p'"
    assert str(raised.value) == f"{call} returned {tokens!r}; it must be a number of tokens, at least 1"


def test_a_budget_may_be_endless_or_no_whole_number() -> None:
    """16 tokens of prompt, 5 a step: four steps, and one more token."""
    assert serve([chain("p", [2])], scheduler=Rationed(5.5)).now_ps == 5 * S  # type: ignore[arg-type]
    assert serve([chain("p", [2])], scheduler=Rationed(inf)).now_ps == 2 * S  # type: ignore[arg-type]


@pytest.mark.parametrize("changes", ["never", "program", "queue"])
def test_the_command_line_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], changes: str
) -> None:
    module = f"undecided_{changes}"
    (tmp_path / f"{module}.py").write_text(
        f"class Undecided:\n    changes = '{changes}'\n\n"
        "    def key(self, request, now_s):\n        return request.turn_index, float('nan')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as end:
        main(["run", "demo", "--max-programs", "2", "--scheduler", f"{module}:Undecided", "--out", str(out)])
    assert end.value.code == 2
    assert not out.exists()
    error = capsys.readouterr().err.splitlines()[-1]
    assert "scheduler Undecided: key() of turn 0 of program '" in error
    assert "returned (0, nan)" in error

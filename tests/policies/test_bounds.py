"""Every numeric parameter of every policy has bounds, which are checked when the policy is made."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields, is_dataclass
from math import nan

import pytest

from agentservesim.model import InputError
from agentservesim.policies import FAMILIES, list_policies, load_policy
from agentservesim.testing.playing import play
from agentservesim.testing.residency_cases import draw_case

PARAMETERS = [
    (family, name, type(policy), field.name)
    for family in FAMILIES
    for name in list_policies(family)
    if is_dataclass(policy := load_policy(family, name))
    for field in fields(policy)
    if field.init and type(field.default) in (int, float)
]


def test_there_are_parameters() -> None:
    assert len(PARAMETERS) > 80


@pytest.mark.parametrize(("family", "name", "kind", "parameter"), PARAMETERS)
def test_less_than_nothing_and_no_number_are_refused_in_one_line(
    family: str, name: str, kind: type, parameter: str
) -> None:
    for value in ("-1", "nan"):
        with pytest.raises(InputError) as caught:
            load_policy(family, f"{name},{parameter}={value}")
        message = str(caught.value)
        assert f"{parameter} must be " in message
        assert "\n" not in message
    for number in (-1, nan):
        with pytest.raises(ValueError, match=f"{parameter} must be .*, got (-1|nan)"):
            kind(**{parameter: number})


@pytest.mark.parametrize(
    ("name", "parameter"), [(name, field) for family, name, _, field in PARAMETERS if family == "residency"]
)
def test_nothing_and_very_much_are_refused_or_run(name: str, parameter: str) -> None:
    case = draw_case(3, needs=("dram",))
    for value in ("0", "1000000"):
        policy = None
        with suppress(InputError):
            policy = load_policy("residency", f"{name},{parameter}={value}")
        if policy is not None:
            assert play(case, policy).turns


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("continuum,default_gap_s=0", "default_gap_s must be above 0, got 0"),
        ("continuum,min_samples=-1", "min_samples must be at least 0, got -1"),
        ("saga,cap_s=0", "cap_s must be above 0, got 0"),
        ("saga,smoothing=3", "smoothing must be from 0 to 1, got 3"),
        ("hicache,storage=ssd,page=0", "page must be at least 1, got 0"),
        ("mori,window=0", "window must be at least 1, got 0"),
        ("tokencake,reserve=5", "reserve must be from 0 to 1, got 5"),
        ("tokencake,reserve=0.5", "reserve must be at most most_reserve (0.3), got 0.5"),
        ("tokencake,low_use=0.9", "low_use must be at most high_use (0.75), got 0.9"),
    ],
)
def test_bounds_of_residency_policies(spec: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_policy("residency", spec)
    assert str(caught.value) == f"residency '{spec}': {message}"

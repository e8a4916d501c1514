"""A clock falls under dense work, as far as long kernels show."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentservesim.cost.clocks import sustained
from agentservesim.cost.curves import Curve


def test_what_a_step_takes_beyond_the_boost_goes_at_the_rate_of_long_kernels() -> None:
    """Weights of 4 ms, 10 us a token up to 4,096 tokens and 11 us in the long kernel: of 4,096 tokens at
    44.96 ms, 30/44.96 go as measured and 1,363 at 11 us each."""
    tokens = np.array([1.0, 1024.0, 4096.0, 16384.0])
    us = np.array([4_000.0, 14_240.0, 44_960.0, 180_224.0])
    slowed = sustained(Curve(tokens, us), tokens, 1)
    assert slowed.values[:2].tolist() == us[:2].tolist()
    assert slowed.values[2] == pytest.approx(30_000 + 4096 * (1 - 30_000 / 44_960) * 11)
    assert slowed.values[3] == pytest.approx(us[3])


@pytest.mark.parametrize("long_us", [163_840.0, 250_000.0])
def test_long_kernels_as_quick_as_short_ones_or_of_another_kind_slow_nothing(long_us: float) -> None:
    tokens, us = np.array([1.0, 4096.0, 16384.0]), np.array([4_000.0, 40_960.0, long_us])
    assert sustained(Curve(tokens, us), tokens, 1).values.tolist() == us.tolist()


@given(
    st.lists(st.floats(1.0, 1e5), min_size=5, max_size=5).map(sorted),
    st.integers(1, 4),
)
def test_a_lower_clock_is_never_quicker_nor_falls_with_tokens(us: list[float], stages: int) -> None:
    tokens = np.array([1.0, 64.0, 1024.0, 8192.0, 16384.0])
    slowed = sustained(Curve(tokens, np.array(us)), tokens, stages).values
    assert (slowed >= np.array(us)).all()
    assert (np.diff(slowed) >= -1e-9 * slowed[1:]).all()


def test_kernels_that_are_not_long_show_no_clock() -> None:
    tokens, us = np.array([1.0, 1024.0, 4096.0]), np.array([4_000.0, 14_240.0, 60_000.0])
    assert sustained(Curve(tokens, us), tokens, 1).values.tolist() == us.tolist()


def test_each_stage_of_a_pipeline_keeps_its_clock_for_itself() -> None:
    tokens, us = np.array([1.0, 4096.0, 16384.0]), np.array([4_000.0, 44_960.0, 180_224.0])
    slowed = sustained(Curve(tokens, us), tokens, 2)
    assert slowed.values.tolist() == us.tolist(), "44.96 ms are less than twice 30"

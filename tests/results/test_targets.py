"""Objectives and limits: what can be asked, what is asked wrongly, and who met it."""

from __future__ import annotations

from typing import Any

import pytest

from agentservesim.model import InputError
from agentservesim.results import parse_limit, parse_objective


@pytest.mark.parametrize(
    ("text", "place", "bound"),
    [
        ("turn.ttft.p99<2s", "turn.ttft_s.p99", 2.0),
        ("turn.ttft_s.p99 <= 250 ms", "turn.ttft_s.p99", 0.25),
        ("program.latency.mean<10min", "program.latency_s.mean", 600.0),
        ("program.slowdown.max<3", "program.slowdown.max", 3.0),
        ("tokens.hit_rate>80%", "tokens.hit_rate", 0.8),
        ("counts.preemptions<1", "counts.preemptions", 1.0),
        ("throughput.programs_per_s>=30/min", "throughput.programs_per_s", 0.5),
        ("kv.hit_rate.slow-ram>0.1", "kv.hit_rate.slow-ram", 0.1),
        ("kv.link_utilisation.hbm-dram.down<.5", "kv.link_utilisation.hbm-dram.down", 0.5),
        ("simulated<1h", "simulated_s", 3600.0),
    ],
)
def test_objectives(text: str, place: str, bound: float) -> None:
    objective = parse_objective(text)
    assert (objective.metric, objective.bound) == (place, pytest.approx(bound))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("turn.tttf.p99<2s", "no metric 'turn.tttf'; did you mean 'turn.ttft'?"),
        ("turn.ttft<2s", "turn.ttft has a value per turn; say which, as in turn.ttft.p99"),
        ("turn.ttft.p98<2s", "no metric 'turn.ttft.p98'; did you mean 'turn.ttft'?"),
        ("tokens.hit_rate.p99>0.5", "tokens.hit_rate is one number; leave out .p99"),
        ("turn.ttft.p99<2", "the value needs a unit; expected one such as 2us or 2ms or 2s"),
        ("turn.ttft.p99<2kg", "the value cannot be '2kg'"),
        ("turn.ttft.p99<-2s", "the value cannot be '-2s'"),
        ("turn.ttft.p99=2s", "expected METRIC.STATISTIC<VALUE, for example turn.ttft.p99<2s"),
        ("", "expected METRIC.STATISTIC<VALUE"),
        ("1<turn.ttft.p99<2s", "expected METRIC.STATISTIC<VALUE"),
    ],
)
def test_objectives_that_cannot_be(text: str, said: str) -> None:
    with pytest.raises(InputError) as fault:
        parse_objective(text)
    assert said in str(fault.value)


@pytest.mark.parametrize(
    ("text", "met"),
    [("turn.ttft.p99<2s", False), ("turn.ttft.p99<=2s", True), ("turn.ttft.p99>2s", False)],
)
def test_a_bound_is_inside_or_not(text: str, met: bool) -> None:
    judged = parse_objective(text).judge({"turn": {"ttft_s": {"p99": 2.0}}})
    assert judged["met"] is met
    assert judged["value"] == judged["bound"] == 2.0


@pytest.mark.parametrize("summary", [{}, {"turn": {"tpot_s": {"p99": None}}}, {"turn": 3}])
def test_what_has_no_value_is_missed(summary: dict[str, Any]) -> None:
    judged = parse_objective("turn.tpot.p99<2s").judge(summary)
    assert (judged["value"], judged["met"]) == (None, False)


def test_limits() -> None:
    assert (parse_limit("ttft:2s").metric.name, parse_limit("ttft:2s").most) == ("turn.ttft_s", 2.0)
    assert parse_limit("tpot:50ms").most == pytest.approx(0.05)
    assert parse_limit("turn.slowdown:1.5").metric.name == "turn.slowdown"
    assert parse_limit("program.latency_s:1h").most == 3600


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tttf:2s", "no metric 'tttf' of turns or programs; did you mean 'ttft'?"),
        ("tokens.hit_rate:2", "no metric 'tokens.hit_rate' of turns or programs"),
        ("ttft<2s", "expected METRIC:VALUE, for example ttft:2s"),
        ("ttft:", "expected METRIC:VALUE"),
        ("ttft:2000", "the value needs a unit"),
    ],
)
def test_limits_that_cannot_be(text: str, said: str) -> None:
    with pytest.raises(InputError) as fault:
        parse_limit(text)
    assert said in str(fault.value)

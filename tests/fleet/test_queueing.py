"""Queueing theory: a simulator of queues must agree with the formulas that queues are known by.

How an engine becomes a single server. With `max_num_seqs` 1 at most one request runs. With replies of
one token a request is one step: its prompt is one chunk (the token budget is larger than any prompt),
and that step samples the only token. With synchronous scheduling a request that finds the engine idle
is scheduled at once, and otherwise the step ends, its request leaves and the next one is scheduled in
the same instant. The step takes a fixed time per prompt token, so the service time is proportional to the
prompt. Prefix caching is off and nothing else costs time. So with single-turn programs:

* exact, to the picosecond: every waiting time obeys Lindley's recursion for the given arrivals
  and prompts (`test_every_wait_is_lindleys`);
* exact in distribution: with arrivals of `arriving_at_rate` (burstiness 1) and prompts drawn from a
  distribution it is an M/G/1 queue, first come first served. The mean wait is then Pollaczek and Khinchine's
  lambda E[S^2] / (2 (1 - rho)), with the moments of the prompts as drawn: whole tokens, so an
  exponential rounded up is a geometric distribution. Arrival times are rounded to microseconds, 1e-6
  of a mean service time.

And with programs that alternate between one server with exponential service and exponential tool calls, a
closed network (the machine repair model), for which mean value analysis is exact.

What is left is chance, and the length of the run: a mean over correlated waits comes with a confidence
interval from batch means, the first part of a run is left out, and the seeds are fixed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
import pytest
from numpy.random import Generator

from agentservesim.engine.config import EngineConfig
from agentservesim.fleet import InstanceSpec
from agentservesim.fleet.config import Distribution, ToolsConfig
from agentservesim.model import Program, ToolCall, Workload, to_s
from agentservesim.random import stream
from agentservesim.workload.transforms import arriving_at_rate
from tests.fleet.parts import PerToken, S, Served, after, program, serve, turn

TOKEN_PS = S // 2000
"""Service time of a prompt token: a mean prompt of 2,000 tokens takes a second."""

BATCHES = 20
STUDENT_19 = 3.88
"""Quantile 0.9995 of Student's distribution with 19 degrees of freedom: a two-sided 99.9 % interval."""

SERVER = InstanceSpec(
    name="server",
    engine=EngineConfig(
        async_scheduling=False,
        max_num_seqs=1,
        max_num_batched_tokens=10**7,
        enable_prefix_caching=False,
    ),
    step_time=PerToken(prompt_ps=TOKEN_PS),
    num_gpu_blocks=10**6,
)


@dataclass(frozen=True)
class Service:
    """A distribution of prompt tokens with its first two moments."""

    draw: Callable[[Generator, int], list[int]]
    mean: float
    square: float


def deterministic() -> Service:
    return Service(lambda rng, n: [2000] * n, 2000, 2000**2)


def exponential() -> Service:
    """An exponential rounded up to whole tokens is geometric: mean 1/p, second moment (2 - p) / p^2."""
    p = 1 - math.exp(-1 / 2000)
    draw = lambda rng, n: np.ceil(rng.exponential(2000, n)).astype(int).tolist()  # noqa: E731
    return Service(draw, 1 / p, (2 - p) / p**2)


def mixture() -> Service:
    """Nine short prompts for a long one: a squared coefficient of variation of 4.41."""
    draw = lambda rng, n: np.where(rng.random(n) < 0.9, 600, 14_600).tolist()  # noqa: E731
    return Service(draw, 0.9 * 600 + 0.1 * 14_600, 0.9 * 600**2 + 0.1 * 14_600**2)


def single_turns(prompts: list[int]) -> Workload:
    programs = (
        program(turn(0, 1, name=f"{i}", prompt=tokens), name=str(i)) for i, tokens in enumerate(prompts)
    )
    return Workload(tuple(programs))


def waits_ps(done: Served) -> list[int]:
    """Waiting times in order of arrival, which is the order of service."""
    return [record.queue_ps for record in sorted(done.log.turns, key=lambda record: record.ready_ps)]


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half width of its 99.9 % confidence interval, from means of consecutive batches."""
    size = len(values) // BATCHES
    means = [fmean(values[i * size : (i + 1) * size]) for i in range(BATCHES)]
    return fmean(means), STUDENT_19 * stdev(means) / math.sqrt(BATCHES)


@pytest.mark.parametrize("burstiness", [0.3, 1.0, 4.0])
def test_every_wait_is_lindleys(burstiness: float) -> None:
    """W' = max(0, W + S - A), in whole picoseconds, for any arrivals and any service."""
    prompts = mixture().draw(stream(1, "prompts"), 3000)
    workload = arriving_at_rate(single_turns(prompts), 0.85, burstiness, seed=1)
    done = serve(workload.programs, [SERVER])
    expected, wait = [0], 0
    arrivals = [p.arrival_ps for p in workload.programs]
    for tokens, before, now in zip(prompts, arrivals, arrivals[1:], strict=False):
        wait = max(0, wait + tokens * TOKEN_PS - (now - before))
        expected.append(wait)
    assert waits_ps(done) == expected
    assert max(expected) > 10 * S


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("service", [deterministic, exponential, mixture])
def test_the_mean_wait_is_pollaczek_khinchines(service: Callable[[], Service], load: float) -> None:
    law, programs, seed = service(), 20_000, round(100 * load)
    prompts = law.draw(stream(seed, "prompts"), programs)
    mean_s, square_s2 = law.mean * TOKEN_PS / S, law.square * (TOKEN_PS / S) ** 2
    rate = load / mean_s
    workload = arriving_at_rate(single_turns(prompts), rate, 1.0, seed)
    waits = [to_s(wait) for wait in waits_ps(serve(workload.programs, [SERVER]))]
    mean, half = interval(waits[programs // 5 :])
    theory = rate * square_s2 / (2 * (1 - load))
    assert abs(mean - theory) <= half
    assert half < 0.4 * theory, "the run is too short to tell anything"


@pytest.mark.parametrize("customers", [1, 4, 12])
def test_a_closed_network_has_the_response_time_of_mean_value_analysis(customers: int) -> None:
    """Tools take Z = 5 s on average, the server 1 s: R(n) = 1 + Q(n-1), X = n / (Z + R), Q = X R."""
    rounds = 16_000 // customers
    law, rng = exponential(), stream(5, "prompts")
    programs = [looping(f"p{i}", law.draw(rng, rounds)) for i in range(customers)]
    tools = ToolsConfig(default=Distribution(kind="exponential", median_s=5 * math.log(2), max_s=1e6))
    done = serve(programs, [SERVER], tools=tools, seed=5, max_concurrency=customers)
    records = sorted(done.log.turns, key=lambda record: record.finish_ps)
    steady = records[len(records) // 10 : -len(records) // 20]
    service, queue, response = law.mean * TOKEN_PS / S, 0.0, 0.0
    for n in range(1, customers + 1):
        response = service * (1 + queue)
        queue = n * response / (5 + response)
    mean, half = interval([to_s(record.finish_ps - record.ready_ps) for record in steady])
    assert abs(mean - response) <= half
    assert half < 0.1 * response
    # throughput, from the same run: X = n / (Z + R)
    span_s = to_s(steady[-1].finish_ps - steady[0].finish_ps)
    assert (len(steady) - 1) / span_s == pytest.approx(customers / (5 + response), rel=0.06)


def looping(name: str, prompts: list[int]) -> Program:
    """A program that calls a tool of unknown duration between its turns."""
    turns = (
        turn(
            i,
            1,
            *([after(i - 1)] if i else []),
            name=f"{name}:{i}",
            prompt=tokens,
            tools=[ToolCall("think")],
        )
        for i, tokens in enumerate(prompts)
    )
    return program(*turns, name=name)


def test_turns_in_flight_obey_littles_law() -> None:
    """The time average of the number in the system is arrivals per second times the mean stay, exactly."""
    prompts = exponential().draw(stream(2, "prompts"), 4000)
    done = serve(arriving_at_rate(single_turns(prompts), 0.7, 1.0, seed=2).programs, [SERVER])
    events = sorted(event for r in done.log.turns for event in ((r.ready_ps, 1), (r.finish_ps, -1)))
    area = number = last = 0
    for at, change in events:
        area += number * (at - last)
        number, last = number + change, at
    assert number == 0
    assert area == sum(r.finish_ps - r.ready_ps for r in done.log.turns)

"""Running scenarios on instances, and what is written down of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from agentservesim.engine.instance import Instance
from agentservesim.engine.order import order_of
from agentservesim.engine.request import Request
from agentservesim.kernel import Kernel
from agentservesim.kv.pool import Holding
from agentservesim.model import StepRecord, TurnRecord
from agentservesim.policies import load_policy
from tests.engine.scenarios import InstanceScenario

TIMES = ("arrival_ps", "scheduled_ps", "first_token_ps", "finish_ps", "queue_ps", "prefill_ps")
COUNTS = ("cached_tokens", "recomputed_tokens", "preemptions")


@dataclass
class Tape:
    """A listener that keeps everything."""

    wants_steps: bool = True
    turns: list[TurnRecord] = field(default_factory=list)
    steps: dict[int, list[StepRecord]] = field(default_factory=dict)

    def turn_done(self, record: TurnRecord) -> None:
        self.turns.append(record)

    def step_done(self, record: StepRecord) -> None:
        self.steps.setdefault(record.instance, []).append(record)


class InstanceRun:
    """A scenario on its instances. `finished` are the turns in the order in which they ended."""

    def __init__(self, scenario: InstanceScenario, *, leap: bool) -> None:
        self.scenario = scenario
        self.kernel = kernel = Kernel()
        self.tape = Tape()
        self.requests: dict[int, Request] = {}
        self.finished: list[Request] = []
        self.instances = [
            Instance(
                index,
                kernel,
                config,
                blocks,
                step_time,
                self._ended,
                order=order_of(load_policy("scheduler", scenario.policy)),
                leap=leap,
                listener=self.tape,
            )
            for index, (config, blocks, step_time) in enumerate(
                zip(scenario.configs, scenario.blocks, scenario.step_times, strict=True)
            )
        ]
        for place, arrival in enumerate(scenario.arrivals):
            if arrival.after is None:
                kernel.at(arrival.time, self._arrive, place)

    def run(self) -> InstanceRun:
        """To the end; AssertionError if somebody is left over."""
        self.kernel.run()
        assert len(self.finished) == len(self.scenario.arrivals), "a turn was never served"
        return self

    def _arrive(self, place: int) -> None:
        arrival = self.scenario.arrivals[place]
        request = self.requests[place] = Request(arrival.turn, self.kernel.now, place)
        self.instances[arrival.instance].submit(request)

    def _ended(self, request: Request) -> None:
        self.finished.append(request)
        for place, arrival in enumerate(self.scenario.arrivals):
            if arrival.after == request.owner:
                self.kernel.after(arrival.time, self._arrive, place)

    def turns(self) -> list[dict[str, object]]:
        """What happened to each turn, in the order in which they ended."""
        names = ("id", "instance", *TIMES, *COUNTS)
        return [{name: getattr(request, name) for name in names} for request in self.finished]

    def holdings(self, index: int) -> list[Holding]:
        """Blocks of all live requests of an instance, brought up to date."""
        instance = self.instances[index]
        instance.catch_up()
        holdings = [r.holding for r in self.requests.values() if r.instance == index and r.finish_ps < 0]
        for holding in holdings:
            if holding.catch_up is not None:
                holding.catch_up()
        return holdings

    def tally(self) -> Counter[str]:
        """What the run contained."""
        return Counter(
            steps=sum(i.steps for i in self.instances),
            leaps=sum(i.leaps for i in self.instances),
            preemptions=sum(i.scheduler.preemptions for i in self.instances),
            evictions=sum(i.scheduler.pool.evicted_blocks for i in self.instances),
            cached=sum(r.cached_tokens for r in self.finished),
            turns=len(self.finished),
        )

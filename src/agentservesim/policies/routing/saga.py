"""SAGA's placement: home while it is worth it, and stealing by idle instances."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agentservesim.policies.bounds import above, at_least
from agentservesim.policies.protocols import Choice, FleetView, InstanceView, Move, TurnView
from agentservesim.random import stream


@dataclass
class SagaRouter:
    """SAGA: home while its KV is there and load is below `most_load`, else least loaded; idle ones steal.

    Source: arXiv 2605.00528, of which only the abstract was read, and the rules of the released
    AgentServeSim. Load is the used share of the KV blocks; the KV is there if HBM has `cached` of the prompt.
    Every `tick_s` an instance whose queue was empty at the last tick too takes the turn that has waited
    longest from an instance, drawn at random, that carries more than `steal` times its unfinished turns and
    runs others, or let it wait: no turn is stolen in the moment in which its idle home starts it. One a tick.
    """

    most_load: float = 0.8
    cached: float = 0.5
    steal: float = 2.0
    tick_s: float = 0.1

    def __post_init__(self) -> None:
        at_least(self, 0, "most_load", "cached", "steal")
        above(self, 0, "tick_s")

    def begin(self, instances: int, seed: int) -> None:
        """Draws come from the stream "router" of the run's seed."""
        self._stream = stream(seed, "router")
        self._was_empty = [False] * instances

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> Choice:
        """Home, or the lowest load, of equals the one with the fewest unfinished turns."""
        if len(instances) < 2:
            return Choice(0)
        loads = [1 - instance.free_blocks / instance.num_blocks for instance in instances]
        if turn.home is not None and loads[turn.home] < self.most_load:
            hit = instances[turn.home].hit_tokens(turn.path)
            if hit >= self.cached * turn.prompt_tokens:
                return Choice(turn.home, loads)
        return Choice(min(range(len(loads)), key=lambda i: (loads[i], instances[i].load)), loads)

    @property
    def rebalances(self) -> bool:
        """A lone instance has nobody to steal from."""
        return len(self._was_empty) > 1

    def rebalance(self, fleet: FleetView) -> Iterator[Move]:
        """One turn for the first instance that has nothing to admit."""
        empty = [instance.waiting == 0 for instance in fleet.instances]
        before, self._was_empty = self._was_empty, empty
        if all(empty) or not any(empty):
            return
        idle = [index for index, now in enumerate(empty) if now and before[index]]
        for thief in idle:
            most = self.steal * fleet.instances[thief].load
            full = [i for i in fleet.instances if i.load > most and i.queue]
            oldest_of = [(i, min(i.queue, key=lambda queued: queued.sent_s)) for i in full]
            rich = [oldest for i, oldest in oldest_of if i.running or oldest.sent_s < fleet.now_s]
            if rich:
                oldest = rich[int(self._stream.integers(len(rich)))]
                yield Move(oldest.program_id, oldest.session_id, thief, transfer=False)
                return

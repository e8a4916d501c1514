"""Where to stop loading: trying every block finds nothing better."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from agentservesim.kv.breakeven import BreakEven
from agentservesim.kv.copies import Plan
from agentservesim.kv.tiers import Tier

SIZE = 16


@dataclass
class Machine:
    """A step costs `fixed`, a token `each`, a token that it attends to `seen`; tiers load a block in `load`,
    behind their `wait`. All in any unit of time."""

    fixed: int
    each: int
    seen: int
    load: tuple[int, ...]
    wait: tuple[int, ...]
    step_tokens: int = 256

    def chunk_ps(self, tokens: int, history: int) -> int:
        return (
            self.fixed + tokens * (self.each + self.seen * history) + self.seen * tokens * (tokens + 1) // 2
        )

    def load_ps(self, plan: Plan) -> int:
        numbers = [cast(int, tier) for tier, _, _ in plan]
        return max(
            self.wait[n] + self.load[n] * (stop - start)
            for n, (_, start, stop) in zip(numbers, plan, strict=True)
        )

    def total_ps(self, plan: Plan, end: int, known: int, layers: int) -> float:
        """As the engine does it: blocking loads come before the first step, others under it."""
        part = [(tier, start, min(stop, end)) for tier, start, stop in plan if start < end]
        load, at, total = (self.load_ps(part) if part else 0), end * SIZE, 0.0
        while at < known:
            tokens = min(self.step_tokens, known - at)
            step = self.chunk_ps(tokens, at)
            first = at == end * SIZE
            if layers and first:
                step_s: float = max(step, load) + load / layers
            else:
                step_s = step + (load if first else 0)
            total, at = total + step_s, at + tokens
        return total


def plan_of(*stops: int) -> Plan:
    """Tier 0 up to the second block given, tier 1 up to the third."""
    return [(cast(Tier, n), a, b) for n, (a, b) in enumerate(pairwise(stops))]


def chosen(machine: Machine, plan: Plan, known: int, layers: int = 0) -> int:
    return BreakEven(machine, machine.load_ps, SIZE, layers).end(plan, known)


def test_what_is_recomputed_attends_to_what_lies_before_it() -> None:
    """160 tokens take 1700 a token behind 1600 others and 180 from nothing: at 1000 a token they are worth
    loading behind a prefix, and only there."""
    machine = Machine(0, 100, 1, (16 * 1000,), (0,), step_tokens=10_000)
    assert machine.chunk_ps(160, 0) < 160 * 1000 < machine.chunk_ps(160, 1600)
    assert chosen(machine, plan_of(100, 110), 1761) == 110
    assert chosen(machine, plan_of(0, 10), 161) == 0


def test_a_second_tier_loads_in_the_shadow_of_the_first() -> None:
    """The first tier's 10 blocks take 1000; 3 of the second take 100 + 3 * 300 meanwhile, and one more takes
    longer than to compute it."""
    machine = Machine(0, 10, 0, (100, 300), (0, 100))
    assert chosen(machine, plan_of(0, 10, 20), 321) == 13


def test_a_load_that_its_step_hides_ends_where_both_take_as_long() -> None:
    """Of 16 blocks, 1600 a block to compute and 800 to load: 11 load while 5 compute."""
    machine = Machine(0, 100, 0, (800,), (0,), step_tokens=1000)
    assert chosen(machine, plan_of(0, 16), 257, layers=10**9) == 11
    assert chosen(machine, plan_of(0, 16), 257) == 16


def test_a_step_fewer_may_be_worth_a_part_of_a_load() -> None:
    """To compute is quicker, but a step costs 5000: 16 tokens more than a step's are loaded."""
    machine = Machine(5000, 1, 0, (100,), (0,))
    assert chosen(machine, plan_of(0, 8), 272) == 1
    assert chosen(machine, plan_of(0, 8), 256) == 0


@given(
    machine=st.builds(
        Machine,
        fixed=st.sampled_from([0, 100, 30_000]),
        each=st.integers(1, 200),
        seen=st.sampled_from([0, 0, 1]),
        load=st.tuples(st.integers(0, 9000), st.integers(0, 9000)),
        wait=st.tuples(st.sampled_from([0, 500, 40_000]), st.sampled_from([0, 500, 40_000])),
        step_tokens=st.sampled_from([64, 256, 4096]),
    ),
    first=st.integers(0, 20),
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=2),
    more=st.integers(1, 300),
    layers=st.sampled_from([0, 0, 1, 4, 80]),
)
def test_no_block_is_better_than_the_one_found_by_more_than_a_block(
    machine: Machine, first: int, lengths: list[int], more: int, layers: int
) -> None:
    stops = [first]
    for length in lengths:
        stops.append(stops[-1] + length)
    plan, known = plan_of(*stops), stops[-1] * SIZE + more
    end = chosen(machine, plan, known, layers)
    times = {at: machine.total_ps(plan, at, known, layers) for at in range(first, stops[-1] + 1)}
    a_block = machine.chunk_ps(SIZE, known) - machine.fixed
    assert times[end] <= min(times.values()) + a_block
    assert sum(time < times[end] * (1 - 1e-12) for time in times.values()) <= 1

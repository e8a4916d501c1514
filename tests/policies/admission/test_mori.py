"""MORI's line before HBM, on cases worked out by hand: a pool of 1000 tokens."""

from __future__ import annotations

from agentservesim.policies.admission.mori import UNTIL_REVIEWED as HELD
from agentservesim.policies.admission.mori import MoriGate
from agentservesim.policies.protocols import ADMIT, CACHE, Placement, TurnEnded
from tests.policies.admission.test_by_hand import Known, Whole
from tests.policies.parts import View
from tests.policies.residency.views import Server, gap


def test_who_left_hbm_comes_back_before_who_is_new_and_the_small_before_the_large() -> None:
    gate, fleet = MoriGate(), Whole([View(0, load=1)])
    assert fleet.ask(gate, "a", prompt=600) == ADMIT  # of 1000
    assert fleet.ask(gate, "b", prompt=500) == HELD  # 400 are left
    assert fleet.ask(gate, "c", prompt=300) == HELD  # they would do, but b waits
    fleet.now_s = 5.0
    # c is the smaller one: 400 - 300 leave 100, too few for b
    assert gate.review(fleet) == [("c", "main")]
    assert [fleet.ask(gate, name, prompt=size) for name, size in (("b", 500), ("c", 300))] == [
        HELD,
        ADMIT,
    ]
    # a's turn ends with 650 tokens; 600 run beside them, of which c has 300: a is 250 too many, and leaves.
    gate.observe(TurnEnded(Known("a"), "main", 600, 50, 0))  # type: ignore[arg-type]
    chain = gap("main", program="a", tokens=650, started_s=6.0)
    assert gate.place(chain, Server(now_s=6.0)) == CACHE
    assert list(gate.tick([chain], Server(now_s=10.0, running_tokens=600))) == [(chain, Placement("dram"))]
    # Back with 660, it is behind b in time, and larger, but not new: 1000 - 300 - 660 leave 40.
    assert fleet.ask(gate, "a", turn=1, prompt=660) == HELD
    assert gate.review(fleet) == [("a", "main")]
    assert fleet.ask(gate, "a", turn=1, prompt=660) == ADMIT
    assert fleet.ask(gate, "b", prompt=500) == HELD
    # When c and a are done and gone, b has room.
    for name, prompt in (("c", 300), ("a", 660)):
        gate.observe(TurnEnded(Known(name), "main", prompt, 1, 0))  # type: ignore[arg-type]
        fleet.end(gate, name)
    gate.review(fleet)
    assert fleet.ask(gate, "b", prompt=500) == ADMIT


def test_where_nothing_runs_the_first_in_line_goes_however_large() -> None:
    gate, fleet = MoriGate(gpu_cap=0.5), Whole([View(0, load=0)])
    assert [fleet.ask(gate, name, prompt=size) for name, size in (("a", 900), ("b", 800))] == [HELD] * 2
    gate.review(fleet)  # b is the smaller one, and takes more than the 500 there are
    assert [fleet.ask(gate, name, prompt=size) for name, size in (("a", 900), ("b", 800))] == [
        HELD,
        ADMIT,
    ]

"""Orders by what a program had so far: program-fcfs, plas, atlas, continuum, infercept, astraea, saga."""

from __future__ import annotations

from math import inf

import pytest

from agentservesim.policies import load_policy
from agentservesim.policies.protocols import ProgramEnded, TurnArrived, TurnFinished
from agentservesim.policies.scheduling import (
    Astraea,
    Atlas,
    Continuum,
    InferCeptQueue,
    Plas,
    ProgramFcfs,
    SagaShare,
)
from tests.policies.scheduling.views import AProgram, ARequest, served


def test_program_fcfs_serves_the_later_turn_of_the_older_program_first() -> None:
    new = ARequest("new", AProgram("young", arrival_s=5.0), arrival_s=6.0)
    later = ARequest("later", AProgram("old", arrival_s=1.0), turn_index=3, arrival_s=9.0)
    assert served(ProgramFcfs(), [new, later]) == ["later", "new"]


def test_plas_serves_the_program_with_the_least_service() -> None:
    # Two turns of 3 s and 4 s make 7 s; one turn of 6.9 s makes less.
    much = ARequest("much", AProgram(service_s=3.0 + 4.0))
    less = ARequest("less", AProgram(service_s=6.9))
    none = ARequest("none", AProgram(service_s=0.0))
    assert served(Plas(), [much, less, none]) == ["none", "less", "much"]


def test_plas_as_released_counts_whole_milliseconds() -> None:
    first, second = ARequest("a", AProgram(service_s=1.0004)), ARequest("b", AProgram(service_s=0.9996))
    assert served(Plas(), [first, second]) == ["b", "a"]
    assert served(Plas(rounded=True), [first, second]) == ["a", "b"], "both are 1000 ms"
    assert Plas(rounded=True).key(ARequest(program=AProgram(service_s=1.0006)), 0.0) == 1001


def test_atlas_serves_the_shortest_critical_path_whatever_the_sum() -> None:
    # A program that ran 2 s, 3 s and 4 s side by side has a path of 4 s and a service of 9 s; another
    # with 2 s and then 3 s a path of 5 s.
    wide = ARequest("wide", AProgram(service_s=9.0), critical_path_s=max(2.0, 3.0, 4.0))
    deep = ARequest("deep", AProgram(service_s=5.0), critical_path_s=2.0 + 3.0)
    assert served(Atlas(), [deep, wide]) == ["wide", "deep"]
    assert served(Plas(), [deep, wide]) == ["deep", "wide"]


def test_continuum_serves_preempted_then_pinned_then_the_oldest_program() -> None:
    old = ARequest("old", AProgram("old", arrival_s=1.0))
    older = ARequest("older", AProgram("older", arrival_s=0.5))
    pinned = ARequest("pinned", AProgram("pinned", arrival_s=8.0), pinned=True)
    preempted = ARequest("preempted", AProgram("preempted", arrival_s=9.0), preemptions=1)
    order = ["preempted", "pinned", "older", "old"]
    assert served(Continuum(), [old, older, pinned, preempted]) == order


def test_continuum_preempts_the_program_that_arrived_last() -> None:
    running = [ARequest(n, AProgram(n, arrival_s=s)) for n, s in [("a", 2.0), ("b", 7.0), ("c", 7.0)]]
    assert [r.id for r in Continuum().victims(running, 0.0)] == ["c", "b", "a"]


def test_continuum_as_released_keeps_the_key_of_arrival() -> None:
    policy = Continuum(stamped=True)
    pinned = ARequest("pinned", AProgram("p", arrival_s=2.3456), pinned=True)
    plain = ARequest("plain", AProgram("q", arrival_s=1.0))
    assert policy.key(pinned, 0.0) == (2345,)
    assert policy.key(plain, 0.0) == (2**40 + 1000,)
    pinned.pinned, plain.preemptions = False, 1
    assert policy.key(pinned, 0.0) == (2345,), "the pin is broken, the stamp is not"
    assert policy.key(plain, 0.0) == (2**40 + 1000,)
    policy.observe(TurnFinished(pinned))
    assert policy.key(pinned, 0.0) == (2**40 + 2345,)


def test_infercept_keeps_a_programs_place_and_rations_what_is_computed_again() -> None:
    policy = InferCeptQueue(recompute_tokens=128)
    first, again = ARequest("first", turn_index=0), ARequest("again", turn_index=2)
    budget = policy.budget
    assert budget is not None
    assert budget(first, 0.0) == inf
    assert budget(again, 0.0) == budget(ARequest(preemptions=1), 0.0) == 128
    assert InferCeptQueue().budget is None
    back = ARequest("back", AProgram("old", arrival_s=1.0), turn_index=4, arrival_s=50.0)
    assert served(policy, [ARequest("new", AProgram("new", arrival_s=40.0)), back]) == ["back", "new"]


def test_astraea_serves_programs_bound_by_their_tools_first_then_the_highest_ratio() -> None:
    # Work is the mean service of a turn. Ratios: (3 + 2) / 2 = 2.5; (3 + 6) / 6 = 1.5; (1 + 4) / 4 = 1.25.
    short = AProgram("short", turns_done=2, service_s=4.0, reasoning_s=5.0, acting_s=1.0)
    long = AProgram("long", turns_done=1, service_s=6.0, reasoning_s=6.0, acting_s=0.0)
    tools = AProgram("tools", turns_done=1, service_s=4.0, reasoning_s=4.0, acting_s=4.5)
    requests = [
        ARequest("long", long, waited_s=3.0),
        ARequest("short", short, waited_s=3.0),
        ARequest("tools", tools, waited_s=1.0),
    ]
    assert served(Astraea(), requests) == ["tools", "short", "long"]
    assert Astraea().key(requests[0], 0.0) == (True, -1.5)
    assert Astraea(unseen_s=0.5).key(ARequest(waited_s=1.0), 0.0) == (True, -3.0), "(1 + 0.5) / 0.5"


def test_saga_serves_by_service_over_the_tenants_share() -> None:
    policy = SagaShare(deadline_s=100.0)
    # Nobody has ended: a program is thought to have 1 s of service, and a turn is 1 s before the first.
    busy = [AProgram(f"b{i}", "busy", arrival_s=0.0) for i in range(3)]
    lone = AProgram("lone", "lone", arrival_s=0.0)
    for program in (*busy, lone):
        policy.observe(TurnArrived(ARequest(program.program_id, program)))
    for program in (busy[0], lone):
        program.service_s, program.turns_done = 2.0, 2
        policy.observe(TurnFinished(ARequest(program=program)))
    # At 50 s the deadline is 50 s away. What is left: 1 s for each, being a turn of those who are ahead of
    # the mean. Shares: busy 3 * 1 / 50 = 0.06, lone 1 / 50 = 0.02.
    assert policy.key(ARequest(program=busy[0]), 50.0) == pytest.approx(1000 * 2.0 / 0.06)
    assert policy.key(ARequest(program=lone), 50.0) == pytest.approx(1000 * 2.0 / 0.02)
    assert policy.key(ARequest(program=busy[1]), 50.0) == 0.0
    # Past its deadline, a program counts as if it had slack_s = 1 s left: 1 / 1.
    lone.hints = {"deadline_s": 20.0}
    policy.observe(TurnArrived(ARequest(program=lone)))
    assert policy.key(ARequest(program=lone), 51.0) == pytest.approx(1000 * 2.0 / 1.0)


def test_saga_learns_how_much_service_programs_have() -> None:
    policy = SagaShare(deadline_s=100.0)
    done, young = (
        AProgram("done", service_s=9.0, turns_done=3),
        AProgram("young", service_s=1.0, turns_done=1),
    )
    policy.observe(TurnFinished(ARequest(program=done)))
    policy.observe(ProgramEnded("done", 3))
    policy.observe(TurnArrived(ARequest(program=young)))
    policy.observe(TurnArrived(ARequest(program=AProgram("other", "somebody else"))))
    # One program ended, with 9 s; the young one is thought to have 9 - 1 = 8 s left, over 100 s.
    assert policy.key(ARequest(program=young), 0.0) == pytest.approx(1000 * 1.0 / (8 / 100))


def test_sagas_keys_stay_while_one_tenant_is_alone() -> None:
    policy = SagaShare()
    wide = AProgram("wide", service_s=2.0)
    policy.observe(TurnArrived(ARequest(program=wide)))
    assert policy.key(ARequest(program=wide), 0.0) == policy.key(ARequest(program=wide), 50.0) == 2000.0
    before, wide.running_turns = policy.version, 0
    policy.observe(TurnFinished(ARequest(program=wide)))
    assert policy.version == before
    wide.running_turns = 1  # another of its turns waits, whose key is another now
    policy.observe(TurnFinished(ARequest(program=wide)))
    assert policy.version not in (before, None)
    policy.observe(TurnArrived(ARequest(program=AProgram("other", "somebody else"))))
    assert policy.version is None
    policy.observe(ProgramEnded("other", 1))
    assert policy.version is not None


def test_parameters_are_checked() -> None:
    for spec in ("saga,slack_s=0", "mars,ageing_s=0", "autellix-mlfq,starvation=0", "fair-share,weights=a"):
        with pytest.raises(ValueError, match=spec.partition(",")[0]):
            load_policy("scheduler", spec)

"""autellix-mlfq, mars and fair-share, in cases worked out by hand."""

from __future__ import annotations

from math import inf

import pytest

from agentservesim.policies import load_policy
from agentservesim.policies.protocols import ProgramEnded, TurnFinished
from agentservesim.policies.scheduling import AutellixMlfq, FairShare, Mars
from tests.fleet.parts import SYNC, S, after, chain, instance, program, serve, turn
from tests.policies.scheduling.views import AProgram, ARequest, served


def test_a_call_enters_the_queue_of_its_programs_tokens() -> None:
    policy = AutellixMlfq()
    program = AProgram("p")
    assert policy.key(ARequest("t0", program), 0.0) == 0
    # 3000 tokens of prompt, 1000 of them cached, and 48 of reply: 2048, which is not below 2048.
    done = ARequest("t0", program, prompt_tokens=3000, cached_tokens=1000, generated_tokens=48)
    policy.observe(TurnFinished(done))
    assert policy.key(ARequest("t1", program), 0.0) == 1
    # 2048 + 6143 = 8191: still the second queue; 8192 is the third.
    policy.observe(TurnFinished(ARequest("t1", program, prompt_tokens=6143)))
    assert policy.key(ARequest("t2", program), 0.0) == 1
    policy.observe(TurnFinished(ARequest("t2", program, prompt_tokens=1)))
    assert policy.key(ARequest("t3", program), 0.0) == 2
    policy.observe(ProgramEnded("p", 4))
    assert policy.key(ARequest("t4", program), 0.0) == 0


@pytest.mark.parametrize("leap", [True, False])
@pytest.mark.parametrize("caching", [True, False])
def test_a_prompt_is_service_though_it_is_cached_afterwards(caching: bool, leap: bool) -> None:
    """One seat. a:0 computes 3000 tokens from 0 to 2 s and replies 2: a has 3002, the second queue. x holds
    the seat from 3 to 13 s; of a:1, there at 4 s, and b, there at 5 s, b is in the first queue."""
    a = program(turn(0, 2, name="a:0", prompt=3000), turn(1, 2, after(0, 1), name="a:1"), name="a")
    done = serve(
        [a, chain("x", [10], arrival_s=1), chain("b", [2], arrival_s=5)],
        [instance(engine=SYNC.model_copy(update={"max_num_seqs": 1, "enable_prefix_caching": caching}))],
        scheduler=load_policy("scheduler", "autellix-mlfq,starvation=1000"),
        leap=leap,
    )
    assert [done[name].scheduled_ps // S for name in ("a:0", "x:0", "b:0", "a:1")] == [0, 3, 13, 15]


def test_a_call_that_uses_up_its_quantum_sinks() -> None:
    policy = AutellixMlfq()
    request = ARequest("t", prompt_tokens=9000)
    assert policy.key(request, 0.0) == 0
    quanta = []
    for computed in (0, 2048, 3072, 3500, 4012, 4268):
        request.computed_tokens = computed
        quanta.append(policy.budget(request, 0.0))
    # 2048 of 2048: down. 1024 of 1024: down. 428 of 512 (blocks were short): stays. 512: down. 256: the last.
    assert quanta == [2048, 1024, 512, 512, 256, 256]
    assert policy.key(request, 0.0) == 3
    request.computed_tokens = 0
    assert policy.budget(request, 0.0) == 256, "preempted: it begins anew where it was"


def test_who_starves_rises_once() -> None:
    policy = AutellixMlfq()
    program = AProgram("p", service_s=4.0, wait_s=3.0)
    policy.observe(TurnFinished(ARequest("t0", program, prompt_tokens=5000)))
    request = ARequest("t1", program, waited_s=0.0)
    assert policy.key(request, 0.0) == 1
    request.waited_s = 4.9
    assert policy.key(request, 4.9) == 1, "(3 + 4.9) / 4 is less than 2"
    request.waited_s = 5.0
    assert policy.key(request, 5.0) == 0, "(3 + 5) / 4 = 2"
    # Both are counted anew: after 1 s of service the next call has waited 0 s, and 1.9 s are too few.
    policy.observe(TurnFinished(ARequest("t1", program, prompt_tokens=10)))
    program.service_s, program.wait_s = 5.0, 8.0
    later = ARequest("t2", program)
    assert policy.key(later, 9.0) == 1
    later.waited_s = 1.9
    assert policy.key(later, 9.0) == 1
    later.waited_s = 2.0
    assert policy.key(later, 9.0) == 0


def test_quanta_without_end_never_sink_anybody() -> None:
    policy = load_policy("scheduler", "autellix-mlfq,quanta=inf/inf/inf/inf")
    program = AProgram("p")
    policy.observe(TurnFinished(ARequest("t0", program, prompt_tokens=10**6)))
    request = ARequest("t1", program)
    assert policy.key(request, 0.0) == 0
    request.computed_tokens = 10**6
    assert policy.budget(request, 0.0) == inf
    assert policy.key(request, 0.0) == 0


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("autellix-mlfq,quanta=1/2", "3 boundaries need 4 quanta"),
        ("autellix-mlfq,quanta=1/2/x/3", "quanta must be numbers with slashes between, not '1/2/x/3'"),
        ("mars,boundaries=8/4/16", "boundaries must ascend"),
        ("mars,quanta=0/1/1/1", "quanta must be above 0"),
        ("fair-share,weights=gold:0", "weights must be tenant:number"),
    ],
)
def test_faults_are_named(spec: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load_policy("scheduler", spec)


def test_mars_orders_by_the_prompt_and_ages() -> None:
    lengths = {"a": 2048, "b": 2049, "c": 8192, "d": 8193, "e": 40_000}
    requests = [ARequest(name, prompt_tokens=length) for name, length in lengths.items()]
    assert [Mars().key(r, 0.0) for r in requests] == [0, 1, 1, 2, 3]
    old = ARequest("old", prompt_tokens=40_000, waited_s=59.9)
    assert Mars().key(old, 0.0) == 2, "3 less 1 for 30 s"
    old.waited_s = 600.0
    assert Mars().key(old, 0.0) == 0
    assert served(Mars(), [*requests, ARequest("back", prompt_tokens=40_000, preemptions=1)]) == [
        "a",
        "back",
        "b",
        "c",
        "d",
        "e",
    ]


def test_mars_gives_a_prefill_the_quantum_of_what_is_left_or_of_how_it_sank() -> None:
    policy = Mars()
    request = ARequest("r", prompt_tokens=9000, running=True)
    quanta = []
    for computed in (0, 512, 808, 6000, 6952):
        request.computed_tokens = computed
        quanta.append((policy.key(request, 0.0), policy.budget(request, 0.0)))
    # 9000 left: level 2, quantum 512. All of it used: sunk to 1; 8488 left are level 2. 296 of 512 used: not
    # sunk; 8192 left are level 1, and so is what it sank to. 5192 of 1024 used: sunk to 2, 3000 left are 1.
    # 952 of 512 used: sunk to 3, 2048 left are 0.
    assert quanta == [(2, 512), (2, 512), (1, 1024), (1, 512), (2, 256)]
    request.computed_tokens = 9000
    assert policy.key(request, 0.0) == 0, "it decodes"


def test_fair_share_serves_tenants_in_proportion_to_their_weights() -> None:
    policy = FairShare(weights="gold:2")
    gold, iron = AProgram("g", "gold"), AProgram("i", "iron")
    # Six turns of 100 tokens each arrive at once. Starts: gold 0, 50, 100, 150; iron 0, 100, 200.
    turns = [ARequest(f"g{i}", gold, prompt_tokens=100) for i in range(4)]
    turns += [ARequest(f"i{i}", iron, prompt_tokens=100) for i in range(3)]
    assert served(policy, turns) == ["g0", "i0", "g1", "g2", "i1", "g3", "i2"]


def test_fair_share_counts_replies_when_they_are_done_and_saves_nothing_up() -> None:
    policy = FairShare()
    one, two = AProgram("one", "one"), AProgram("two", "two")
    first = ARequest("a0", one, prompt_tokens=100, cached_tokens=40)
    assert policy.key(first, 0.0) == 0.0
    first.generated_tokens = 20
    policy.observe(TurnFinished(first))
    # 60 tokens of prompt and 2 * 20 of reply.
    second = ARequest("a1", one, prompt_tokens=10)
    assert policy.key(second, 0.0) == 100.0
    assert policy.key(second, 5.0) == 100.0, "its key stays"
    policy.observe(TurnFinished(second))
    # `two` was idle: it begins where the latest turn that is done began, not at 0.
    assert policy.key(ARequest("b0", two), 0.0) == 100.0

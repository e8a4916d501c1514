"""What counts as waiting: before the first admission, and again behind a preemption."""

from __future__ import annotations

import pytest

from agentservesim.engine.config import EngineConfig
from agentservesim.model import PS_PER_S as S
from tests.fleet.parts import chain, instance, program, serve, turn


@pytest.mark.parametrize("leap", [True, False])
def test_waiting_again_is_told_apart(leap: bool) -> None:
    """Three blocks of 16 tokens, a second a step, two turns of 16 + 20 tokens at once.

    Second 0: both compute their prompts. Second 1: a takes the third block, b finds none and is put back. a
    ends in second 20 with three blocks; then b computes its 17 tokens again and ends 19 seconds later.
    """
    a = program(turn(0, 20, name="a"), name="a")
    b = program(turn(0, 20, name="b", session="b"), name="b")
    served = serve([a, b], [instance(num_gpu_blocks=4)], leap=leap)
    first, second = served["a"], served["b"]
    assert (first.finish_ps, first.queue_ps, first.requeue_ps) == (20 * S, 0, 0)
    assert (second.scheduled_ps, second.first_token_ps, second.finish_ps) == (0, S, 39 * S)
    assert (second.preemptions, second.recomputed_tokens) == (1, 16)
    assert (second.queue_ps, second.requeue_ps) == (19 * S, 19 * S)
    assert (second.prefill_ps, second.decode_ps) == (S, 19 * S)


def test_waiting_before_the_first_admission_is_no_requeue() -> None:
    """One seat: the second program waits for the three seconds of the first."""
    one = instance(engine=EngineConfig(async_scheduling=False, max_num_seqs=1))
    served = serve([chain("a", [3]), chain("b", [2])], [one])
    assert (served["b:0"].queue_ps, served["b:0"].requeue_ps) == (3 * S, 0)

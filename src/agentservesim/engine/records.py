"""What a listener is told of steps."""

from __future__ import annotations

from collections.abc import Iterator

from agentservesim.engine.clock import Leap
from agentservesim.engine.scheduler import Scheduler
from agentservesim.engine.step import Step
from agentservesim.model import StepRecord


def step_record(
    index: int, scheduler: Scheduler, part: Step, start_ps: int, end_ps: int, free_blocks: int | None = None
) -> StepRecord:
    """The record of what an instance has in a step; blocks and queues are as they stand now."""
    return StepRecord(
        instance=index,
        start_ps=start_ps,
        end_ps=end_ps,
        prefill_tokens=part.prefill_tokens,
        decode_rows=part.decode_rows,
        running=len(scheduler.running),
        waiting=len(scheduler.waiting),
        free_blocks=scheduler.pool.free if free_blocks is None else free_blocks,
    )


def leap_records(index: int, scheduler: Scheduler, plan: Leap, steps: int) -> Iterator[StepRecord]:
    """The records of the steps of a leap that is about to be taken."""
    rows, free = scheduler.rows, scheduler.pool.free
    part = Step(rows.count)
    for i in range(1, steps + 1):
        start = plan.start_of(i)
        yield step_record(
            index, scheduler, part, start, start + plan.duration_of(i), free - rows.blocks_for(i)
        )

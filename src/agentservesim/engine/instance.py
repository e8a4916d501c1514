"""One engine: its scheduler, and its steps on the clock."""

from __future__ import annotations

from collections.abc import Callable

from agentservesim.cost.base import StepTime
from agentservesim.engine.clock import Clock, Leap
from agentservesim.engine.config import EngineConfig
from agentservesim.engine.endpoint import Endpoint
from agentservesim.engine.order import Order
from agentservesim.engine.records import leap_records, step_record
from agentservesim.engine.request import Request
from agentservesim.engine.scheduler import Scheduler
from agentservesim.engine.step import Step
from agentservesim.kernel import Kernel
from agentservesim.model import Listener


class Instance(Clock, Endpoint):
    """A vLLM-like engine: requests in, finished requests out through `on_finish(request)`."""

    def __init__(
        self,
        index: int,
        kernel: Kernel,
        config: EngineConfig,
        num_gpu_blocks: int,
        step_time: StepTime,
        on_finish: Callable[[Request], None],
        *,
        order: Order | None = None,
        leap: bool = True,
        listener: Listener | None = None,
    ) -> None:
        self.config = config
        self.scheduler = Scheduler(config, num_gpu_blocks, step_time, order)
        self._on_finish = on_finish
        super().__init__(
            index,
            kernel,
            self.scheduler,
            async_scheduling=config.async_scheduling,
            stages=config.pipeline_parallel_size,
            leap=leap,
            listener=listener,
        )

    def _finish(self, request: Request) -> None:
        self.release(request)
        self._on_finish(request)

    def _record(self, step: Step, listener: Listener) -> None:
        end_ps = step.start_ps + step.duration_ps
        listener.step_done(step_record(self.index, self.scheduler, step, step.start_ps, end_ps))

    def _record_leap(self, plan: Leap, steps: int, listener: Listener) -> None:
        for record in leap_records(self.index, self.scheduler, plan, steps):
            listener.step_done(record)

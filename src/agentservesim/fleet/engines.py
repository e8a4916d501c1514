"""Instances as they are asked for: alone on their clock, or several in step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from agentservesim.cost.base import StepTime, WaveTime
from agentservesim.engine.config import EngineConfig
from agentservesim.engine.instance import Instance
from agentservesim.engine.order import Order
from agentservesim.engine.request import Request
from agentservesim.engine.wave import Rank, Wave
from agentservesim.kernel import Kernel
from agentservesim.kv.tiers import KvShape
from agentservesim.model import InputError, Listener

Engine = Instance | Rank


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """An instance to build. The front end takes `frontend_in_ps` from client to waiting queue and
    `frontend_out_ps` from engine to client. `kv_shape` is needed where KV is moved. Neighbours of one
    `wave` go in step; their step time is a `WaveTime`."""

    name: str
    engine: EngineConfig
    step_time: StepTime
    num_gpu_blocks: int
    frontend_in_ps: int = 0
    frontend_out_ps: int = 0
    kv_shape: KvShape | None = None
    wave: str | None = None


def build_engines(
    specs: Sequence[InstanceSpec],
    kernel: Kernel,
    on_finish: Callable[[Request], None],
    *,
    order: Order | None = None,
    leap: bool,
    listener: Listener,
) -> list[Engine]:
    """The instances, numbered from 0. Raises InputError for a step time that knows no waves."""
    engines: list[Engine] = []
    keys = [(index, None) if spec.wave is None else (-1, spec.wave) for index, spec in enumerate(specs)]
    for (_, name), members in groupby(zip(keys, specs, strict=True), key=lambda pair: pair[0]):
        group = [spec for _, spec in members]
        first, index = group[0], len(engines)
        if name is None:
            engines.append(
                Instance(
                    index,
                    kernel,
                    first.engine,
                    first.num_gpu_blocks,
                    first.step_time,
                    on_finish,
                    order=order,
                    leap=leap,
                    listener=listener,
                )
            )
            continue
        if not isinstance(first.step_time, WaveTime):
            raise InputError(
                "data_parallel_size: engines of a sparse model go in step, which this step time "
                "cannot price; use tables or the roofline"
            )
        configs, blocks = [spec.engine for spec in group], [spec.num_gpu_blocks for spec in group]
        wave = Wave(
            index,
            kernel,
            configs,
            blocks,
            first.step_time,
            on_finish,
            order=order,
            leap=leap,
            listener=listener,
        )
        engines += wave.ranks
    if order is not None:
        order.followers += [engine.reordered for engine in engines]
        order.on_version += [engine.outdated for engine in engines]
    return engines

"""From a configuration to what the engine needs to know of its hardware."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from agentservesim.cost.accelerators import Accelerator, load_accelerator
from agentservesim.cost.base import StepTime
from agentservesim.cost.calibration import read_calibration
from agentservesim.cost.capacity import kv_blocks
from agentservesim.cost.composed import compose, fitted_efficiency
from agentservesim.cost.config import CostConfig, Efficiency
from agentservesim.cost.deployment import Deployment, Network
from agentservesim.cost.linear import Linear
from agentservesim.cost.measured import Measured, Unmeasured, load_measured
from agentservesim.cost.modelnames import load_model
from agentservesim.cost.models import Model
from agentservesim.cost.operators import Host
from agentservesim.cost.power import Power, power_of
from agentservesim.cost.roofline import Roofline
from agentservesim.cost.tablefiles import read_tables, step_tables
from agentservesim.cost.tables import StepTables, Tables
from agentservesim.model import InputError, to_ps
from agentservesim.releases import BatchLimits, EngineVersion, capture_sizes

COMPUTED = "computed: memory x utilisation - weights - activation peak"
"""Where a number of KV blocks comes from that is not given."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Everything the engine needs to know about its hardware.

    num_gpu_blocks: KV blocks of an instance. kv_bytes_per_token: of all ranks together.
    layers: of the model. sparse: whether it has experts, which its data-parallel engines share.
    frontend_in_ps: client to scheduler queue; frontend_out_ps: token out of the engine to client.
    accelerators: of an instance; power: what one of them draws and costs. max_model_len: most tokens of a
    sequence that the model was made for; None if its configuration does not say.
    provenance: which number came from where, for the result.
    """

    step_time: StepTime
    num_gpu_blocks: int
    kv_bytes_per_token: int
    layers: int
    sparse: bool
    frontend_in_ps: int
    frontend_out_ps: int
    accelerators: int
    power: Power
    max_model_len: int | None
    provenance: dict[str, str]


def build_cost(
    config: CostConfig,
    *,
    block_size: int,
    max_num_batched_tokens: int,
    max_num_seqs: int,
    pipeline_parallel_size: int = 1,
    async_scheduling: bool = True,
    engine_version: EngineVersion = "0.32",
) -> Cost:
    """Price the steps and size the KV cache of one instance.

    Raises InputError for unknown names, a parallelism the model does not allow, unreadable tables,
    and a model that does not fit.
    """
    found = read_calibration(config.calibration) if config.calibration else None
    if found is not None:
        speed = {"step_time_scale": config.step_time_scale * found.step_time_scale}
        config = config.model_copy(update=found.settings() | speed)
    on = Deployment(
        _model(config),
        load_accelerator(config.gpu),
        config.tensor_parallel_size,
        config.kv_cache_dtype,
        config.data_parallel_size,
        pipeline_parallel_size,
        Network(config.gpus_per_node, config.internode_bytes_per_s, config.internode_latency_s),
    )
    if on.stages > on.model.layers:
        raise InputError(
            f"pipeline_parallel_size: {on.stages} stages for {on.model.layers} layers of {on.model.name}; "
            "each needs one"
        )
    if found is not None and found.linear is not None:
        step_time: StepTime = Linear(found.linear, config.step_time_scale)
        source = f"coefficients in {config.calibration}"
    else:
        limits = BatchLimits(max_num_batched_tokens, max_num_seqs)
        graphs = capture_sizes(engine_version, limits, on.accelerator.compute_capability == 10)
        step_time, source = _step_time(
            config, on, () if config.enforce_eager else graphs, overlapped=async_scheduling
        )
    blocks = config.num_gpu_blocks or kv_blocks(
        on,
        block_size=block_size,
        max_num_batched_tokens=max_num_batched_tokens,
        max_num_seqs=max_num_seqs,
        gpu_memory_utilization=config.gpu_memory_utilization,
    )
    return Cost(
        step_time=step_time,
        num_gpu_blocks=blocks,
        kv_bytes_per_token=on.ranks * on.model.kv_bytes_per_token(on.kv_dtype, on.ranks),
        layers=on.model.layers,
        sparse=on.model.sparse,
        frontend_in_ps=to_ps(config.frontend_in_s),
        frontend_out_ps=to_ps(config.frontend_out_s),
        accelerators=on.ranks * on.stages,
        power=power_of(config, on.accelerator),
        max_model_len=on.model.max_model_len,
        provenance={
            "model": on.model.name,
            "gpu": on.accelerator.source,
            "step_time": source,
            "host": f"{config.host_overhead_s:g} s a step, {config.prefill_overhead_s:g} s more with prefill",
            "num_gpu_blocks": "given" if config.num_gpu_blocks else COMPUTED,
            "price": on.accelerator.price_source if config.gpu_usd_per_hour is None else "given",
        },
    )


def _model(config: CostConfig) -> Model:
    model = load_model(config.model)
    if config.dtype != "auto":
        model = replace(model, dtype=config.dtype)
    if config.quantization != "auto":
        model = replace(model, quantization=config.quantization)
    return model


@lru_cache(maxsize=16)
def _composed(on: Deployment, measured: Measured) -> StepTables:
    return compose(on, measured)


def _efficiency(
    config: CostConfig, accelerator: Accelerator, measured: Measured | None
) -> tuple[Efficiency, str]:
    """What the roofline reaches, and who says so."""
    if "efficiency" in config.model_fields_set:
        return config.efficiency, "given efficiencies"
    if measured is not None:
        return fitted_efficiency(measured, accelerator), "efficiencies of its measured operators"
    if accelerator.efficiency is not None:
        return accelerator.efficiency, f"efficiencies {accelerator.efficiency_source}"
    return config.efficiency, "default efficiencies"


def _step_time(
    config: CostConfig, on: Deployment, graphs: tuple[int, ...], overlapped: bool
) -> tuple[StepTime, str]:
    host = Host(
        step_ps=on.stages * to_ps(config.host_overhead_s),
        prefill_ps=on.stages * to_ps(config.prefill_overhead_s),
        graphs=graphs,
        scale=config.step_time_scale,
        linear=config.linear_scale,
        attention=config.attention_scale,
        engines=on.engines,
        work_ps=to_ps(config.host_work_s),
        sequence_work_ps=to_ps(config.host_work_per_sequence_s),
        overlapped=overlapped,
    )
    if config.tables is not None and config.step_time != "roofline":
        tables = step_tables(on, read_tables(config.tables, on.ranks))
        return Tables(on, tables, host), f"tables: {tables.source}"
    measured = load_measured(on.accelerator.name)
    why = f"no measurements of {on.accelerator.name} are at hand"
    if config.step_time == "roofline":
        why = "asked for"
    elif measured is not None:
        try:
            tables = _composed(on, measured)
            return Tables(on, tables, host), f"tables: {tables.source}"
        except Unmeasured as lacking:
            why = f"not measured on {on.accelerator.name}: {lacking}"
    if config.step_time == "tables":
        raise InputError(f"step_time: there are no tables of this deployment ({why}); see `list tables`")
    efficiency, fit = _efficiency(config, on.accelerator, measured)
    used = ", ".join(f"{name} {value:g}" for name, value in efficiency.model_dump().items())
    return Roofline(on, efficiency, host), f"roofline ({why}); {fit}: {used}"

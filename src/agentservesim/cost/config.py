"""What an instance runs on, and where its step times come from."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Efficiency(BaseModel):
    """How much of the spec sheet operators reach. Defaults are rounded means over the published kernel
    measurements named in each description; a single GPU and shape lies within about 15 % of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    compute: float = Field(
        0.7,
        gt=0,
        le=1,
        description="Share of peak FLOP/s of large GEMMs (H100 0.64, RTX PRO 6000 0.75, RTX 4090 0.98).",
    )
    attention_compute: float = Field(
        0.6,
        gt=0,
        le=1,
        description="Share of peak FLOP/s of prefill attention (H100 0.70, RTX PRO 6000 0.50).",
    )
    bandwidth: float = Field(
        0.9,
        gt=0,
        le=1,
        description="Share of memory bandwidth of decode (H100 0.88, RTX PRO 6000 0.89, RTX 4090 0.93).",
    )
    layer_s: float = Field(
        18e-6,
        ge=0,
        le=1e-2,
        description="Seconds per layer of small kernels: norms, rotary, activation, launch.",
    )
    activation_traffic: float = Field(
        1.0, ge=0, le=1, description="Share of the activations that go through memory, not the cache."
    )
    sampler_s: float = Field(25e-6, ge=0, le=1e-2, description="Seconds of the sampler per step.")


class CostConfig(BaseModel):
    """Hardware, model and step-time settings of an instance. vLLM's names where the meaning is vLLM's.

    Host overheads are for asynchronous scheduling, which hides the rest of the host's work behind the
    accelerator's. Their defaults are what recorded servers (vLLM 0.19 and 0.23) take beyond the measured
    time of their kernels; the front end's are what an HTTP server's first token takes beyond its engine's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(
        "llama-3.1-8b",
        min_length=1,
        description="Catalogue name, Hub name, or path of a config.json or its folder.",
    )
    gpu: str = Field("h100-sxm", min_length=1, description="Catalogue name of the accelerator.")
    tensor_parallel_size: int = Field(1, ge=1, le=64, description="Accelerators that share each layer.")
    data_parallel_size: int = Field(
        1,
        ge=1,
        le=1024,
        description="Engines of each instance; those of a sparse model share its experts and go in step.",
    )
    gpus_per_node: int = Field(8, ge=1, le=1024, description="Accelerators joined by their own links.")
    internode_bytes_per_s: float = Field(
        50e9, gt=0, description="Bandwidth of an accelerator's adapter to other nodes, one direction."
    )
    internode_latency_s: float = Field(
        10e-6, ge=0, le=1.0, description="Start-up time of a message between nodes."
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto", description="Type of weights and activations; auto is the model's own."
    )
    quantization: Literal["auto", "none", "fp8"] = Field(
        "auto", description="Quantisation of the linear layers; auto is the model's own."
    )
    kv_cache_dtype: Literal["auto", "bfloat16", "float16", "fp8"] = Field(
        "auto", description="Type of the KV cache; auto is that of the weights."
    )
    gpu_idle_w: float | None = Field(
        None, ge=0.0, le=1e4, description="Watts of an idle accelerator; None is a share of its limit."
    )
    gpu_decode_w: float | None = Field(
        None, ge=0.0, le=1e4, description="Watts in steps of decode alone; None is a share of its limit."
    )
    gpu_prefill_w: float | None = Field(
        None, ge=0.0, le=1e4, description="Watts in steps with prefill; None is a share of its limit."
    )
    gpu_usd_per_hour: float | None = Field(
        None, ge=0.0, le=1e4, description="Price of an accelerator for an hour; None is a published rent."
    )
    gpu_memory_utilization: float = Field(
        0.92,
        gt=0.0,
        le=1.0,
        description="Share of the accelerator's memory the engine may use (0.9 in older vLLM).",
    )
    num_gpu_blocks: int | None = Field(
        None, ge=2, description="KV blocks of an instance; None computes them as vLLM does."
    )
    enforce_eager: bool = Field(
        False, description="No CUDA graphs: batches are not padded to captured sizes."
    )
    step_time: Literal["auto", "roofline", "tables"] = Field(
        "auto",
        description="Step-time model; auto takes tables, given or shipped, where there are any.",
    )
    tables: Path | None = Field(
        None, description="Folder of measured operator tables (one tensor-parallel degree)."
    )
    calibration: Path | None = Field(
        None, description="File that `agentservesim calibrate` wrote; it goes before the settings it fits."
    )
    efficiency: Efficiency = Field(
        default_factory=Efficiency,
        description="How much of the spec sheet the roofline's operators reach; as measured, if left out.",
    )
    step_time_scale: float = Field(
        1.0,
        gt=0.0,
        le=100.0,
        description="Factor on the accelerator's part of every step: a machine's speed.",
    )
    linear_scale: float = Field(
        1.0, gt=0.0, le=100.0, description="Factor on linear layers, experts and head, besides."
    )
    attention_scale: float = Field(1.0, gt=0.0, le=100.0, description="Factor on attention, besides.")
    host_overhead_s: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="Host time of every step that the accelerator waits for, in seconds.",
    )
    prefill_overhead_s: float = Field(
        1.4e-3,
        ge=0.0,
        le=1.0,
        description="What a step with prefill adds, in seconds: its inputs are new and no single CUDA graph.",
    )
    host_work_s: float = Field(
        0.3e-3,
        ge=0.0,
        le=1.0,
        description="The host's own work for a step, in seconds: scheduling, inputs, outputs. It is hidden "
        "beside the accelerator's with asynchronous scheduling, and waited for without.",
    )
    host_work_per_sequence_s: float = Field(
        15e-6, ge=0.0, le=1.0, description="What each sequence of the step adds to that, in seconds."
    )
    frontend_in_s: float = Field(
        3e-3, ge=0.0, le=10.0, description="Seconds from a client's request to the scheduler's queue."
    )
    frontend_out_s: float = Field(
        3e-3, ge=0.0, le=10.0, description="Seconds from a token out of the engine to the client."
    )

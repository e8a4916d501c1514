"""What one engine is told: vLLM's own settings, under vLLM's names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agentservesim.releases import RELEASES, EngineVersion, Release

OF_THE_RELEASE = ("async_scheduling", "gpu_memory_utilization")
"""Settings with defaults of their own in each release, also those that a subclass adds."""


class EngineConfig(BaseModel):
    """Scheduler and KV cache settings of an instance (vLLM V1)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine_version: EngineVersion = Field("0.32", description="vLLM release whose rules are followed.")
    block_size: int = Field(16, ge=1, le=1024, description="Tokens in a KV block.")
    max_num_batched_tokens: int = Field(
        8192,
        ge=1,
        description="Token budget of a step; unless given, what vLLM takes on the GPU: 8192 from 70 GiB, "
        "16384 from 160 GiB, 2048 on smaller ones and A100.",
    )
    max_num_seqs: int = Field(
        1024,
        ge=1,
        description="Most requests that run at once; unless given, what vLLM takes on the GPU: 1024 from "
        "70 GiB, 256 on smaller ones and A100.",
    )
    max_model_len: int | None = Field(
        None, ge=2, description="Most tokens in a sequence; None means as long as the KV pool allows."
    )
    enable_prefix_caching: bool = Field(True, description="Reuse the KV of full blocks across requests.")
    enable_chunked_prefill: bool = Field(True, description="A prompt may be computed over several steps.")
    long_prefill_token_threshold: int = Field(
        0, ge=0, description="Most prompt tokens of one request in a step while others exist; 0 is no limit."
    )
    watermark: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        description="Share of the blocks kept free when a request is admitted beside others.",
    )
    scheduler_reserve_full_isl: bool | None = Field(
        None,
        description="Admit a request only if its whole known sequence fits; None follows the engine version.",
    )
    pipeline_parallel_size: int = Field(
        1, ge=1, le=64, description="Stages: groups of accelerators that each hold a part of the layers."
    )
    async_scheduling: bool = Field(
        True,
        description="Schedule step n+1 when step n starts, before its output is known (version 0.12: off "
        "unless asked for).",
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_version(cls, values: Any) -> Any:
        """What is not given has the default of its release."""
        release = RELEASES.get(str(values.get("engine_version"))) if isinstance(values, dict) else None
        if release is None:
            return values
        own = {name: getattr(release, name) for name in OF_THE_RELEASE if name in cls.model_fields}
        return {**own, **values}

    @model_validator(mode="after")
    def _chunks_or_room(self) -> EngineConfig:
        short = self.max_model_len is not None and self.max_num_batched_tokens < self.max_model_len
        if short and not self.enable_chunked_prefill:
            raise ValueError(
                "without chunked prefill max_num_batched_tokens "
                f"({self.max_num_batched_tokens}) must be at least max_model_len ({self.max_model_len})"
            )
        return self


def rules_of(config: EngineConfig) -> Release:
    """The configured release, with `scheduler_reserve_full_isl` where it is set."""
    release = RELEASES[config.engine_version]
    if config.scheduler_reserve_full_isl is None:
        return release
    return replace(release, reserve_full=config.scheduler_reserve_full_isl)

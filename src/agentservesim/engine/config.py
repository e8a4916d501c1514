"""What one engine is told: vLLM's own settings, under vLLM's names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

EngineVersion = Literal["0.12", "0.19", "0.26", "0.32"]
"""vLLM releases whose scheduling rules are known here; `rules_of` says what differs."""


OLDER_DEFAULTS: dict[str, dict[str, Any]] = {
    "0.12": {"async_scheduling": False, "gpu_memory_utilization": 0.9},
    "0.19": {"gpu_memory_utilization": 0.9},
}
"""Settings whose defaults were others: scheduling is asynchronous by default from vLLM 0.14 on, and from
0.9 of the memory (0.19) its share went to 0.92 (0.26, `CacheConfig`)."""


class EngineConfig(BaseModel):
    """Scheduler and KV cache settings of an instance (vLLM V1)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine_version: EngineVersion = Field("0.32", description="vLLM release whose rules are followed.")
    block_size: int = Field(16, ge=1, le=1024, description="Tokens in a KV block.")
    max_num_batched_tokens: int = Field(8192, ge=1, description="Token budget of a step.")
    max_num_seqs: int = Field(1024, ge=1, description="Most requests that run at once.")
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
        """What is not given has the default of its release, also what a subclass adds."""
        if isinstance(values, dict):
            older = OLDER_DEFAULTS.get(str(values.get("engine_version")), {})
            return {**{name: value for name, value in older.items() if name in cls.model_fields}, **values}
        return values

    @model_validator(mode="after")
    def _chunks_or_room(self) -> EngineConfig:
        short = self.max_model_len is not None and self.max_num_batched_tokens < self.max_model_len
        if short and not self.enable_chunked_prefill:
            raise ValueError(
                "without chunked prefill max_num_batched_tokens "
                f"({self.max_num_batched_tokens}) must be at least max_model_len ({self.max_model_len})"
            )
        return self


@dataclass(frozen=True, slots=True)
class Rules:
    """Scheduling rules that changed between vLLM releases.

    reserve_full: a request is admitted only if its whole known sequence fits (from 0.19).
    blanks_first: blocks without content are freed to the head of the free queue (from 0.26),
        before that to its tail with all others.
    watermark: the `watermark` setting exists (from 0.26).
    lone_uncapped: `long_prefill_token_threshold` does not bind a request that is alone (from 0.32).
    """

    reserve_full: bool
    blanks_first: bool
    watermark: bool
    lone_uncapped: bool


_RULES: dict[EngineVersion, Rules] = {
    "0.12": Rules(reserve_full=False, blanks_first=False, watermark=False, lone_uncapped=False),
    "0.19": Rules(reserve_full=True, blanks_first=False, watermark=False, lone_uncapped=False),
    "0.26": Rules(reserve_full=True, blanks_first=True, watermark=True, lone_uncapped=False),
    "0.32": Rules(reserve_full=True, blanks_first=True, watermark=True, lone_uncapped=True),
}


def rules_of(config: EngineConfig) -> Rules:
    """The rules of the configured release, with `scheduler_reserve_full_isl` where it is set."""
    rules = _RULES[config.engine_version]
    if config.scheduler_reserve_full_isl is None:
        return rules
    return replace(rules, reserve_full=config.scheduler_reserve_full_isl)

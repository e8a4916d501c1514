"""What a run is told about its workload."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from agentservesim.workload.options import Format, HashScope, Lengths


class WorkloadConfig(BaseModel):
    """A trace, how to understand it, and what to change in it before it is run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trace: str = Field(
        "demo",
        min_length=1,
        description="Trace file, plain or .gz; 'demo' is the synthetic trace that ships with the package.",
    )
    format: Format = Field("auto", description="Format of the file; auto tells it from the fields.")
    lengths: Lengths | None = Field(
        None,
        description="Mooncake with sessions: input_length is the whole prompt (cumulative, the default) or "
        "only what is new in it (delta).",
    )
    trace_block_size: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Tokens in a hash block of the trace; None takes it from the file.",
    )
    hash_scope: HashScope = Field(
        "auto",
        description="Where equal hash ids are equal content: in one program or in the whole file; auto "
        "follows a v2 header and is 'file' otherwise.",
    )
    reuse_output: bool = Field(
        True,
        description="A reply that is sent back is the content that was generated, so its KV can be reused. "
        "False where replies are tokenised differently when they are sent back.",
    )
    program_rate: float | None = Field(
        None,
        gt=0,
        le=1e6,
        allow_inf_nan=False,
        description="Programs per second; None keeps recorded arrivals.",
    )
    burstiness: float = Field(
        1.0,
        gt=0,
        le=1e6,
        allow_inf_nan=False,
        description="Shape of the gamma-distributed gaps between arrivals at program_rate: 1 is Poisson, "
        "less is burstier, more is more even.",
    )
    max_concurrency: int | None = Field(
        None,
        ge=1,
        description="Most programs in flight. Without program_rate all programs are there from the start and "
        "one begins when another ends (a closed loop).",
    )
    max_programs: int | None = Field(None, ge=1, description="Take only the first programs to arrive.")
    max_gap_s: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="Cap on every think time and on every tool time."
    )

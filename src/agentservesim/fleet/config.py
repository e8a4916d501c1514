"""Tools, how old a router's views are, and the network between instances."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from agentservesim.kv.catalogue import find_link


class Distribution(BaseModel):
    """A distribution of durations. `sigma` is that of the logarithm, for lognormal only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["fixed", "exponential", "lognormal"] = Field("fixed", description="Shape.")
    median_s: float = Field(
        1.0, ge=0.0, le=1e6, allow_inf_nan=False, description="Half of the durations are below."
    )
    sigma: float = Field(1.0, ge=0.0, le=5.0, allow_inf_nan=False, description="Spread of the logarithm.")
    max_s: float = Field(
        3600.0, gt=0.0, le=1e7, allow_inf_nan=False, description="Longer draws are cut to this."
    )


class ToolsConfig(BaseModel):
    """The Tool Simulator: durations of tool calls, and how many can run at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    durations: Literal["recorded", "drawn"] = Field(
        "recorded",
        description="recorded: as in the trace, drawn where it has none; drawn: from by_tool and default.",
    )
    default: Distribution = Field(
        default=Distribution(), description="Durations of tools that by_tool does not name."
    )
    by_tool: dict[str, Distribution] = Field(default={}, description="Durations by name of the tool.")
    max_workers: int | None = Field(
        None, ge=1, description="Tool calls that can run at once in the whole fleet; None is no limit."
    )


class RoutingConfig(BaseModel):
    """How old is what the router sees of the instances; 0 is fresh."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    snapshot_interval_s: float = Field(
        0.0,
        ge=0.0,
        le=1e6,
        allow_inf_nan=False,
        description="Time between two reports of an instance; 0 is always, or with a lag at each event.",
    )
    event_lag_s: float = Field(
        0.0,
        ge=0.0,
        le=1e6,
        allow_inf_nan=False,
        description="Time that a report, or the news of a turn's first or last token, takes to the router.",
    )

    @property
    def fresh(self) -> bool:
        """Whether the router sees instances as they are."""
        return self.snapshot_interval_s == 0 and self.event_lag_s == 0


class NetworkConfig(BaseModel):
    """Between instances, for KV that a router moves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = Field(description="Catalogue entry of an interface, as rdma-400g: see `list links`.")
    bytes_per_s: float = Field(
        0.0, ge=0.0, allow_inf_nan=False, description="Of an interface, each way; 0 is the catalogue's."
    )
    interfaces: int = Field(1, ge=1, le=1024, description="Interfaces of an instance, used side by side.")

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        find_link(kind)
        return kind

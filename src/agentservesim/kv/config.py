"""The memory below HBM: tiers and the links that join them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agentservesim.kv.catalogue import LINKS, find_link

HBM = "hbm"
"""The tier that every instance has: its GPU's block pool."""

WORDS = ("cache", "drop")
"""What placements say besides names of tiers (see `policies.protocols.Placement`)."""


class TierConfig(BaseModel):
    """A place for KV below HBM."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        pattern=r"^[a-z][a-z0-9-]*$", description="What the tier is called: dram, cxl, ssd, remote."
    )
    capacity_bytes: float = Field(gt=0, allow_inf_nan=False, description="Room for KV in each such tier.")
    scope: Literal["instance", "node", "fleet"] = Field(
        "instance", description="Who shares one tier of this capacity: an instance, a node, the fleet."
    )


class LinkConfig(BaseModel):
    """The pipe between two tiers. Where `kind` names a catalogue entry, its figures are the defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    between: tuple[str, str] = Field(description="The two tiers, the faster one first.")
    kind: str | None = Field(None, description="Catalogue entry: " + ", ".join(LINKS) + ".")
    down_bytes_per_s: float = Field(0.0, ge=0, allow_inf_nan=False, description="From first tier to second.")
    up_bytes_per_s: float = Field(0.0, ge=0, allow_inf_nan=False, description="From second tier to first.")
    latency_s: float = Field(
        0.0, ge=0, le=1e3, allow_inf_nan=False, description="From last byte in to last byte out."
    )
    overhead_s: float = Field(
        0.0, ge=0, le=1e3, allow_inf_nan=False, description="Link time taken by each transfer."
    )
    min_bytes: float = Field(
        0.0,
        ge=0,
        le=1e9,
        allow_inf_nan=False,
        description="Smallest piece, a rank's part of a block, that reaches the bandwidth; a smaller one "
        "takes as long.",
    )
    duplex: Literal["full", "half"] = Field("full", description="Whether both directions run at once.")
    per: Literal["tier", "instance"] = Field(
        "tier",
        description="Where instances share the tier: one link that all of them contend for, or one for each.",
    )
    sharing: Literal["fifo", "processor"] = Field(
        "fifo", description="fifo: one transfer after the other; processor: all at once, each with its share."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_catalogue(cls, data: object) -> object:
        if isinstance(data, dict) and isinstance(data.get("kind"), str):
            return {**find_link(data["kind"]).figures(), **data}
        return data

    @model_validator(mode="after")
    def _has_bandwidth(self) -> LinkConfig:
        if self.between[0] == self.between[1]:
            raise ValueError(f"a link joins two different tiers, not '{self.between[0]}' with itself")
        if self.down_bytes_per_s <= 0 or self.up_bytes_per_s <= 0:
            raise ValueError("a link needs a kind, or down_bytes_per_s and up_bytes_per_s above 0")
        return self


class MemoryConfig(BaseModel):
    """Tiers in order of speed, fastest first, and links. HBM is there without being named."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tiers: tuple[TierConfig, ...] = Field(default=(), description="Tiers below HBM, fastest first.")
    links: tuple[LinkConfig, ...] = Field(default=(), description="Links; every tier must be linked to HBM.")
    instances_per_node: int = Field(8, ge=1, description="Instances that share a tier of scope node.")
    load: Literal["blocking", "layerwise"] = Field(
        "blocking",
        description="blocking: a turn waits for its KV; layerwise: it runs while its KV comes in.",
    )

    prefetch_bytes: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="KV of an instance that may be on its way up ahead of turns at once; None is no limit.",
    )

    @model_validator(mode="after")
    def _joined(self) -> MemoryConfig:
        names = [tier.name for tier in self.tiers]
        if HBM in names:
            raise ValueError("hbm is every instance's own: its size is num_gpu_blocks, not a tier")
        for word in WORDS:
            if word in names:
                raise ValueError(f"no tier can be called '{word}': that word has a meaning in placements")
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"two tiers are called '{min(twice)}'")
        known = [HBM, *names]
        for link in self.links:
            for end in link.between:
                if end not in known:
                    raise ValueError(
                        f"a link leads to '{end}', which is no tier; there are {', '.join(sorted(known))}"
                    )
            above, below = link.between
            if known.index(above) > known.index(below):
                raise ValueError(f"a link names the faster tier first: '{below}', then '{above}'")
            if sum(other.between == link.between for other in self.links) > 1:
                raise ValueError(f"two links join '{above}' and '{below}'")
        for name in names:
            if not any({HBM, name} == set(link.between) for link in self.links):
                raise ValueError(f"tier '{name}' has no link to hbm")
        return self

"""What decides a run, typed and checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from agentservesim.cost.accelerators import load_accelerator
from agentservesim.cost.config import CostConfig
from agentservesim.engine.config import EngineConfig
from agentservesim.fleet.config import NetworkConfig, RoutingConfig, ToolsConfig
from agentservesim.kv.config import MemoryConfig
from agentservesim.policies.bundles import BUNDLES, bundle_parts
from agentservesim.releases import batch_limits
from agentservesim.settings import Settings, parse_override, read_settings, validate
from agentservesim.workload.config import WorkloadConfig

FILES = ("trace", "tables", "model", "calibration")
"""Settings that may name a file or a folder."""


class InstanceConfig(CostConfig, EngineConfig):
    """A group of equal instances: what they run on, and how their engine is set."""

    count: int = Field(1, ge=1, le=100_000, description="Instances in this group.")
    name: str = Field("", description="Name of the group in results; empty means the GPU's name.")

    @model_validator(mode="before")
    @classmethod
    def _limits_of_the_gpu(cls, values: Any) -> Any:
        """Batch limits that are not given are vLLM's for the accelerator; a wrong one is told of later."""
        try:
            return {**_batch_limits(values), **values}
        except (AttributeError, KeyError, TypeError, ValueError):
            return values


def _batch_limits(values: dict[str, Any]) -> dict[str, int]:
    """What vLLM takes; whole prompts get a budget for the longest. It also lowers each limit where another
    binds already, which changes no step."""
    accelerator = load_accelerator(values.get("gpu", CostConfig.model_fields["gpu"].default))
    release = values.get("engine_version", EngineConfig.model_fields["engine_version"].default)
    limits = batch_limits(release, accelerator.title, accelerator.memory_bytes)._asdict()
    longest = values.get("max_model_len")
    if not values.get("enable_chunked_prefill", True) and longest:
        limits["max_num_batched_tokens"] = max(limits["max_num_batched_tokens"], int(longest))
    return limits


def _objective(text: str) -> str:
    from agentservesim.results.targets import parse_objective

    return parse_objective(text).text


def _limit(text: str) -> str:
    from agentservesim.results.targets import parse_limit

    parse_limit(text)
    return text


def _bundle(name: str) -> str:
    bundle_parts(name)
    return name


class Scenario(BaseModel):
    """Everything that decides a run. Two runs of one scenario give the same bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field("run", description="What the run is called in its results.")
    workload: WorkloadConfig = Field(default=WorkloadConfig(), description="The programs to serve.")
    instances: tuple[InstanceConfig, ...] = Field(
        default=(InstanceConfig(),), min_length=1, description="The fleet: groups of equal instances."
    )
    policy: Annotated[str, AfterValidator(_bundle)] = Field(
        "",
        description="A published system: sets scheduler, router, admission and residency as it has them, "
        "where they are not given themselves; see `list bundles`.",
    )
    router: str = Field(
        "session-affinity",
        description="Who gets a turn: see `list routers`, or module:Class.",
    )
    routing: RoutingConfig = Field(default=RoutingConfig(), description="How old the router's views are.")
    network: NetworkConfig | None = Field(
        None, description="Between instances, for routers that move KV; without one it is computed again."
    )
    admission: str = Field(
        "always",
        description="When a turn is let in: see `list admission`, or module:Class.",
    )
    scheduler: str = Field(
        "fcfs",
        description="Order of the waiting queues: fcfs, priority, see `list schedulers`, or module:Class.",
    )
    memory: MemoryConfig = Field(
        default=MemoryConfig(), description="Tiers below HBM, and the links to them."
    )
    residency: str = Field(
        "lru",
        description="Where a program's KV is while its tools run: see `list residency`, or module:Class.",
    )
    tools: ToolsConfig = Field(default=ToolsConfig(), description="How long tool calls take.")
    slo: tuple[Annotated[str, AfterValidator(_objective)], ...] = Field(
        default=(), description="Service level objectives, as turn.ttft.p99<2s."
    )
    goodput: tuple[Annotated[str, AfterValidator(_limit)], ...] = Field(
        default=(), description="Limits inside which a turn or program is good, as ttft:2s."
    )
    seed: int = Field(0, ge=0, description="Seed of every random draw.")
    leap: bool = Field(True, description="Take runs of decode steps at once; the numbers are the same.")
    record_steps: bool = Field(False, description="Keep a row per engine step.")

    @model_validator(mode="before")
    @classmethod
    def _unbundle(cls, values: object) -> object:
        """The parts of the policy, where they are not given themselves."""
        name = values.get("policy") if isinstance(values, dict) else None
        if isinstance(values, dict) and isinstance(name, str) and name in BUNDLES:
            return {**bundle_parts(name), **values}
        return values


def load_scenario(path: str | Path, overrides: Sequence[str] = ()) -> Scenario:
    """Read a scenario from TOML or JSON; each override is `a.b=value`.

    Paths inside the file are relative to the file. Raises InputError with the file, the line (of
    TOML) or the field, and what would be right.
    """
    settings = read_scenario_settings(Path(path))
    for override in overrides:
        location, value = parse_override(override)
        settings.put(location, value, f"--set {override}")
    return validate(Scenario, settings)


def read_scenario_settings(path: Path) -> Settings:
    """A scenario file as settings: paths made relative to the working folder, named after the file."""
    settings = read_settings(path)
    settings.values.setdefault("name", path.stem)
    groups = settings.values.get("instances")
    for table in (settings.values.get("workload"), *(groups if isinstance(groups, list) else ())):
        for key in FILES:
            value = table.get(key) if isinstance(table, dict) else None
            if isinstance(value, str) and ("/" in value or (path.parent / value).is_file()):
                table[key] = str(path.parent / value)
    return settings

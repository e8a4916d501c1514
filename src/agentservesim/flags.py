"""The command line's flags for a scenario, made from the configuration models.

Every field of the models is a flag of the same name (`max_num_seqs` is `--max-num-seqs`), with the
model's own description and default; the models check the values. Flags of an instance apply to
every group of instances of the scenario.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from agentservesim.engine.config import EngineConfig
from agentservesim.fleet.config import NetworkConfig, RoutingConfig, ToolsConfig
from agentservesim.kv.config import HBM, MemoryConfig
from agentservesim.model import InputError
from agentservesim.scenario.config import InstanceConfig, Scenario, read_scenario_settings
from agentservesim.settings import Location, Settings, parse_override
from agentservesim.workload.config import WorkloadConfig

EACH = "*"
"""In a flag's location: every entry of the list."""

MEMORY = "Memory below HBM"

_OWN_OPTIONS = {"workload", "instances", "tools", "memory", "record_steps", "trace", "count"}
_OWN_NAMES: dict[tuple[str, ...], str] = {
    ("memory", "load"): "kv_load",
    ("network", "kind"): "network",
    ("network", "bytes_per_s"): "network_bytes_per_s",
    ("network", "interfaces"): "network_interfaces",
}
_ALIASES = {"scheduler": ("--scheduling-policy",)}
"""Other names of flags: what vLLM calls the same thing."""

_BYTES: dict[str, int] = {"B": 1, "kB": 1000} | {
    unit + end: base**power
    for power, unit in enumerate("KMGTP", start=1)
    for end, base in (("B", 1000), ("iB", 1024))
}


@dataclass(frozen=True)
class Flag:
    """A command line option for one field; `location` may hold EACH."""

    name: str
    location: tuple[str, ...]
    field: FieldInfo
    panel: str

    @property
    def option(self) -> str:
        """`--max-num-seqs`."""
        return "--" + self.name.replace("_", "-")

    def parameter(self) -> Parameter:
        """The option as typer takes it: text (often, for a list), or a pair of on and off switches."""
        is_switch = bool in _plain_types(self.field.annotation)
        names = [f"{self.option}/--no-{self.option[2:]}" if is_switch else self.option]
        names += _ALIASES.get(self.name, ())
        option = typer.Option(
            *names,
            help=f"{self.field.description} {self._default()}".rstrip(),
            metavar=None if is_switch else _metavar(self.field.annotation),
            show_default=False,
            rich_help_panel=self.panel,
        )
        kind: Any = bool | None if is_switch else list[str] | None if self.is_list else str | None
        return Parameter(self.name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option])

    @property
    def is_list(self) -> bool:
        """Whether the option may be given several times."""
        return get_origin(self.field.annotation) is tuple

    def _default(self) -> str:
        default = self.field.default
        if default is None or default is PydanticUndefined or default in ("", ()):
            return ""
        return f"[default: {str(default).lower() if isinstance(default, bool) else default}]"


@cache
def scenario_flags() -> dict[str, Flag]:
    """All flags by the name of their field."""
    engine = set(EngineConfig.model_fields)
    hardware = {k: v for k, v in InstanceConfig.model_fields.items() if k not in engine}
    tables: list[tuple[tuple[str, ...], str, Mapping[str, FieldInfo]]] = [
        ((), "Run", Scenario.model_fields),
        (("workload",), "Workload", WorkloadConfig.model_fields),
        (("instances", EACH), "Model, hardware and cost", hardware),
        (("instances", EACH), "Engine (vLLM's names)", EngineConfig.model_fields),
        (("memory",), MEMORY, MemoryConfig.model_fields),
        (("tools",), "Tools", ToolsConfig.model_fields),
        (("routing",), "Routing", RoutingConfig.model_fields),
        (("network",), "Routing", NetworkConfig.model_fields),
    ]
    flags: dict[str, Flag] = {}
    for location, panel, fields in tables:
        for name, field in fields.items():
            if name in _OWN_OPTIONS or not _is_simple(field.annotation):
                continue
            own_name = name not in flags and location != ("tools",)
            unique = name if own_name else f"{location[0].rstrip('s')}_{name}"
            unique = _OWN_NAMES.get((*location, name), unique)
            flags[unique] = Flag(unique, (*location, name), field, panel)
    return flags


def with_flags(function: Callable[..., None], only: str | None = None) -> Callable[..., None]:
    """Give `function(..., **flags)` a signature in which every scenario flag is an option.

    `only` names the table of the scenario whose flags are wanted.
    """
    own = [
        p for p in signature(function, eval_str=True).parameters.values() if p.kind != Parameter.VAR_KEYWORD
    ]
    options = [flag.parameter() for flag in scenario_flags().values() if only in (None, *flag.location[:1])]

    def command(**given: Any) -> None:
        function(**given)

    command.__doc__, command.__name__ = function.__doc__, function.__name__
    command.__signature__ = signature(function).replace(  # type: ignore[attr-defined]
        parameters=[*(p.replace(kind=Parameter.KEYWORD_ONLY) for p in own), *options],
        return_annotation=None,
    )
    return command


def source_settings(
    source: str,
    flags: Mapping[str, object],
    num_instances: int | None = None,
    tiers: Sequence[str] = (),
    overrides: Sequence[str] = (),
) -> Settings:
    """The settings of a scenario file or a trace: from the file, then the flags, then --set."""
    path = Path(source)
    if path.suffix in (".toml", ".json"):
        settings = read_scenario_settings(path)
    else:
        settings = Settings({"name": path.name.partition(".")[0] or "run"}, source=source)
        settings.put(("workload", "trace"), source, source)
    if num_instances is not None:
        set_instances(settings, num_instances)
    for number, tier in enumerate(tiers):
        name = tier.partition("=")[0]
        if any(other.partition("=")[0] == name for other in tiers[:number]):
            raise InputError(f"--tier {tier}: there is a --tier {name} before it; one tier has one size")
        add_tier(settings, tier)
    apply_flags(settings, flags)
    for override in overrides:
        location, value = parse_override(override)
        settings.put(location, value, f"--set {override}")
    return settings


def apply_flags(settings: Settings, given: Mapping[str, object]) -> None:
    """Put the flags that were given into the settings; absent ones are None."""
    flags = scenario_flags()
    for name, value in given.items():
        if value is not None and value != []:
            for location in _each(settings, flags[name].location):
                settings.put(location, value, flags[name].option)


def vary(settings: Settings, name: str, value: str) -> None:
    """Put one value of `--vary name=...`: a flag's name, or a dotted place in the scenario.

    Raises InputError for the seed, which every arm has in common.
    """
    origin = f"--vary {name}={value}"
    flag = scenario_flags().get(name.strip().removeprefix("--").replace("-", "_"))
    if name.strip() in ("num-instances", "num_instances"):
        name = "instances.0.count"
    if flag is None:
        settings.values.setdefault("instances", [{}])
        location, parsed = parse_override(f"{name}={value}")
        settings.put(location, parsed, origin)
        return
    if flag.location == ("seed",):
        raise InputError("--vary seed: every arm has the same seeds; say how many with --seeds")
    for location in _each(settings, flag.location):
        settings.put(location, [value] if flag.is_list else value, origin)


def set_instances(settings: Settings, count: int) -> None:
    """Set the number of instances. Raises InputError if the scenario has several groups of them."""
    groups = settings.values.setdefault("instances", [{}])
    if isinstance(groups, list) and len(groups) != 1:
        raise InputError(
            f"--num-instances: the scenario has {len(groups)} groups of instances; "
            "say which with --set instances.0.count=N"
        )
    settings.put(("instances", 0, "count"), count, "--num-instances")


def add_tier(settings: Settings, text: str) -> None:
    """Add a tier and its link to HBM, given as `dram=200GB@pcie5-x16`, with `,node` or `,fleet` if shared.

    A tier of the same name in the scenario is replaced. Raises InputError if the text is not of this form.
    """
    origin = f"--tier {text}"
    parts = re.fullmatch(r"([^=@,]+)=([^=@,]+)@([^=@,]+)(?:,([^=@,]+))?", text)
    if parts is None:
        raise InputError(f"{origin}: expected name=size@link, for example dram=200GB@pcie5-x16")
    name, size, kind, scope = parts.groups()
    if name == HBM:
        raise InputError(f"{origin}: hbm is every instance's own; its size is --num-gpu-blocks")
    tiers, links = (_entries(settings, key) for key in ("tiers", "links"))
    tier = {"name": name, "capacity_bytes": _bytes(size, origin), **({"scope": scope} if scope else {})}
    link = {"between": (HBM, name), "kind": kind}
    _replace(tiers, tier, lambda entry: entry.get("name") == name)
    _replace(links, link, lambda entry: set(entry.get("between", ())) == {HBM, name})
    settings.origins[("memory", "tiers", tiers.index(tier))] = origin
    settings.origins[("memory", "links", links.index(link))] = origin


def _entries(settings: Settings, key: str) -> list[dict[str, Any]]:
    memory = settings.values.setdefault("memory", {})
    entries = memory.setdefault(key, []) if isinstance(memory, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{settings.source}: memory.{key} must be a list of tables")
    return entries


def _replace(
    entries: list[dict[str, Any]], new: dict[str, Any], same: Callable[[dict[str, Any]], bool]
) -> None:
    places = [index for index, entry in enumerate(entries) if same(entry)]
    if places:
        entries[places[0]] = new
    else:
        entries.append(new)


def _bytes(size: str, origin: str) -> float:
    parts = re.fullmatch(r"(\d+|\d*\.\d+) ?([a-zA-Z]+)", size.strip())
    if parts is None or parts[2] not in _BYTES:
        raise InputError(f"{origin}: '{size}' is no size; expected one such as 200GB or 64GiB")
    unit: int = _BYTES[parts[2]]
    return float(parts[1]) * unit


def _each(settings: Settings, location: tuple[str, ...]) -> Iterator[Location]:
    if EACH not in location:
        yield location
        return
    start = location.index(EACH)
    (key,) = location[:start]
    groups = settings.values.setdefault(key, [{}])
    for index in range(len(groups) if isinstance(groups, list) else 0):
        yield (key, index, *location[start + 1 :])


def _plain_types(annotation: Any) -> set[Any]:
    """The types that a value may have, None and the members of unions apart."""
    if get_origin(annotation) is Annotated:
        return _plain_types(get_args(annotation)[0])
    if get_origin(annotation) is tuple and Ellipsis in get_args(annotation):
        return _plain_types(get_args(annotation)[0])
    if get_origin(annotation) in (Union, type(int | None)):
        return {t for part in get_args(annotation) for t in _plain_types(part)} - {type(None)}
    return {annotation}


def _is_simple(annotation: Any) -> bool:
    plain = (bool, int, float, str, Path)
    return all(get_origin(t) is Literal or t in plain for t in _plain_types(annotation))


def _metavar(annotation: Any) -> str:
    kinds = _plain_types(annotation)
    choices = [str(c) for t in kinds if get_origin(t) is Literal for c in get_args(t)]
    if choices:
        return f"[{'|'.join(choices)}]"
    return "INTEGER" if kinds == {int} else "NUMBER" if kinds <= {int, float} else "TEXT"

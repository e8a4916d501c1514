"""Policies: the protocols they obey, the built-in ones, and one loader for all of them."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from inspect import get_annotations
from math import isfinite, nan
from operator import attrgetter
from typing import Any

from agentservesim.lookup import near_or_all
from agentservesim.model import InputError
from agentservesim.policies.asking import FAULTS, attribute, fault_of, one_line
from agentservesim.policies.protocols import Admission, InstanceView, Residency, Router, Scheduler, TurnView

__all__ = [
    "FAMILIES",
    "Admission",
    "InstanceView",
    "Residency",
    "Router",
    "Scheduler",
    "TurnView",
    "check_together",
    "list_policies",
    "load_policies",
    "load_policy",
    "policy_spec",
]

_PROTOCOLS: dict[str, type[Any]] = {
    "router": Router,
    "admission": Admission,
    "scheduler": Scheduler,
    "residency": Residency,
}
FAMILIES = tuple(_PROTOCOLS)

_NOT_THERE = object()


def _installed(family: str) -> dict[str, EntryPoint]:
    return _found(family, tuple(sys.path))


@cache
def _found(family: str, path: tuple[str, ...]) -> dict[str, EntryPoint]:
    """The entry points on the module search path; to look through all packages takes milliseconds."""
    return {e.name: e for e in entry_points(group=f"agentservesim.{family}")}


def list_policies(family: str) -> dict[str, str]:
    """Installed policies of a family: name and the first line of the description, or why it has none."""
    return {name: _description(family, name) for name in sorted(_installed(family))}


def _description(family: str, name: str) -> str:
    try:
        return (_named(family, name).__doc__ or "").split("\n")[0]
    except InputError as fault:
        return f"note: this one is broken: {fault}"


def load_policy(family: str, spec: str) -> Any:
    """Make a policy from `name` or `module:Class`, with parameters behind commas: `name,ttl_s=30`.

    Built-in policies are entry points of the group `agentservesim.<family>`, like anybody else's.
    Raises InputError for an unknown name, module, class or parameter, and for a class that lacks
    the family's method.
    """
    name, *assignments = spec.split(",")
    factory = _imported(family, name, *name.split(":", 1)) if ":" in name else _named(family, name)
    parameters = dict(_parameter(factory, spec, text) for text in assignments)
    try:
        policy = factory(**parameters)
    except (TypeError, ValueError) as error:
        raise InputError(f"{family} '{spec}': {one_line(error)}") from None
    except FAULTS as error:
        raise fault_of(f"{family} '{spec}': __init__()", error) from error
    _check(family, policy, name)
    return policy


def load_policies(specs: Mapping[str, str]) -> dict[str, Any]:
    """Make the policies of all families, by family.

    Families that give the same spec share one object, if there is one that serves them all. Raises
    InputError as `load_policy` does.
    """
    made = {family: load_policy(family, spec) for family, spec in specs.items()}
    for spec in set(specs.values()):
        families = [family for family in specs if specs[family] == spec]
        for one in [made[family] for family in families]:
            if all(isinstance(one, _PROTOCOLS[family]) for family in families):
                made |= dict.fromkeys(families, one)
                break
    return made


def check_together(specs: Mapping[str, str], policies: Mapping[str, object]) -> None:
    """Raise InputError for a policy that is not also that of the families it names in `together`."""
    for family, policy in policies.items():
        for other in getattr(policy, "together", ()):
            if policies[other] is not policy:
                raise InputError(
                    f"{family} '{specs[family]}' goes with {other} '{specs[family]}': one policy does both, "
                    f"and {other} is '{specs[other]}'"
                )


def policy_spec(family: str, policy: object) -> str:
    """The spec that would load a policy object: `module:Class,ttl_s=30`.

    Raises InputError if the object lacks the family's method.
    """
    kind = type(policy)
    name = f"{kind.__module__}:{kind.__qualname__}"
    _check(family, policy, name)
    fields = dataclasses.fields(policy) if dataclasses.is_dataclass(policy) else ()
    return ",".join([name, *(f"{f.name}={getattr(policy, f.name)}" for f in fields if f.init)])


def _check(family: str, policy: object, name: str) -> None:
    protocol = _PROTOCOLS[family]
    needed = {method: "method" for method in vars(protocol) if not method.startswith("_")}
    needed |= dict.fromkeys(get_annotations(protocol), "attribute")
    for part, kind in needed.items():
        if attribute(policy, part, f"{family} '{name}'", _NOT_THERE) is _NOT_THERE:
            raise InputError(f"{family} '{name}': a {family} needs the {kind} {part}")


def _named(family: str, name: str) -> Any:
    installed = _installed(family)
    if name not in installed:
        raise InputError(f"unknown {family} '{name}'{near_or_all(name, sorted(installed))}")
    return _imported(family, name, installed[name].module, installed[name].attr)


def _imported(family: str, name: str, module: str, part: str) -> Any:
    try:
        found = import_module(module)
    except (ImportError, SyntaxError, TypeError, ValueError) as error:
        raise InputError(f"{family} '{name}': cannot import '{module}': {one_line(error)}") from None
    except FAULTS as error:
        raise fault_of(f"{family} '{name}': the import of '{module}'", error) from error
    try:
        return attrgetter(part)(found)
    except AttributeError:
        raise InputError(f"{family} '{name}': '{module}' has no '{part}'") from None


def _parameter(factory: Any, spec: str, text: str) -> tuple[str, Any]:
    """One `name=value`, of the type that the dataclass gives the field."""
    key, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"'{spec}': expected name=value behind the comma, not '{text}'")
    if not dataclasses.is_dataclass(factory):
        return key, _guessed(value)
    types = {field.name: field.type for field in dataclasses.fields(factory) if field.init}
    if key not in types:
        hint = near_or_all(key, types) if types else "; it has none"
        raise InputError(f"'{spec}': unknown parameter '{key}'{hint}")
    kind = str(getattr(types[key], "__name__", types[key]))  # a text where annotations are postponed
    try:
        convert = _CONVERTERS.get(kind, _guessed)
        return key, (_time if convert is _finite and key.endswith("_s") else convert)(value)
    except ValueError as error:
        raise InputError(f"'{spec}': {key} must be {error}, got '{value}'") from None


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("true or false")
    return text.lower() == "true"


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("a whole number") from None


def _finite(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = nan
    if not isfinite(number):
        raise ValueError("a finite number")
    return number


def _time(text: str) -> float:
    number = _finite(text)
    if number < 0:
        raise ValueError("at least 0")
    return number


def _guessed(text: str) -> int | float | bool | str:
    """For a parameter of which nobody says the type."""
    for convert in (_whole, _finite, _flag):
        try:
            return convert(text)
        except ValueError:
            continue
    return text


_CONVERTERS: dict[str, Callable[[str], int | float | bool | str]] = {
    "bool": _flag,
    "int": _whole,
    "float": _finite,
    "str": str,
}

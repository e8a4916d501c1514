"""Settings from files and the command line, and what to say when they are wrong.

A setting has a location (`("instances", 0, "gpu")`), a value, and an origin: the file and line, or
the flag, that it came from. Models check the values; a fault becomes one `InputError` line that
names the origin, the fault and what would be right. Nothing here knows what the settings mean.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from agentservesim.lookup import did_you_mean
from agentservesim.model import InputError

Location = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)


@dataclass
class Settings:
    """Values as nested dicts and lists, and where each of them came from."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Location, str] = field(default_factory=dict)
    source: str = ""

    def put(self, location: Location, value: Any, origin: str) -> None:
        """Set one value; tables on the way are made, entries of lists must exist.

        Raises InputError if the location leads through something that is not a table or a list.
        """
        inside: Any = self.values
        for depth, key in enumerate(location):
            last = depth == len(location) - 1
            if isinstance(inside, list):
                if not isinstance(key, int) or not 0 <= key < len(inside):
                    size = f"has {len(inside)} entries, numbered from 0"
                    raise InputError(f"{origin}: no '{key}': '{dotted(location[:depth])}' {size}")
            elif not isinstance(inside, dict):
                raise InputError(f"{origin}: '{dotted(location[:depth])}' is a value and holds no '{key}'")
            elif not last:
                inside.setdefault(key, {})
            if last:
                inside[key] = value
            else:
                inside = inside[key]
        self.origins[location] = origin

    def origin(self, location: Location) -> str:
        """The nearest known origin of a location, or the source as a whole."""
        for end in range(len(location), 0, -1):
            if location[:end] in self.origins:
                return self.origins[location[:end]]
        return self.source


def read_settings(path: Path) -> Settings:
    """Read a TOML or JSON file of settings.

    Raises InputError for a file that cannot be read or parsed, with its line.
    """
    text = read_text(path)
    try:
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not valid JSON: {error.msg}") from None
    except tomllib.TOMLDecodeError as error:
        place = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", str(error))
        line = (place and place[1]) or str(text.count("\n") + 1)
        fault = str(error)[: place.start()] if place else str(error)
        raise InputError(f"{path}:{line}: not valid TOML: {fault}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected an object of settings, found {_shown(values)}")
    origins = dict(_toml_lines(text, str(path))) if path.suffix != ".json" else {}
    return Settings(values, origins, str(path))


def read_text(path: Path) -> str:
    """The text of a file. Raises InputError if there is none, or it is not text."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        beside = [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else []
        raise InputError(f"{path}: no such file{did_you_mean(path.name, beside)}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file (byte {error.start} is not UTF-8)") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def parse_override(text: str) -> tuple[Location, Any]:
    """Split `a.b.0.c=value`; the value is read as TOML where it is TOML, else as a string.

    Raises InputError if there is no `=` or no name.
    """
    name, equals, value = text.partition("=")
    parts = name.strip().split(".")
    if not equals or not all(parts):
        raise InputError(f"--set {text}: expected name=value, for example --set workload.program_rate=2")
    location = tuple(int(part) if part.isdigit() else part for part in parts)
    try:
        return location, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return location, value.strip()


def validate(model: type[Model], settings: Settings) -> Model:
    """Build the model from the settings. Raises InputError with the first fault."""
    _check_numbers(settings, settings.values)
    try:
        built = model.model_validate(settings.values)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        faults = [f for f in faults if f["type"] != "too_short"] or faults
        faults.sort(key=lambda fault: fault["type"] == "missing")  # it may be there under a wrong name
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        location = _real_location(settings.values, faults[0]["loc"])
        raise InputError(_line(settings, location, _fault(model, faults[0], location)) + more) from None
    _check_numbers(settings, built.model_dump())
    return built


def dotted(location: Location) -> str:
    """`instances.0.gpu`."""
    return ".".join(str(part) for part in location)


def _line(settings: Settings, location: Location, fault: str) -> str:
    origin, name = settings.origin(location), dotted(location)
    if origin.startswith("--"):
        return f"{origin.split('=')[0]}: {fault}"
    return ": ".join(part for part in (origin, name, fault) if part)


def _fault(model: type[BaseModel], error: ErrorDetails, location: Location) -> str:
    given, context = error["input"], error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            known = _fields_at(model, location[:-1])
            hint = did_you_mean(str(location[-1]), known) or f"; known here: {', '.join(known)}"
            return f"no such setting{hint}"
        case "missing":
            return "is missing"
        case "literal_error":
            choices = re.findall(r"'([^']*)'", context["expected"])
            hint = did_you_mean(str(given), choices)
            return f"must be one of {', '.join(choices)}, got {_shown(given)}{hint}"
        case "value_error" | "assertion_error":
            return str(context["error"])
        case "int_parsing" | "int_type" | "int_from_float":
            return f"must be a whole number, got {_shown(given)}"
        case "string_pattern_mismatch":
            return f"must match {context['pattern']}, got {_shown(given)}"
        case "string_too_short" | "too_short":
            return "must not be empty"
        case "int_parsing_size":
            return f"must be less than 2^63, got {_shown(given)}"
        case "float_parsing" | "float_type":
            return f"must be a number, got {_shown(given)}"
        case "bool_parsing" | "bool_type":
            return f"must be true or false, got {_shown(given)}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"must be a table of settings, got {_shown(given)}"
        case "tuple_type" | "list_type":
            return f"must be a list, got {_shown(given)}"
    said = error["msg"].replace("Input should be", "must be").replace("greater than or equal to", "at least")
    return f"{said.replace('less than or equal to', 'at most')}, got {_shown(given)}"


def _real_location(values: Any, location: Location) -> Location:
    """Drop from an error's location what is not a setting: the names of union members."""
    real: list[str | int] = []
    inside = values
    for key in location:
        if isinstance(inside, dict):
            real.append(key)
            inside = inside.get(str(key))
        elif isinstance(inside, list) and isinstance(key, int) and key < len(inside):
            real.append(key)
            inside = inside[key]
    return tuple(real)


def _fields_at(model: type[BaseModel], location: Location) -> list[str]:
    """Names of the settings at a location, following nested models and tuples of models."""
    inside: Any = model
    for key in location:
        if isinstance(key, str) and isinstance(inside, type) and issubclass(inside, BaseModel):
            inside = inside.model_fields[key].annotation if key in inside.model_fields else None
        inside = next((part for part in _members(inside) if issubclass(part, BaseModel)), None)
    return list(inside.model_fields) if inside is not None else []


def _members(annotation: Any) -> Iterator[type]:
    origin = get_origin(annotation)
    if origin in (Union, UnionType, tuple, list):
        for part in get_args(annotation):
            yield from _members(part)
    elif isinstance(annotation, type):
        yield annotation


def _check_numbers(settings: Settings, values: object) -> None:
    """Refuse what no result file can hold: infinite numbers, and whole numbers beyond 64 bits."""
    for location, number in _numbers(values, ()):
        if isinstance(number, float) and not math.isfinite(number):
            raise InputError(_line(settings, location, f"must be a finite number, got {number}"))
        if isinstance(number, int) and abs(number) >= 1 << 63:
            raise InputError(_line(settings, location, f"must be less than 2^63, got {number}"))


def _numbers(values: Any, location: Location) -> Iterator[tuple[Location, int | float]]:
    if isinstance(values, (int, float)):
        yield location, values
    elif isinstance(values, dict):
        for key, value in values.items():
            yield from _numbers(value, (*location, key))
    elif isinstance(values, (list, tuple)):
        for index, value in enumerate(values):
            yield from _numbers(value, (*location, index))


def _toml_lines(text: str, source: str) -> Iterator[tuple[Location, str]]:
    """Where each key of a TOML file stands; keys inside inline tables are left to their parent."""
    table: Location = ()
    entries: dict[Location, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[\[\s*([\w.\-]+)\s*\]\]", line):
            name = tuple(header[1].split("."))
            entries[name] = entries.get(name, -1) + 1
            table = (*name, entries[name])
            yield table, f"{source}:{number}"
        elif header := re.match(r"\s*\[\s*([\w.\-]+)\s*\]", line):
            table = tuple(header[1].split("."))
            yield table, f"{source}:{number}"
        elif key := re.match(r"\s*([\w.\-]+)\s*=", line):
            yield (*table, *key[1].split(".")), f"{source}:{number}"


def _shown(value: object) -> str:
    match value:
        case str():
            return f"'{value}'"
        case dict():
            return "a table"
        case list():
            return "a list"
        case None | bool() | int() | float():
            return json.dumps(value)
    return type(value).__name__

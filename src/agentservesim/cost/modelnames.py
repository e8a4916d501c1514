"""Models by name: the shipped catalogue, and `config.json` files."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from agentservesim.cost.modelconfig import from_config
from agentservesim.cost.models import Model
from agentservesim.lookup import did_you_mean
from agentservesim.model import InputError
from agentservesim.settings import read_text

FP8_FORM = "-fp8"
"""What the catalogue's name of a model's fp8 form ends with."""

_FP8 = re.compile(r"-fp8(-dynamic|-block)?$")


def load_model(name: str) -> Model:
    """A model by catalogue name, Hub name, or path of a `config.json` or of the folder that holds one.

    Who published a copy, and in which folder it lies, does not count; `-FP8` at the end of a name means fp8.
    Raises InputError for a name that is neither, and for a config that cannot be read.
    """
    path = Path(name)
    if path.suffix == ".json" or path.is_dir():
        return _read_config(path / "config.json" if path.is_dir() else path)
    key = catalogued_model(name)
    if key is None:
        hint = did_you_mean(_last(name), _names())
        raise InputError(
            f"model: '{name}' is not in the catalogue and is no config.json (see `list models`){hint}"
        )
    return _catalogued(key)


def catalogued_model(name: str) -> str | None:
    """The catalogue's name of a model, with `-fp8` behind it for its fp8 form; None if it is not there."""
    last, names = _last(name), _names()
    if last in names:
        return names[last]
    base = names.get(_FP8.sub("", last))
    return f"{base}{FP8_FORM}" if base is not None and _FP8.search(last) else None


def _last(name: str) -> str:
    """The model's part of a Hub name, of a path, or of a folder of the Hub's cache."""
    cached = re.search(r"models--[^/]*?--([^/]+)", name)
    return (cached[1] if cached else name.rstrip("/").rsplit("/", 1)[-1]).lower()


def list_models() -> dict[str, str]:
    """Catalogue names with a one-line description."""
    lines = {}
    for name, entry in _catalogue().items():
        model = _catalogued(name)
        billions, active = model.parameters / 1e9, model.active_parameters / 1e9
        sparse = f", {active:.1f} B active" if active < 0.7 * billions else ""
        kv = model.kv_bytes_per_token() / 1024
        lines[name] = f"{entry['hub']}: {billions:.1f} B parameters{sparse}, {kv:.0f} KiB of KV a token"
    return lines


def _read_config(path: Path) -> Model:
    try:
        config = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON ({error.msg})") from None
    if not isinstance(config, dict):
        raise InputError(f"{path}: a config.json holds one object, this is a {type(config).__name__}")
    return from_config(config, path.resolve().parent.name, str(path))


@cache
def _catalogued(key: str) -> Model:
    base = key.removesuffix(FP8_FORM)
    model = from_config(_catalogue()[base]["config"], key, f"catalogue entry '{base}'")
    return model if key == base or model.quantization != "none" else replace(model, quantization="fp8")


@cache
def _catalogue() -> dict[str, dict[str, Any]]:
    text = resources.files("agentservesim.cost").joinpath("catalogue/models.toml").read_text("utf-8")
    return tomllib.loads(text)


@cache
def _names() -> dict[str, str]:
    """Catalogue entries by every name they go by, in lower case and without the publisher."""
    return {
        name: key
        for key, entry in _catalogue().items()
        for name in (key, entry["hub"].lower().rsplit("/", 1)[-1], *entry.get("aliases", ()))
    }

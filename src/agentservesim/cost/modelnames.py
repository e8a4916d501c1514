"""Models by name: the shipped catalogue, and `config.json` files."""

from __future__ import annotations

import json
import tomllib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from agentservesim.cost.modelconfig import from_config
from agentservesim.cost.models import Model
from agentservesim.lookup import did_you_mean
from agentservesim.model import InputError
from agentservesim.settings import read_text


def load_model(name: str) -> Model:
    """A model by catalogue name, Hub name, or path of a `config.json` or of the folder that holds one.

    Raises InputError for a name that is neither, and for a config that cannot be read.
    """
    path = Path(name)
    if path.suffix == ".json" or path.is_dir():
        return _read_config(path / "config.json" if path.is_dir() else path)
    names = _names()
    key = names.get(name.lower())
    if key is None:
        hint = did_you_mean(name.lower(), names)
        raise InputError(
            f"model: '{name}' is not in the catalogue and is no config.json (see `list models`){hint}"
        )
    return _catalogued(key)


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
    return from_config(_catalogue()[key]["config"], key, f"catalogue entry '{key}'")


@cache
def _catalogue() -> dict[str, dict[str, Any]]:
    text = resources.files("agentservesim.cost").joinpath("catalogue/models.toml").read_text("utf-8")
    return tomllib.loads(text)


@cache
def _names() -> dict[str, str]:
    """Every lower-case name a catalogue entry goes by."""
    names = {}
    for key, entry in _catalogue().items():
        hub = entry["hub"].lower()
        for name in (key, hub, hub.rsplit("/", 1)[-1], *entry.get("aliases", ())):
            names[name] = key
        for alias in entry.get("aliases", ()):
            names[f"{hub.split('/', 1)[0]}/{alias}"] = key
    return names

"""Accelerators: what their data sheets promise, each with its source."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

from agentservesim.cost.config import Efficiency
from agentservesim.lookup import near_or_all
from agentservesim.model import InputError


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One accelerator. FLOP/s are dense peaks; link and host figures are one direction.

    `fp8_flops` is 0 where there are no fp8 tensor cores. `memory_bytes` is what the driver reports, `max_w`
    the limit of the board's power, `compute_capability` CUDA's number of the architecture, `usd_per_hour` a
    published rent (None: none was found). `efficiency` is what a profile of it says, where no measurements
    ship with the package.
    """

    name: str
    title: str
    bf16_flops: float
    fp8_flops: float
    memory_bytes: int
    memory_bytes_per_s: float
    compute_capability: float
    multiprocessors: int
    l2_bytes: float
    link: Literal["nvlink", "pcie"]
    link_bytes_per_s: float
    max_w: float
    source: str
    usd_per_hour: float | None = None
    price_source: str = "none: give gpu_usd_per_hour"
    efficiency: Efficiency | None = None
    efficiency_source: str = ""

    def peak_flops(self, fp8: bool) -> float:
        """Dense peak for 16-bit or, where there is one, for 8-bit numbers."""
        return self.fp8_flops if fp8 and self.fp8_flops else self.bf16_flops


_BRANDS = ("nvidia", "geforce")
"""What drivers put before a name."""


def load_accelerator(name: str) -> Accelerator:
    """An accelerator by its catalogue name, or as the driver names it; case, spaces and hyphens do not count.

    Raises InputError with a suggestion for an unknown name.
    """
    key = catalogued_gpu(name)
    if key is None:
        hint = near_or_all(_letters(name), _catalogue())
        raise InputError(f"gpu: '{name}' is not in the catalogue (see `list gpus`){hint}")
    entry = {field: value for field, value in _catalogue()[key].items() if field != "aliases"}
    entry["memory_bytes"] = int(entry["memory_bytes"])
    if "efficiency" in entry:
        entry["efficiency"] = Efficiency(**entry["efficiency"])
    return Accelerator(name=key, **entry)


def catalogued_gpu(name: str) -> str | None:
    """The catalogue's name of an accelerator; None if it is not there."""
    return _spellings().get(_letters(name))


def _letters(name: str) -> str:
    letters = "".join(filter(str.isalnum, name.lower()))
    for brand in _BRANDS:
        letters = letters.removeprefix(brand)
    return letters


@cache
def _spellings() -> dict[str, str]:
    """Catalogue names by every name they go by."""
    catalogue = _catalogue()
    return {
        _letters(name): key for key, entry in catalogue.items() for name in (key, *entry.get("aliases", ()))
    }


def list_gpus() -> dict[str, str]:
    """Catalogue names with a one-line description."""
    return {
        name: f"{entry['title']}: {entry['bf16_flops'] / 1e12:.0f} TFLOP/s bf16, "
        f"{entry['memory_bytes_per_s'] / 1e12:.2f} TB/s, {entry['memory_bytes'] / 2**30:.1f} GiB"
        for name, entry in _catalogue().items()
    }


@cache
def _catalogue() -> dict[str, dict[str, Any]]:
    text = resources.files("agentservesim.cost").joinpath("catalogue/accelerators.toml").read_text("utf-8")
    return tomllib.loads(text)

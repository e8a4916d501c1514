"""Accelerators: what their data sheets promise, each with its source."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

from agentservesim.cost.lookup import suggest
from agentservesim.model import InputError


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One accelerator. FLOP/s are dense peaks; link and host figures are one direction.

    `fp8_flops` is 0 where there are no fp8 tensor cores. `memory_bytes` is what the driver reports.
    """

    name: str
    title: str
    bf16_flops: float
    fp8_flops: float
    memory_bytes: int
    memory_bytes_per_s: float
    link: Literal["nvlink", "pcie"]
    link_bytes_per_s: float
    host_bytes_per_s: float
    source: str

    def peak_flops(self, fp8: bool) -> float:
        """Dense peak for 16-bit or, where there is one, for 8-bit numbers."""
        return self.fp8_flops if fp8 and self.fp8_flops else self.bf16_flops


def load_accelerator(name: str) -> Accelerator:
    """An accelerator by its catalogue name (or a vendor-like spelling: case, spaces and '_' do not count).

    Raises InputError with a suggestion for an unknown name.
    """
    catalogue = _catalogue()
    key = name.lower().replace("_", "-").replace(" ", "-")
    if key not in catalogue:
        raise InputError(f"gpu: '{name}' is not in the catalogue (see `list gpus`){suggest(key, catalogue)}")
    entry = dict(catalogue[key])
    entry["memory_bytes"] = int(entry["memory_bytes"])
    return Accelerator(name=key, **entry)


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

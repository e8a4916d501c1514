"""Accelerators: what their data sheets promise, each with its source."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

from agentservesim.lookup import did_you_mean
from agentservesim.model import InputError


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One accelerator. FLOP/s are dense peaks; link and host figures are one direction.

    `fp8_flops` is 0 where there are no fp8 tensor cores. `memory_bytes` is what the driver reports, `max_w`
    the limit of the board's power, `compute_capability` CUDA's number of the architecture, `usd_per_hour` a
    published rent (None: none was found).
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

    def peak_flops(self, fp8: bool) -> float:
        """Dense peak for 16-bit or, where there is one, for 8-bit numbers."""
        return self.fp8_flops if fp8 and self.fp8_flops else self.bf16_flops


def load_accelerator(name: str) -> Accelerator:
    """An accelerator by its catalogue name; case, spaces and hyphens do not count.

    Raises InputError with a suggestion for an unknown name.
    """
    catalogue = _catalogue()
    spellings = {_letters(key): key for key in catalogue}
    key = spellings.get(_letters(name))
    if key is None:
        hint = did_you_mean(name.lower(), catalogue)
        raise InputError(f"gpu: '{name}' is not in the catalogue (see `list gpus`){hint}")
    entry = dict(catalogue[key])
    entry["memory_bytes"] = int(entry["memory_bytes"])
    return Accelerator(name=key, **entry)


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))


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

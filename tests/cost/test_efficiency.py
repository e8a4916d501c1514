"""Efficiencies of the roofline: where they come from, and that the catalogue's are what its script fits."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from agentservesim.cost import CostConfig, build_cost
from agentservesim.cost.accelerators import load_accelerator

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ROOT.parent / "shared/data/profiles/RTX4090/meta-llama/Llama-3.1-8B/bf16"


def _provenance(**config: object) -> str:
    cost = build_cost(
        CostConfig.model_validate({"model": "llama-3.1-8b", **config}),
        block_size=16,
        max_num_batched_tokens=2048,
        max_num_seqs=64,
    )
    return cost.provenance["step_time"]


def test_who_says_how_much_is_reached() -> None:
    """What is given, else what its measurements say, else its profile, else the defaults."""
    assert "given efficiencies: compute 0.5," in _provenance(gpu="rtx-4090", efficiency={"compute": 0.5})
    assert "measured operators: " in _provenance(gpu="l40s", step_time="roofline")
    assert "fitted to LLMServingSim's profile" in _provenance(gpu="rtx-4090")
    assert "default efficiencies: compute 0.7," in _provenance(gpu="a10g")


def test_the_catalogue_has_what_the_script_fits() -> None:
    if not PROFILE.is_dir():
        pytest.skip(f"no profile in {PROFILE}")
    script = [sys.executable, ROOT / "scripts/fit_efficiency.py", "llama-3.1-8b", "rtx-4090", PROFILE]
    printed = subprocess.run(script, check=True, capture_output=True, text=True).stdout
    known = load_accelerator("rtx-4090").efficiency
    assert known is not None
    fitted = tomllib.loads(printed)["rtx-4090"]["efficiency"]
    assert {name: getattr(known, name) for name in fitted} == fitted
    assert set(fitted) == known.model_fields_set

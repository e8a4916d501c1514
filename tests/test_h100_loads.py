"""A real H100 under load, with shipped tables and default engine constants."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "validation/h100_loads.py"


@pytest.mark.parametrize("requests", [1181, 3597])
def test_latencies_are_within_four_percent(requests: int) -> None:
    spec = importlib.util.spec_from_file_location("h100_loads", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    loads = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loads)
    errors = {name: error for name, (error, _) in loads.errors(requests).items()}
    for name in ("TTFT mean", "TPOT mean", "E2E mean"):
        assert abs(errors[name]) <= 0.04, errors
    for name in ("TPOT p99", "E2E p99"):
        assert abs(errors[name]) <= 0.08, errors


def test_another_load_and_mix_of_that_server() -> None:
    def script(*options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(SCRIPT), *map(str, options)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    found = script("--rate", 0.5, "--prompt", 300, "--output", 16, "--seeds", 1)
    assert found.returncode == 0, found.stderr
    ttft_ms = float(found.stdout.splitlines()[-1].split()[1])
    assert 15 < ttft_ms < 60
    assert script("--prompt", 300).returncode == 2
    assert "give its --rate too" in script("--prompt", 300).stderr

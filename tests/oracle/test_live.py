"""Fresh random cases, the product beside vLLM's own scheduler (`make oracle`)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.oracle.client import Oracle
from tests.oracle.compare import rounding_decides, tally, verdict
from tests.oracle.generate import FAMILIES, MODES, draw

pytestmark = pytest.mark.oracle

CASES_PER_MODE = 34
"""For each of 16 families and 2 modes: 1,088 cases in all."""

FIRST_SEED = int(time.time())
"""Other cases every time; the name of a case says how to draw it again."""


@pytest.fixture(scope="module")
def oracle(vllm_python: Path, shared: Path) -> Iterator[Oracle]:
    with Oracle(vllm_python, shared / "vllm") as started:
        yield started


@pytest.fixture(scope="module")
def total(oracle: Oracle, pytestconfig: pytest.Config) -> Iterator[Counter[str]]:
    """Counts what was compared, and says so at the end."""
    seen: Counter[str] = Counter()
    yield seen
    counts = ", ".join(f"{number:,} {what}" for what, number in seen.items())
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\ncompared with vLLM {oracle.version}, seeds from {FIRST_SEED}: {counts}")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", FAMILIES)
def test_fuzzed_cases(family: str, mode: str, oracle: Oracle, total: Counter[str]) -> None:
    bad: list[str] = []
    for seed in range(FIRST_SEED, FIRST_SEED + CASES_PER_MODE):
        case = draw(family, mode, seed)
        steps = oracle.ask(case)
        if rounding_decides(case, steps):
            total.update(cases_left_out=1)
            continue
        wrong = verdict(case, steps)
        total.update(cases=1, **tally(steps), cases_that_differ=bool(wrong))
        bad += wrong
    assert not bad, "\n".join(bad[:10])

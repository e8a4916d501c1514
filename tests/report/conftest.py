"""Runs that several tests of reports look at; each is made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report import runs


@pytest.fixture(scope="session")
def tiered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.tiered_run(tmp_path_factory.mktemp("runs") / "tiered")


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.plain_run(tmp_path_factory.mktemp("runs") / "plain")


@pytest.fixture(scope="session")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.failed_run(tmp_path_factory.mktemp("runs") / "failed")


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.hostile_run(tmp_path_factory.mktemp("runs") / "hostile")


@pytest.fixture(scope="session")
def large(tiered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More than 100,000 turns."""
    turns = runs.summary_of(tiered)["counts"]["turns"]
    return runs.multiplied(tiered, tmp_path_factory.mktemp("runs") / "large", 100_000 // turns + 1)

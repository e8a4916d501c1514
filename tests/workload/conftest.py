"""Fixtures: traces written to files and read back."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from agentservesim.model import Workload
from agentservesim.workload import ReadOptions, read_trace

Read = Callable[..., Workload]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("traces")


@pytest.fixture(scope="session")
def read(folder: Path) -> Read:
    """read(rows, **options): the workload of a file with these rows."""

    def from_rows(rows: Sequence[dict[str, Any]], **options: Any) -> Workload:
        path = folder / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return read_trace(path, ReadOptions(**options))

    return from_rows


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of recorded traces beside the repository."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "traces"
    if not folder.is_dir():
        pytest.skip(f"the recorded traces are not here ({folder})")
    return folder

"""The recorded traces beside the repository. They are never part of it: without them, tests skip."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

TRACES = Path(__file__).resolve().parents[3] / "shared" / "data" / "traces"


@pytest.fixture(scope="session")
def trace() -> Callable[[str], str]:
    """trace(name): the path of a recorded trace."""

    def path_of(name: str) -> str:
        path = TRACES / name / "requests.jsonl.gz"
        if not path.is_file():
            pytest.skip(f"the recorded trace {name} is not here: {path}")
        return str(path)

    return path_of

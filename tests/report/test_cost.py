"""What a report and a timeline cost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.report.runs import multiplied, summary_of


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="the system does not tell what a child used")
def test_ten_thousand_turns_take_under_three_seconds_and_400_megabytes(tiered: Path, tmp_path: Path) -> None:
    turns = summary_of(tiered)["counts"]["turns"]
    folder = multiplied(tiered, tmp_path / "run", -(-10_000 // turns))
    command = [sys.executable, "-m", "agentservesim", "report", str(folder), "--perfetto"]
    tries = [_used(command) for _ in range(2)]
    assert min(seconds for seconds, _ in tries) < 3.0, "of processor time, start-up included"
    assert max(kibibytes for _, kibibytes in tries) < 400 * 1024
    assert (folder / "report.html").stat().st_size < 5_000_000
    assert (folder / "trace.pftrace").stat().st_size > 100_000


def _used(command: list[str]) -> tuple[float, int]:
    """Processor seconds, and the most memory in KiB."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return used.ru_utime + used.ru_stime, used.ru_maxrss

"""Files appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agentservesim.files import write_whole
from agentservesim.model import InputError


def test_a_file_is_written_over(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"before")
    assert write_whole(target, b"after") == target
    assert target.read_bytes() == b"after"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    for target in (tmp_path, tmp_path / "missing" / "a"):
        with pytest.raises(InputError, match="could not be written: "):
            write_whole(target, b"")
    assert not list(tmp_path.iterdir())


def test_a_pipe_stays_a_pipe(tmp_path: Path) -> None:
    target = tmp_path / "pipe"
    os.mkfifo(target)
    reader = os.open(target, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(target, b"through")
        assert os.read(reader, 100) == b"through"
    finally:
        os.close(reader)
    assert target.is_fifo()

"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from agentservesim.model import InputError


def write_whole(target: Path, content: bytes) -> Path:
    """Write a file in its place at once, and return it. Raises InputError if that cannot be done.

    What is there and is no file, as /dev/stdout, is written to as it is.
    """
    try:
        if target.exists() and not target.is_file():
            target.write_bytes(content)
        else:
            _replace(target, content)
    except OSError as error:
        raise InputError(f"{target}: could not be written: {error.strerror or error}") from None
    return target


def _replace(target: Path, content: bytes) -> None:
    handle, draft = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(draft).chmod(0o644)
        Path(draft).replace(target)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise

"""What commands print on stdout, and the codes with which they exit (0 is good)."""

from __future__ import annotations

import errno
import os
import sys

BUG, BAD_INPUT, MISSED, INTERRUPTED = 1, 2, 99, 130


def print_rows(rows: dict[str, str], indent: str = "") -> None:
    """Print labels and texts, aligned."""
    width = max(map(len, rows), default=0)
    for label, text in rows.items():
        print(f"{indent}{label:{width}}  {text}")


def print_json(value: object) -> None:
    """Print a value as JSON."""
    import orjson

    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")


def stdout_is_gone(error: Exception) -> bool:
    """Whether an error says that nothing can be printed any more: nobody reads it, or the disk is full."""
    lost = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO)
    return isinstance(error, OSError) and error.filename is None and error.errno in lost


def discard_stdout() -> None:
    """Let what is still to be printed go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

"""Signs of life on stderr, shown only to a person at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext


def reading(source: str, quiet: bool) -> AbstractContextManager[object]:
    """A spinner while a source is read."""
    if quiet or not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status(f"reading {source}")


@contextmanager
def counting(turns: int, quiet: bool) -> Iterator[Callable[[int], None] | None]:
    """A bar over the turns of a run; gives the function that moves it, or None."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("simulating", BarColumn(), MofNCompleteColumn(), "turns", TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=turns)
        yield lambda done: bar.update(task, completed=done)

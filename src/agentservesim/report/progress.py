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
    with _bar("turns", quiet) as move:
        yield None if move is None else lambda done: move(done, turns)


def counting_runs(quiet: bool) -> AbstractContextManager[Callable[[int, int], None] | None]:
    """A bar over the runs of an experiment; gives the function that moves it, or None."""
    return _bar("runs", quiet)


@contextmanager
def _bar(what: str, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("simulating", BarColumn(), MofNCompleteColumn(), what, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)

"""Names that are nearly right."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that is most like `name`, or None if none is; a cutoff of 1 wants the very name."""
    close = get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return close[0] if close else None


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`; did you mean 'x'?` for the nearest known name, or nothing."""
    near = nearest(name, known, cutoff)
    return f"; did you mean '{near}'?" if near is not None else ""


def near_or_all(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or where nothing is near `; there are x, y`."""
    names = list(known)
    return did_you_mean(name, names) or f"; there are {', '.join(names)}"

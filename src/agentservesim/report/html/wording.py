"""Numbers and facts of a run as a reader wants them."""

from __future__ import annotations


def seconds(value: float | None) -> str:
    """A duration in the unit that suits it: 85 ms, 1.20 s, 2.5 min, 6.9 h."""
    if value is None:
        return "none"
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if abs(value) >= 2 * size:
            return f"{number(value / size)} {unit}"
    return f"{number(value)} s" if abs(value) >= 1 or value == 0 else f"{number(value * 1e3)} ms"


def number(value: float) -> str:
    """About three digits: 1,234, 12.3, 1.2, 0.0123."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == 0 else f"{value:.3g}"


def share(value: float | None) -> str:
    """A share as per cent: 44%, 5.7%, under 0.1%."""
    if value is None:
        return "none"
    if 0 < value < 0.001:
        return "under 0.1%"
    return f"{value:.0%}" if value >= 0.1 or value == 0 else f"{value:.1%}"


def per_hour(per_s: float | None) -> str:
    """What happens so often a second, by the hour: 123/h."""
    return "none" if per_s is None else f"{number(per_s * 3600)}/h"


def amount(value: float) -> str:
    """Bytes: 7.8 TB."""
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= size:
            return f"{number(value / size)} {unit}"
    return f"{value:.0f} B"

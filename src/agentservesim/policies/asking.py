"""How policies are asked: how often, and whose fault it is when they fail."""

from __future__ import annotations

from math import isfinite

from agentservesim.model import InputError, to_ps


def fault_of(call: str, error: Exception) -> InputError:
    """What to raise where a policy raised an error: its own InputError, or else one that names the call."""
    if isinstance(error, InputError):
        return error
    return InputError(f"{call} raised {type(error).__name__}: {error}")


def tick_ps(policy: object, name: str) -> int:
    """How often a policy wants to be asked, in picoseconds; 0 for never.

    Raises InputError that begins with its `name` if its `tick_s` is no time.
    """
    tick_s = getattr(policy, "tick_s", 0.0) or 0.0
    if not (isinstance(tick_s, (int, float)) and isfinite(tick_s) and tick_s >= 0):
        raise InputError(f"{name}: tick_s is {tick_s!r}; it must be a time in seconds, 0 for never")
    return to_ps(tick_s)

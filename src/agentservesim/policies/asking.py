"""How policies are asked: how often, and whose fault it is when they fail."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any, SupportsFloat

from agentservesim.model import InputError, to_ps

FAULTS = (Exception, SystemExit)
"""What a policy may raise that is its fault; an interrupt is nobody's."""

GREATEST_WHOLE = 1 << 63


def fault_of(call: str, error: BaseException) -> InputError:
    """What to raise where a policy raised an error: one line that begins with the call."""
    text = one_line(error)
    if isinstance(error, InputError):
        return InputError(f"{call}: {text}")
    return InputError(f"{call} raised {type(error).__name__}" + (f": {text}" if text else ""))


def one_line(error: BaseException) -> str:
    """The text of an error, whatever it is."""
    try:
        return " ".join(str(error).split())
    except FAULTS:
        return "(it has no text)"


def attribute(policy: object, part: str, name: str, default: Any = None) -> Any:
    """What a policy has under a name, or the default. Raises InputError that begins with the policy's
    `name` if it is a property that fails."""
    try:
        return getattr(policy, part, default)
    except FAULTS as error:
        raise fault_of(f"{name}: {part}", error) from error


def tick_ps(policy: object, name: str) -> int:
    """How often a policy wants to be asked, in picoseconds; 0 for never, if it has no `tick_s`, or None.

    Raises InputError that begins with its `name` if its `tick_s` is no time above 0.
    """
    tick_s = attribute(policy, "tick_s", name)
    if tick_s is None:
        return 0
    if not (isinstance(tick_s, (int, float)) and isfinite(tick_s) and to_ps(tick_s) > 0):
        raise InputError(f"{name}: tick_s is {tick_s!r}; it must be a time in seconds, above 0")
    return to_ps(tick_s)


def figures(policy: object, name: str) -> dict[str, int | float] | None:
    """What a policy says of itself at the end; None if it says nothing.

    Raises InputError that begins with its `name` if that fails, or is no mapping of names to numbers.
    """
    call = attribute(policy, "figures", name)
    if call is None:
        return None
    try:
        answer = call()
        if isinstance(answer, Mapping) and all(map(_is_figure, answer.items())):
            return {key: _number(value) for key, value in answer.items()}
    except FAULTS as error:
        raise fault_of(f"{name}: figures()", error) from error
    raise InputError(f"{name}: figures() returned {answer!r}; it must map names to numbers")


def _is_figure(item: tuple[object, object]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], SupportsFloat)


def _number(value: Any) -> int | float:
    """Plain numbers as they are, others, such as numpy's, as floats."""
    if type(value) in (bool, float) or (type(value) is int and abs(value) < GREATEST_WHOLE):
        return value  # type: ignore[no-any-return]
    return float(value)

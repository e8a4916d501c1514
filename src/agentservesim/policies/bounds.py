"""What numbers the parameters of policies may be: checked when a policy is made."""

from __future__ import annotations

from collections.abc import Callable


def at_least(policy: object, least: float, *names: str) -> None:
    """Raises ValueError unless these parameters are no less than `least`."""
    _check(policy, names, lambda value: value >= least, f"at least {least:g}")


def above(policy: object, limit: float, *names: str) -> None:
    """Raises ValueError unless these parameters are more than `limit`."""
    _check(policy, names, lambda value: value > limit, f"above {limit:g}")


def share(policy: object, *names: str) -> None:
    """Raises ValueError unless these parameters are from 0 to 1."""
    _check(policy, names, lambda value: 0 <= value <= 1, "from 0 to 1")


def below(policy: object, limit: float, *names: str) -> None:
    """Raises ValueError unless these parameters are less than `limit`."""
    _check(policy, names, lambda value: value < limit, f"below {limit:g}")


def ascending(policy: object, lower: str, upper: str) -> None:
    """Raises ValueError if one parameter is more than another."""
    most = getattr(policy, upper)
    _check(policy, (lower,), lambda value: value <= most, f"at most {upper} ({most:g})")


def _check(policy: object, names: tuple[str, ...], is_good: Callable[[float], bool], must: str) -> None:
    for name in names:
        value = getattr(policy, name)
        if not is_good(value):
            raise ValueError(f"{name} must be {must}, got {value:g}")

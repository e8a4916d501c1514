"""Energy and money of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentservesim.cost.power import Power

Expenses = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Use:
    """An instance's accelerators, and how long they were at work, in picoseconds."""

    accelerators: int
    power: Power
    prefill_ps: int
    decode_ps: int


def expenses(uses: Sequence[Use], span_ps: int, programs: int, output_tokens: int) -> Expenses:
    """Joules and dollars of all accelerators over `span_ps`, and for each program and output token.

    Dollars are None where a price is unknown, and shares where there is nothing to share among.
    """
    energy_j = sum(u.accelerators * u.power.energy_j(span_ps, u.decode_ps, u.prefill_ps) for u in uses)
    rents = [u.power.usd(span_ps) for u in uses]
    known = [u.accelerators * rent for u, rent in zip(uses, rents, strict=True) if rent is not None]
    usd = sum(known) if len(known) == len(uses) else None
    return {
        "energy_j": energy_j,
        "energy_per_program_j": _share(energy_j, programs),
        "energy_per_million_output_tokens_j": _share(energy_j, output_tokens / 1e6),
        "usd": usd,
        "usd_per_program": _share(usd, programs),
        "usd_per_million_output_tokens": _share(usd, output_tokens / 1e6),
    }


def _share(total: float | None, parts: float) -> float | None:
    return None if total is None or not parts else total / parts

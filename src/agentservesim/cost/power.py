"""What an accelerator draws and what it costs to rent.

It draws one power while idle, one in steps that only decode, one in steps with prefill. Where the user
gives none, they are shares of the board's limit (`max_w`, the data sheet's), as measured on H200s (700 W):

- idle with a loaded model 80 W (attested measurement published at api.serialalice.pt, June 2026);
- decode 137 to 300 W, the most at the batch sizes of servers (arXiv 2605.11999): 300 W is taken;
- full load 662 W (the same attested measurements).

Idle boards differ: an H100 draws 72 W bare, and a CUDA context adds 26 to 50 W to that, on an L40S 66 W
(arXiv 2605.23918). Who asks about idle fleets should give `gpu_idle_w`.

Rents are those of the catalogue of accelerators, each with its source and date.
"""

from __future__ import annotations

from dataclasses import dataclass

from agentservesim.cost.accelerators import Accelerator
from agentservesim.cost.config import CostConfig
from agentservesim.model import to_s

IDLE, DECODE, PREFILL = 80 / 700, 300 / 700, 662 / 700
"""Shares of the board's power limit."""


@dataclass(frozen=True, slots=True)
class Power:
    """Watts of one accelerator in each state, and dollars for an hour of it (None: unknown)."""

    idle_w: float
    decode_w: float
    prefill_w: float
    usd_per_hour: float | None

    def energy_j(self, span_ps: int, decode_ps: int, prefill_ps: int) -> float:
        """Joules of one accelerator in `span_ps`, of which it decodes and prefills so long."""
        idle_ps = max(0, span_ps - decode_ps - prefill_ps)
        busy_j = self.decode_w * to_s(decode_ps) + self.prefill_w * to_s(prefill_ps)
        return busy_j + self.idle_w * to_s(idle_ps)

    def usd(self, span_ps: int) -> float | None:
        """Dollars of one accelerator for `span_ps`, idle or not."""
        return None if self.usd_per_hour is None else self.usd_per_hour * to_s(span_ps) / 3600


def power_of(config: CostConfig, accelerator: Accelerator) -> Power:
    """Watts and price: the user's where given, else the defaults."""

    def given(value: float | None, share: float) -> float:
        return accelerator.max_w * share if value is None else value

    price = config.gpu_usd_per_hour
    return Power(
        given(config.gpu_idle_w, IDLE),
        given(config.gpu_decode_w, DECODE),
        given(config.gpu_prefill_w, PREFILL),
        accelerator.usd_per_hour if price is None else price,
    )

"""The clock that an accelerator's power limit sustains."""

from __future__ import annotations

import numpy as np

from agentservesim.cost.curves import Array, Curve

BOOST_US = 30e3
"""How long the clock of short kernels is kept under dense work; chosen with a recorded H100 in view."""

LONG = 8192
"""Tokens from which on a kernel is so long that it shows the clock after that."""

SLOWEST = 0.8
"""The lowest share of the clock that counts as one: a B200 was seen to lose 19 % (FlashInfer, pull request
2899). Kernels that are slower still are other kernels (GB200)."""


def sustained(dense: Curve, measured: Array, stages: int) -> Curve:
    """Dense work of a step, in microseconds by tokens, at the clock that is left when power runs out.

    A benchmark repeats one kernel of a fraction of a millisecond, with pauses between. In a step the linear
    layers of a whole model follow one another, power runs out, and the clock falls. The longest kernels that
    were `measured` have run out of it: an H100 takes a tenth more time a token at 16,384 tokens than at
    2,048. So a step goes at the measured rate for `BOOST_US` on each of the `stages` of its pipeline, and
    what is left of its tokens take what a token takes in the slowest of the long kernels.
    """
    tokens, us = dense
    a_token = us / tokens
    long = np.isin(tokens, measured[measured >= LONG])
    if not long.any() or (slow := float(a_token[long].max())) * SLOWEST > a_token.min():
        return dense
    boost = stages * BOOST_US
    left = tokens * (1.0 - boost / np.maximum(us, boost))
    return Curve(tokens, np.where(us > boost, np.maximum(us, boost + left * slow), us))

"""Named random streams: one seed for a run, one stream for each purpose.

Drawing more from one stream never moves another, so a change of, say, tool times leaves the
arrivals of a run as they were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from numpy.random import Generator


def stream(seed: int, name: str) -> Generator:
    """The generator for the purpose `name` in a run with `seed` (a non-negative integer)."""
    from numpy.random import PCG64, Generator, SeedSequence

    return Generator(PCG64(SeedSequence([seed, crc32(name.encode())])))

"""Named random streams: one seed for a run, one stream for each purpose.

Drawing more from one stream never moves another, so a change of, say, tool times leaves the
arrivals of a run as they were.
"""

from __future__ import annotations

from zlib import crc32

from numpy.random import PCG64, Generator, SeedSequence


def stream(seed: int, name: str) -> Generator:
    """The generator for the purpose `name` in a run with `seed` (a non-negative integer)."""
    return Generator(PCG64(SeedSequence([seed, crc32(name.encode())])))

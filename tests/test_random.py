"""Named random streams."""

from __future__ import annotations

from agentservesim.random import stream


def test_streams_are_independent_and_repeat() -> None:
    draws = {
        (seed, name): tuple(stream(seed, name).integers(0, 2**63, 4)) for seed in (0, 1) for name in "ab"
    }
    assert len(set(draws.values())) == 4
    assert tuple(stream(1, "a").integers(0, 2**63, 4)) == draws[1, "a"]


def test_a_stream_is_the_same_on_every_platform() -> None:
    """PCG64 seeded by (seed, crc32 of the name): these numbers must never change."""
    assert stream(7, "arrivals").integers(0, 1000, 6).tolist() == [795, 501, 220, 861, 453, 46]

"""The tables of a run whose KV is pinned or moved: copies, states over time, instances, links.

Times inside are integer picoseconds, and byte-seconds 128 bits wide; see `tables.published`.
"""

from __future__ import annotations

import polars as pl

from agentservesim.results.recorder import Pool, Recorder

STATES = ("active", "pinned", "cached", "in_flight", "free")

MEMORY_COLUMNS: dict[str, str] = {
    "link": "the two tiers that the link joins, the faster one first",
    "verb": "demote and spill go down, promote comes up; move and replicate come from another instance",
    "source": "index of the instance whose KV it is: another one's where it is moved or replicated",
    "bytes": "KV bytes, over all ranks",
    "asked_s": "the copy was asked for",
    "start_s": "the link began with it",
    "end_s": "its last byte arrived",
    "time_s": "from this moment on, until the tier's next row",
    "tier": "the tier; the rows of one that is shared are those of the first instance that shares it",
    "active_bytes": "held by requests",
    "pinned_bytes": "held by pins, and not by requests before them",
    "cached_bytes": "evictable content",
    "in_flight_bytes": "held by nothing but copies under way, as source or destination",
    "free_bytes": "without content",
    "held_in_gap_byte_s": "KV pinned times how long; what several pins share counts for each",
    "pinned_byte_s": "pinned_bytes of HBM, summed over time",
    "in_flight_byte_s": "in_flight_bytes of HBM, summed over time",
    "pool_byte_s": "size of the HBM pool times the time until the run's last event",
    "forced_unpins": "pins broken before their time because blocks were short",
    "direction": "down to the slower tier, up to the faster one; down is out to the network, up in from it",
    "links": "physical links of this name",
    "busy_s": "time the links were at work in this direction, summed over them",
    "open_s": "the time until the run's last event, summed over the links",
}
"""What each column of these tables holds; what is not here is in `tables.COLUMNS`."""


def transfer_table(recorder: Recorder) -> pl.DataFrame:
    """One row per copy, in order of their ends."""
    texts = dict.fromkeys(("link", "verb", "program_id", "session_id"), pl.String)
    return pl.DataFrame(recorder.transfers(), schema_overrides=texts).select(
        "instance", "link", "verb", pl.exclude("instance", "link", "verb")
    )


def residency_table(recorder: Recorder) -> pl.DataFrame:
    """One row per tier whenever a gap or a copy begins or ends, a turn is admitted, a session ends or a pin
    breaks, in order of time.
    """
    frame = pl.DataFrame(recorder.changes())
    tier = pl.Series(["hbm", *recorder.tiers]).gather(frame["tier"])
    size = pl.Series([pool.block_bytes for pool in recorder.pools], dtype=pl.Int64).gather(frame["instance"])
    states = [(pl.col(f"{state}_blocks") * size).alias(f"{state}_bytes") for state in STATES]
    return frame.select("instance", "time_ps", tier.alias("tier"), *states)


def instance_table(recorder: Recorder, residency: pl.DataFrame) -> pl.DataFrame:
    """One row per instance: what its HBM was taken by over the whole run."""
    held = [_held(residency, index, recorder.clock_ps) for index in range(len(recorder.pools))]
    wide = {
        "held_in_gap_byte_ps": [memory.pins.held_in_gap_byte_ps for memory in recorder.memories],
        "pinned_byte_ps": [pinned for pinned, _ in held],
        "in_flight_byte_ps": [in_flight for _, in_flight in held],
        "pool_byte_ps": [_size(pool) * recorder.clock_ps for pool in recorder.pools],
    }
    return pl.DataFrame(
        {
            "instance": range(len(recorder.pools)),
            "forced_unpins": [memory.pins.forced_unpins for memory in recorder.memories],
            **{name: pl.Series(values, dtype=pl.Int128) for name, values in wide.items()},
        }
    )


def link_table(recorder: Recorder) -> pl.DataFrame:
    """One row per link and direction, over all links of a name."""
    rows = [
        {
            "link": name,
            "direction": direction,
            "links": len(links),
            "bytes": sum(link.bytes_moved[up] for link in links),
            "busy_ps": sum(link.busy_ps[up] for link in links),
            "open_ps": len(links) * recorder.clock_ps,
        }
        for name, links in recorder.links().items()
        for up, direction in enumerate(("down", "up"))
    ]
    wide = {"links": pl.Int64, "bytes": pl.Int64, "busy_ps": pl.Int128, "open_ps": pl.Int128}
    return pl.DataFrame(rows, schema={"link": pl.String, "direction": pl.String, **wide})


def _held(residency: pl.DataFrame, instance: int, clock_ps: int) -> tuple[int, int]:
    """Bytes of HBM pinned and in flight, summed over time."""
    rows = residency.filter((pl.col("instance") == instance) & (pl.col("tier") == "hbm"))
    lasted = pl.col("time_ps").shift(-1, fill_value=clock_ps) - pl.col("time_ps")
    states = (pl.col(f"{state}_bytes").cast(pl.Int128) for state in ("pinned", "in_flight"))
    pinned, in_flight = rows.select((state * lasted).sum() for state in states).row(0)
    return pinned, in_flight


def _size(pool: Pool) -> int:
    return pool.blocks * pool.block_bytes

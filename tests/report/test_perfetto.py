"""The timeline, read with Perfetto's own classes; its trace processor reads it in `test_perfetto_ui`."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentservesim.report.perfetto import build_trace, write_trace
from agentservesim.report.perfetto.encoding import TraceWriter
from agentservesim.report.perfetto.slices import lanes, program_sample, step_slices, thinned
from agentservesim.report.saved_run import SavedRun, read_run

schema = pytest.importorskip(
    "perfetto.protos.perfetto.trace.perfetto_trace_pb2",
    reason="needs perfetto and protobuf (pip install -e .[dev])",
)
BEGIN, END, INSTANT, COUNTER = 1, 2, 3, 4


@dataclass
class Read:
    """A trace as its reader sees it."""

    names: dict[int, str] = field(default_factory=dict)
    parents: dict[int, int] = field(default_factory=dict)
    events: dict[int, list[Any]] = field(default_factory=lambda: defaultdict(list))

    def path(self, track: int) -> str:
        """The names of a track and all above it."""
        above = self.parents.get(track)
        return f"{self.path(above)}/{self.names[track]}" if above else self.names[track]

    def below(self, group: str) -> dict[str, list[Any]]:
        """The events of the tracks in a group, by path."""
        named = {self.path(track): track for track in self.names}
        return {path: self.events[track] for path, track in named.items() if path.startswith(f"{group}/")}


def read(content: bytes) -> Read:
    trace = schema.Trace()
    trace.ParseFromString(content)
    found = Read()
    for packet in trace.packet:
        if packet.HasField("track_descriptor"):
            track = packet.track_descriptor
            found.names[track.uuid] = track.name or track.process.process_name
            found.parents[track.uuid] = track.parent_uuid
        if packet.HasField("track_event"):
            assert packet.track_event.track_uuid in found.names, "described before it is used"
            found.events[packet.track_event.track_uuid].append((packet.timestamp, packet.track_event))
    return found


@pytest.fixture(scope="module")
def run(tiered: Path) -> SavedRun:
    return read_run(tiered)


@pytest.fixture(scope="module")
def trace(run: SavedRun) -> Read:
    return read(build_trace(run))


def test_slices_nest_and_end(trace: Read) -> None:
    for track, events in trace.events.items():
        depth = 0
        for (before, _), (after, _) in pairwise(events):
            assert before <= after, trace.path(track)
        for _, event in events:
            depth += (event.type == BEGIN) - (event.type == END)
            assert depth >= 0, trace.path(track)
        assert depth == 0, trace.path(track)


def test_each_program_has_its_turns_and_gaps(trace: Read, run: SavedRun) -> None:
    turns = run.table("turns")
    drawn = Counter[str]()
    for path, events in trace.below("Programs").items():
        program = path.split("/")[1]
        drawn[program] += sum(e.type == BEGIN and e.name.startswith("turn ") for _, e in events)
    assert drawn == Counter(turns["program_id"].to_list())
    gaps = sum(
        e.type == BEGIN and e.name == "tools, think time"
        for es in trace.below("Programs").values()
        for _, e in es
    )
    assert gaps == turns.filter(pl.col("gap_s") > 0).height


def test_steps_say_what_is_in_them(trace: Read, run: SavedRun) -> None:
    steps = run.table("steps")
    slices = [e for es in trace.below("Instances").values() for _, e in es if e.type == BEGIN]
    said = [{a.name: a.int_value for a in e.debug_annotations} for e in slices]
    assert sum(one["steps"] for one in said) == steps.height
    assert sum(one["prefill_tokens"] for one in said) == steps["prefill_tokens"].sum()
    assert sum(one["decode_rows"] * one["steps"] for one in said) == steps["decode_rows"].sum()
    assert any(e.name.startswith("prefill ") and " + decode " in e.name for e in slices)


def test_arrows_lead_from_each_turn_to_its_steps(trace: Read, run: SavedRun) -> None:
    starts, ends, through = {}, {}, defaultdict(list)
    for group in ("Programs", "Instances"):
        for events in trace.below(group).values():
            for time, event in events:
                for flow in event.flow_ids:
                    if group == "Programs":
                        starts[flow] = time
                    else:
                        through[flow].append((time, event))
                for flow in event.terminating_flow_ids:
                    ends[flow] = time
    turns = run.table("turns")
    assert len(starts) == len(ends) == turns.height
    assert all(starts[flow] <= ends[flow] for flow in starts)
    for flow, passed in through.items():
        assert all(starts[flow] <= time <= ends[flow] for time, _ in passed)
    first = [min(passed, key=lambda pair: pair[0])[1] for passed in through.values()]
    assert all(event.name.startswith("prefill ") for event in first)


def test_counters_are_the_tables(trace: Read, run: SavedRun) -> None:
    rows = run.table("residency").filter(pl.col("tier") == "dram")
    counter = trace.below("KV by tier")
    (path,) = [path for path in counter if path.endswith("dram cached")]
    assert max(e.counter_value for _, e in counter[path]) == rows["cached_bytes"].max()
    copies = run.table("transfers").filter(pl.col("verb") == "promote")
    (up,) = [events for path, events in trace.below("Links").items() if path.endswith(" up")]
    assert up[-1][1].counter_value == 0, "all that left arrived"
    assert 0 < max(e.counter_value for _, e in up) <= copies["bytes"].sum()
    waiting = [es for path, es in trace.below("Instances").items() if path.endswith("waiting turns")]
    assert all(es[-1][1].counter_value == 0 for es in waiting)


def test_a_run_without_steps_says_how_to_get_them(plain: Path) -> None:
    trace = read(build_trace(read_run(plain)))
    notes = [e.name for events in trace.below("About this trace").values() for _, e in events]
    assert any("--steps" in note for note in notes)
    assert any(note.startswith("plain, seed 0") for note in notes)


def test_a_large_run_is_sampled_and_says_so(large: Path) -> None:
    content = build_trace(read_run(large))
    trace = read(content)
    turns = sum(
        e.type == BEGIN and e.name.startswith("turn ")
        for es in trace.below("Programs").values()
        for _, e in es
    )
    assert 10_000 < turns <= 20_000
    assert len(content) < 50_000_000
    notes = [e.name for events in trace.below("About this trace").values() for _, e in events]
    assert any("every n-th program" in note for note in notes)


def test_it_is_written_beside_the_report(failed: Path) -> None:
    assert write_trace(failed).name == "trace.pftrace"
    assert read((failed / "trace.pftrace").read_bytes()).below("Programs")


def test_names_are_any_text(hostile: Path) -> None:
    trace = read(build_trace(read_run(hostile)))
    assert any("window.hacked" in name for name in trace.names.values())


@given(
    st.text(max_size=20),
    st.integers(0, 2**62),
    st.integers(-(2**63), 2**63 - 1),
    st.lists(st.integers(1, 2**64 - 1), max_size=3),
)
def test_any_value_can_be_written(name: str, time_ns: int, value: int, flows: list[int]) -> None:
    writer = TraceWriter()
    track = writer.track(name, writer.group(name, 1))
    writer.begin(track, time_ns, name, {"value": value, "text": name}, flows[:1], flows[1:])
    writer.end(track, time_ns)
    counter = writer.counter(name, track, "bytes")
    writer.values(counter, [time_ns], [value])
    found = read(bytes(writer))
    (begun, begin), _ = found.events[track]
    written = name.encode("utf-8", "replace").decode()
    assert (begun, begin.name) == (time_ns, written)
    assert [begin.debug_annotations[0].int_value, begin.debug_annotations[1].string_value] == [value, written]
    assert [*begin.flow_ids, *begin.terminating_flow_ids] == flows
    assert found.events[counter][0][1].counter_value == value


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10)), max_size=40))
def test_intervals_of_a_lane_do_not_overlap_and_lanes_are_few(drawn: list[tuple[int, int]]) -> None:
    spans = sorted((start, start + length) for start, length in drawn)
    found = lanes([a for a, _ in spans], [b for _, b in spans])
    by_lane = defaultdict(list)
    for lane, span in zip(found, spans, strict=True):
        by_lane[lane].append(span)
    assert all(a[1] <= b[0] for lane in by_lane.values() for a, b in pairwise(lane))
    assert sorted(by_lane) == list(range(len(by_lane)))


def test_samples_are_spread_and_bounded() -> None:
    assert thinned(5, 10).tolist() == [0, 1, 2, 3, 4]
    assert thinned(101, 3).tolist() == [0, 50, 100]
    assert thinned(0, 3).tolist() == []
    turns = pl.DataFrame({"program_id": [f"p{i // 10}" for i in range(1000)]})
    sample = program_sample(turns, 100)
    assert 50 <= sample.height <= 100
    assert sample["program_id"].value_counts()["count"].unique().to_list() == [10], "whole programs"


def test_steps_that_decode_the_same_batch_are_one_slice() -> None:
    steps = pl.DataFrame(
        [(0, 1, 9, 0, 1), (1, 2, 0, 1, 1), (2, 3, 0, 1, 1), (3, 4, 0, 2, 2), (9, 10, 0, 2, 2)],
        schema=["start_s", "end_s", "prefill_tokens", "decode_rows", "running"],
        orient="row",
    ).with_columns(pl.col("start_s", "end_s").cast(pl.Float64), waiting=pl.lit(0), free_blocks=pl.lit(7))
    slices, slice_of_step = step_slices(steps)
    assert slice_of_step.tolist() == [0, 1, 1, 2, 3]
    assert slices.select("start_s", "end_s", "steps").rows() == [(0, 1, 1), (1, 3, 2), (3, 4, 1), (9, 10, 1)]

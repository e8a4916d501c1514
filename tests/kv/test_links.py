"""Links: times worked out by hand."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agentservesim.kernel import Kernel
from agentservesim.kv.catalogue import LINKS, list_links
from agentservesim.kv.config import LinkConfig
from agentservesim.kv.links import Link, Transfer
from agentservesim.model import PS_PER_S

S = PS_PER_S
DOWN, UP = False, True


class Wire:
    """A link of 100 bytes a second each way, and a log of arrivals: (name, start, end) in seconds."""

    def __init__(self, ranks: int = 1, piece_bytes: float = inf, **changes: object) -> None:
        self.kernel = Kernel()
        figures = {"between": ("hbm", "dram"), "down_bytes_per_s": 100, "up_bytes_per_s": 100, **changes}
        self.link = Link(LinkConfig.model_validate(figures), self.kernel, ranks, piece_bytes)
        self.log: list[tuple[str, float, float]] = []

    def send(self, name: str, size: int, up: bool = DOWN, at_s: float = 0) -> None:
        def done(transfer: Transfer) -> None:
            assert transfer.end_ps == self.kernel.now
            self.log.append((name, transfer.start_ps / S, transfer.end_ps / S))

        self.kernel.at(round(at_s * S), lambda _: self.link.send(size, up, done))

    def run(self) -> list[tuple[str, float, float]]:
        self.kernel.run()
        return self.log


@pytest.mark.parametrize(("field", "most"), [("min_bytes", 1e9), ("latency_s", 1e3), ("overhead_s", 1e3)])
def test_what_no_link_has_is_refused(field: str, most: float) -> None:
    speeds = {"down_bytes_per_s": 1, "up_bytes_per_s": 1}
    LinkConfig.model_validate({"between": ("hbm", "dram"), **speeds, field: most})
    with pytest.raises(ValueError, match=f"{field}\n  Input should be less than or equal to"):
        LinkConfig.model_validate({"between": ("hbm", "dram"), **speeds, field: 1e300})


def test_fifo_transfers_follow_one_another() -> None:
    wire = Wire()
    wire.send("a", 200)
    wire.send("b", 100, at_s=1)
    wire.send("c", 100, at_s=5)
    assert wire.run() == [("a", 0, 2), ("b", 2, 3), ("c", 5, 6)]
    assert wire.link.busy_ps == [4 * S, 0]
    assert wire.link.bytes_moved == [400, 0]


def test_full_duplex_runs_both_ways_at_once() -> None:
    wire = Wire()
    wire.send("down", 200)
    wire.send("up", 100, UP)
    assert wire.run() == [("up", 0, 1), ("down", 0, 2)]


def test_half_duplex_runs_one_way_at_a_time() -> None:
    wire = Wire(duplex="half", up_bytes_per_s=50)
    wire.send("down", 200)
    wire.send("up", 100, UP)
    assert wire.run() == [("down", 0, 2), ("up", 2, 4)]
    assert wire.link.busy_ps == [2 * S, 2 * S]


def test_latency_delays_arrival_and_not_the_next_transfer() -> None:
    wire = Wire(latency_s=10)
    wire.send("a", 100)
    wire.send("b", 100)
    assert wire.run() == [("a", 0, 11), ("b", 1, 12)]


def test_overhead_takes_the_links_time() -> None:
    wire = Wire(overhead_s=1)
    wire.send("a", 100)
    wire.send("b", 100)
    assert wire.run() == [("a", 0, 2), ("b", 2, 4)]


@pytest.mark.parametrize(("piece_bytes", "ends_s"), [(100, [6, 15]), (300, [2, 5]), (500, [2, 5])])
def test_small_pieces_take_as_long_as_the_smallest_efficient_one(
    piece_bytes: float, ends_s: list[int]
) -> None:
    """2 and 3 pieces of 100 bytes, where a piece takes 3 s if it has 300 bytes or fewer."""
    wire = Wire(piece_bytes=piece_bytes, min_bytes=300)
    wire.send("two", 200)
    wire.send("three", 300)
    assert [end for _, _, end in wire.run()] == ends_s
    assert wire.link.bytes_moved == [500, 0]


def test_ranks_move_their_shares_side_by_side() -> None:
    wire = Wire(ranks=4)
    wire.send("a", 400)
    assert wire.run() == [("a", 0, 1)]
    assert wire.link.bytes_moved == [400, 0]


def test_ranks_each_move_small_pieces() -> None:
    wire = Wire(ranks=4, piece_bytes=100, min_bytes=200)
    wire.send("a", 400)
    assert wire.run() == [("a", 0, 2)]


def test_processor_sharing_gives_each_an_equal_share() -> None:
    # a alone for a second (100 of 300 bytes), then half the link each: b's 100 bytes take two
    # seconds, in which a moves 100 too; its last 100 take a second alone.
    wire = Wire(sharing="processor")
    wire.send("a", 300)
    wire.send("b", 100, at_s=1)
    assert wire.run() == [("b", 1, 3), ("a", 0, 4)]


def test_processor_sharing_over_half_duplex_counts_both_directions() -> None:
    wire = Wire(sharing="processor", duplex="half")
    wire.send("a", 100, DOWN)
    wire.send("b", 100, UP)
    assert wire.run() == [("a", 0, 2), ("b", 0, 2)]


def test_processor_sharing_of_three() -> None:
    # Thirds until a (100) is through at 3 s, halves until b (200) is at 5 s, then c (300) alone.
    wire = Wire(sharing="processor")
    for name, size in (("a", 100), ("b", 200), ("c", 300)):
        wire.send(name, size)
    assert wire.run() == [("a", 0, 3), ("b", 0, 5), ("c", 0, 6)]


def test_backlog_is_the_work_before_a_new_transfer() -> None:
    for sharing in ("fifo", "processor"):
        wire = Wire(sharing=sharing)
        wire.send("a", 300)
        wire.send("b", 100)
        seen: list[tuple[int, int]] = []
        wire.kernel.at(
            S, lambda _, w=wire, s=seen: s.append((w.link.backlog_ps(DOWN), w.link.backlog_ps(UP)))
        )
        wire.run()
        assert seen == [(3 * S, 0)]
        assert wire.link.backlog_ps(DOWN) == 0


def test_alone_is_work_and_latency() -> None:
    link = Wire(latency_s=2, overhead_s=1).link
    assert link.alone_ps(300, DOWN) == 6 * S


sends = st.lists(
    st.tuples(st.integers(1, 1000), st.booleans(), st.sampled_from([0, 0, 1, 3, 3.5, 20])), max_size=12
)


@given(sends, st.sampled_from(["fifo", "processor"]), st.sampled_from(["full", "half"]))
def test_links_are_never_idle_while_there_is_work(
    sends: list[tuple[int, bool, float]], sharing: str, duplex: str
) -> None:
    """Whatever the sharing rule, the last byte of a busy period leaves at the same time, and none is lost."""
    one, other = Wire(sharing=sharing, duplex=duplex), Wire(sharing="fifo", duplex=duplex)
    for wire in (one, other):
        for number, (size, up, at_s) in enumerate(sends):
            wire.send(str(number), size, up, at_s)
    here, there = one.run(), other.run()
    assert sorted(name for name, _, _ in here) == sorted(name for name, _, _ in there)
    assert max((end for _, _, end in here), default=0) == pytest.approx(
        max((end for _, _, end in there), default=0), abs=1e-9
    )
    assert one.link.bytes_moved == other.link.bytes_moved
    assert one.link.busy_ps == other.link.busy_ps


@given(sends, st.sampled_from(["fifo", "processor"]))
def test_half_the_bandwidth_is_twice_the_busy_time(
    sends: list[tuple[int, bool, float]], sharing: str
) -> None:
    busy = []
    for rate in (128, 64):
        wire = Wire(sharing=sharing, down_bytes_per_s=rate, up_bytes_per_s=rate)
        for size, up, at_s in sends:
            wire.send("", size, up, at_s)
        wire.run()
        busy.append(wire.link.busy_ps)
    assert busy[1] == [2 * ps for ps in busy[0]]


def test_figures_of_the_catalogue_are_defaults() -> None:
    link = LinkConfig.model_validate({"between": ("hbm", "dram"), "kind": "pcie5-x16", "latency_s": 1.0})
    assert (link.down_bytes_per_s, link.latency_s) == (LINKS["pcie5-x16"].down_bytes_per_s, 1.0)
    assert link.min_bytes == LINKS["pcie5-x16"].min_bytes


def test_every_figure_of_the_catalogue_has_a_source() -> None:
    """`list` shows all figures of a kind, and where they are from."""
    told = list_links()
    assert {"nvlink-c2c-gb200", "cxl2-pool", "cxl3-pool"} < set(told)
    for name, kind in LINKS.items():
        assert kind.min_bytes > 0 < kind.latency_s
        assert kind.source in told[name]
        assert kind.others in told[name]


def test_small_blocks_cost_what_was_measured() -> None:
    """vLLM's move from pieces of a layer (64 KiB of Llama-3.1-8B) to whole blocks gave 4 to 5 times the
    throughput (its offloading blog); LMCache measured 11 GB/s for the former over PCIe 5, 50 for chunks."""
    config = LinkConfig(between=("hbm", "dram"), kind="pcie5-x16")
    whole, layer = (Link(config, Kernel(), piece_bytes=size) for size in (2 << 20, 64 << 10))
    slow, fast = (10**9 / (link.work_ps(10**9, UP) / S) / 1e9 for link in (layer, whole))
    assert slow == pytest.approx(11, rel=0.05)
    assert fast == pytest.approx(50, rel=0.01)


def test_an_unknown_kind_is_named_with_one_that_is_near() -> None:
    with pytest.raises(ValidationError, match=r"unknown link kind 'pcie5-x61'.*pcie5-x16"):
        LinkConfig.model_validate({"between": ("hbm", "dram"), "kind": "pcie5-x61"})

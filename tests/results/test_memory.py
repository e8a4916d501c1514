"""Tables and metrics of memory: against hand-computed values, and their conservation laws in real runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import polars as pl
import pytest

from agentservesim import InstanceConfig, LinkConfig, MemoryConfig, Scenario, TierConfig, WorkloadConfig
from agentservesim.kernel import Kernel
from agentservesim.kv.links import Link
from agentservesim.kv.residency import Residency, TransferRecord
from agentservesim.model import PS_PER_S, InputError
from agentservesim.results import METRICS, Pool, Recorder, Result, make_result
from agentservesim.results.memory_tables import MEMORY_COLUMNS, residency_table, transfer_table
from agentservesim.results.tables import COLUMNS
from agentservesim.scenario import RunError, simulate
from tests.results.test_results import FACTS, FIRST, KNOWN, PROGRAMS, SECOND

S = PS_PER_S


LAST = {name: values[2:] for name, values in KNOWN.items()}


def link(seconds_down: int, seconds_up: int) -> Link:
    """A link of 1 kB/s that was at work for so long."""
    config = LinkConfig(between=("hbm", "slow-ram"), down_bytes_per_s=1000, up_bytes_per_s=1000)
    made = Link(config, Kernel())
    for up, seconds in enumerate((seconds_down, seconds_up)):
        made.bytes_moved[up], made.busy_ps[up] = 1000 * seconds, seconds * S
    return made


def memory(made: Link, blocks: int, held_byte_s: int, unpins: int) -> Residency:
    tier = SimpleNamespace(name="slow-ram", link=made, links={"hbm": made}, pool=object())
    pins = SimpleNamespace(held_in_gap_byte_ps=held_byte_s * S, forced_unpins=unpins)
    parts = {"pins": pins, "copies": SimpleNamespace(), "ledger": SimpleNamespace(sizes=[blocks, 100])}
    return cast(Residency, SimpleNamespace(tiers=(tier,), **parts))


def recorded() -> Recorder:
    """Two instances of 10 and 20 blocks of 100 bytes, for 20 seconds.

    From second 2 to 4 one block of the first is pinned and two are in flight, from 4 to 10 three are pinned;
    on the second, five are in flight from second 15 to the end.
    """
    recorder = Recorder(tiers=["slow-ram"])
    models = [memory(link(4, 1), 10, 1800, 2), memory(link(0, 5), 20, 0, 1)]
    recorder.watch(models, [Pool(10, 100), Pool(20, 100)])
    recorder.turn_done(FIRST)
    recorder.turn_done(replace(SECOND, loaded_tokens={"slow-ram": 64}))
    for snapshot in (
        [0, 2 * S, *(3, 0, 1, 2), *(98, 98, 0, 2)],
        [0, 4 * S, *(3, 0, 3, 0), *(98, 98, 0, 2)],
        [0, 10 * S, *(10, 0, 0, 0), *(98, 98, 0, 2)],
        [1, 15 * S, *(15, 15, 0, 5), *(100, 100, 0, 0)],
    ):
        on_change = models[snapshot[0]].ledger.on_change
        assert on_change is not None
        on_change(snapshot)
    on_transfer = models[0].copies.on_transfer
    assert on_transfer is not None
    on_transfer(TransferRecord(0, "a", "a", "hbm-slow-ram", "demote", 200, 2 * S, 2 * S, 4 * S, 0))
    recorder.clock_ps = 20 * S
    return recorder


def result() -> Result:
    return make_result(FACTS, recorded(), PROGRAMS[:1], {name: values[:2] for name, values in KNOWN.items()})


def test_metrics_by_hand() -> None:
    summary = result().summary
    # 96 of 220 prompt tokens are cached, 64 of them below
    assert summary["tokens"]["cached"] == 96
    assert summary["tokens"]["cached_hbm"] == 32
    assert summary["tokens"]["cached_slow-ram"] == 64
    kv = summary["kv"]
    assert kv["hit_rate"] == pytest.approx({"hbm": 32 / 220, "slow-ram": 64 / 220})
    assert kv["held_in_gap_byte_s"] == 1800
    assert kv["forced_unpins"] == 3
    # pinned 1 x 2 s + 3 x 6 s, in flight 2 x 2 s and 5 x 5 s, of 30 blocks for 20 s
    assert kv["waste_share"] == pytest.approx((2 + 18 + 4 + 25) / (30 * 20))
    # two links of that name, each there for 20 s
    assert kv["bytes_moved"] == {"hbm-slow-ram": {"down": 4000, "up": 6000}}
    assert kv["link_utilisation"]["hbm-slow-ram"] == pytest.approx({"down": 4 / 40, "up": 6 / 40})


def test_tables_by_hand() -> None:
    tables = result().memory
    assert list(tables) == ["transfers", "residency", "instances", "links"]
    first = tables["residency"].row(0, named=True)
    states = {"active": 400, "pinned": 100, "cached": 300, "in_flight": 200, "free": 0}
    assert first == {
        "instance": 0,
        "time_s": 2.0,
        "tier": "hbm",
        **{f"{state}_bytes": size for state, size in states.items()},
    }
    # Only what is new has a row: the slower tier of the first instance has one for its three moments.
    assert tables["residency"]["tier"].to_list() == ["hbm", "slow-ram", "hbm", "hbm", "hbm", "slow-ram"]
    assert tables["transfers"].row(0, named=True) | {"verb": "demote", "bytes": 200, "end_s": 4.0} == (
        tables["transfers"].row(0, named=True)
    )
    assert tables["instances"]["pinned_byte_s"].to_list() == [2000.0, 0.0]
    assert tables["instances"]["pool_byte_s"].to_list() == [20_000.0, 40_000.0]
    for table in tables.values():
        assert set(table.columns) <= MEMORY_COLUMNS.keys() | COLUMNS.keys()
    turns = result().turns
    assert turns.select("cached_hbm_tokens", "cached_slow_ram_tokens").rows() == [(0, 0), (32, 64)]


def test_a_shared_tier_has_rows_of_its_own_whoever_changes_it() -> None:
    recorder = Recorder(tiers=["slow-ram"])
    models = [memory(link(0, 0), blocks, 0, 0) for blocks in (10, 20, 20)]
    models[2].tiers = models[1].tiers
    recorder.watch(models, [Pool(blocks, 100) for blocks in (10, 20, 20)])
    empty, busy = (20, 20, 0, 0), (15, 15, 0, 5)
    for index, time, hbm, shared in ((2, 1, empty, 5), (1, 2, empty, 5), (1, 3, busy, 7), (2, 4, empty, 0)):
        on_change = models[index].ledger.on_change
        assert on_change is not None
        on_change([index, time * S, *hbm, 100 - shared, 100 - shared, 0, shared])
    rows = residency_table(recorder).filter(pl.col("tier") == "slow-ram")
    assert rows.select("instance", "time_ps", "in_flight_bytes").rows() == [
        (1, 1 * S, 500),
        (1, 3 * S, 700),
        (1, 4 * S, 0),
    ]
    hbm = residency_table(recorder).filter(pl.col("tier") == "hbm")
    assert hbm.select("instance", "time_ps").rows() == [(2, 1 * S), (1, 2 * S), (1, 3 * S)]


def test_the_guide_says_of_each_table_what_its_columns_are(tmp_path: Path) -> None:
    guide = (result().save(tmp_path / "run") / "README.md").read_text()
    parts = {part.split(".parquet")[0]: part for part in guide.split("\n## ")[1:]}
    assert "| start_s | the link began with it |" in parts["transfers"]
    for name in ("turns", "transfers", "residency", "instances"):
        assert "| instance | index of the instance, in the fleet |" in parts[name]


def test_without_tiers_and_pins_there_is_nothing_of_them() -> None:
    recorder = Recorder()
    recorder.watch([], [Pool(10, 100)])
    recorder.turn_done(replace(FIRST, program_id="b"))
    done = make_result(FACTS, recorder, PROGRAMS[1:], LAST)
    assert done.memory == {}
    assert "kv" not in done.summary
    assert "cached_hbm" not in done.summary["tokens"]


def test_pins_without_tiers_have_the_tables_but_no_links() -> None:
    recorder = Recorder()
    parts = {"copies": SimpleNamespace(), "ledger": SimpleNamespace(sizes=[10])}
    pins = SimpleNamespace(held_in_gap_byte_ps=5 * S, forced_unpins=0)
    recorder.watch([cast(Residency, SimpleNamespace(tiers=(), pins=pins, **parts))], [Pool(10, 100)])
    recorder.turn_done(replace(FIRST, program_id="b"))
    recorder.clock_ps = 20 * S
    summary = make_result(FACTS, recorder, PROGRAMS[1:], LAST).summary
    assert summary["kv"] == {"held_in_gap_byte_s": 5.0, "waste_share": 0.0, "forced_unpins": 0}


def test_a_run_that_failed_counts_the_programs_that_ended() -> None:
    done = make_result(FACTS, recorded(), PROGRAMS, KNOWN, fault="residency X: it broke")
    assert done.summary["incomplete"] == "residency X: it broke"
    assert done.turns.height == 2
    assert done.programs["program_id"].to_list() == ["a"]
    recorder = Recorder()
    recorder.turn_done(FIRST)
    done = make_result(FACTS, recorder, PROGRAMS, KNOWN, fault="router Y: no")
    assert done.programs.is_empty()
    assert done.summary["program"]["latency_s"]["n"] == 0
    assert done.summary["turn"]["ttft_s"]["n"] == 1


# ---- real runs --------------------------------------------------------------------------------


def scenario(residency: str, **changes: Any) -> Scenario:
    """Six programs of the shipped trace on one instance that is too small for them."""
    tiers = (TierConfig(name="dram", capacity_bytes=40e9), TierConfig(name="ssd", capacity_bytes=1e12))
    links = (
        LinkConfig(between=("hbm", "dram"), kind="pcie5-x16"),
        LinkConfig(between=("hbm", "ssd"), kind="nvme-gen5"),
    )
    return Scenario(
        **{
            "workload": WorkloadConfig(trace="demo", max_programs=6, program_rate=0.2),
            "instances": (InstanceConfig(num_gpu_blocks=11_000),),
            "memory": MemoryConfig(tiers=tiers, links=links),
            "residency": residency,
            **changes,
        }
    )


@pytest.fixture(scope="module")
def demoted() -> Result:
    return simulate(scenario("lmcache"))


@pytest.mark.parametrize("load", ["blocking", "layerwise"])
@pytest.mark.parametrize("policy", ["demote", "pin-always", "infercept", "oracle-gap"])
def test_hits_in_hbm_are_what_was_not_loaded_even_after_preemptions(policy: str, load: str) -> None:
    whole = scenario(policy)
    memory = whole.memory.model_copy(update={"load": load})
    workload = WorkloadConfig(trace="demo", max_programs=12, program_rate=2)
    turns = simulate(whole.model_copy(update={"memory": memory, "workload": workload})).turns
    assert (turns["cached_hbm_tokens"] >= 0).all()
    assert (turns["computed_tokens"] > 0).all()


def test_every_prompt_token_comes_from_one_place(demoted: Result) -> None:
    tiers = ("hbm", "dram", "ssd")
    parts = demoted.turns.select(*(f"cached_{tier}_tokens" for tier in tiers), "computed_tokens")
    assert parts.sum_horizontal().equals(demoted.turns["prompt_tokens"])
    assert all((parts[name] >= 0).all() for name in parts.columns)
    tokens = demoted.summary["tokens"]
    assert sum(tokens[f"cached_{tier}"] for tier in tiers) + tokens["computed"] == tokens["prompt"]
    assert tokens["cached_dram"] > 0
    assert tokens["prefill_amplification"] >= 1


def test_links_carry_what_the_transfers_say(demoted: Result) -> None:
    copies = demoted.memory["transfers"].with_columns(
        direction=pl.when(pl.col("verb") == "promote").then(pl.lit("up")).otherwise(pl.lit("down"))
    )
    sums = copies.group_by("link", "direction").agg(pl.col("bytes").sum())
    for name, way, size in sums.iter_rows():
        assert demoted.summary["kv"]["bytes_moved"][name][way] == size
    assert sums["bytes"].sum() == demoted.memory["links"]["bytes"].sum() > 0
    loaded = demoted.summary["tokens"]["cached_dram"] * 131_072
    assert demoted.summary["kv"]["bytes_moved"]["hbm-dram"]["up"] >= loaded
    assert (copies["asked_s"] <= copies["start_s"]).all()
    assert (copies["start_s"] < copies["end_s"]).all()


def test_states_add_up_to_the_size_of_their_tier(demoted: Result) -> None:
    states = demoted.memory["residency"]
    whole = states.select("tier", total=pl.sum_horizontal(pl.col("^.*_bytes$"))).unique()
    assert dict(whole.iter_rows()) == {
        "hbm": 10_999 * 16 * 131_072,
        "dram": int(40e9 // (16 * 131_072)) * 16 * 131_072,
        "ssd": int(1e12 // (16 * 131_072)) * 16 * 131_072,
    }
    assert states["time_s"].is_sorted()
    for share in (demoted.summary["kv"]["waste_share"], *demoted.memory["links"]["busy_s"] / 1e6):
        assert 0 <= share < 1


def test_every_metric_has_its_place_in_the_summary(demoted: Result) -> None:
    asked_for = ("goodput.", "fairness.jain_tenants")
    for metric in (m for m in METRICS if not m.name.startswith(asked_for)):
        first, *rest = metric.each(tier="dram", link="hbm-dram", direction="up").name.split(".")
        value = demoted.summary[first]
        for key in rest:
            value = value[key]
        assert value is not None, metric.name


def test_oracles_are_told_from_policies(demoted: Result) -> None:
    assert demoted.summary["provenance"]["oracle"] is False
    assert simulate(scenario("belady")).summary["provenance"]["oracle"] is True


class Twice:
    """Pins, and breaks when it is asked for the tenth time."""

    def __init__(self) -> None:
        self.asked = 0

    def place(self, chain: object, server: object) -> object:
        from agentservesim.policies.protocols import Placement

        self.asked += 1
        return Placement("hbm") if self.asked < 10 else None


def test_a_policy_may_be_an_object_and_what_it_did_is_kept_when_it_fails(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"residency Twice: place\(\) of program '.*' returned None") as failed:
        simulate(scenario("lru"), residency=cast(Any, Twice()))
    partial = failed.value.partial
    assert partial.summary["scenario"]["residency"].endswith("test_memory:Twice")
    assert partial.turns.height >= 10
    assert (partial.save(tmp_path / "run") / "residency.parquet").exists()


def test_what_is_no_policy_is_refused() -> None:
    with pytest.raises(InputError, match="a residency needs the method place"):
        simulate(scenario("lru"), residency=cast(Any, object()))


def test_columns_of_text_are_text_where_nothing_was_copied() -> None:
    recorder = Recorder(tiers=["slow-ram"])
    recorder.watch([memory(link(0, 0), 10, 0, 0)], [Pool(10, 100)])
    table = transfer_table(recorder)
    assert {name for name, kind in table.schema.items() if kind == pl.String} == {
        "link",
        "verb",
        "program_id",
        "session_id",
    }


def test_a_clock_beyond_64_bits_keeps_what_was_moved_before(tmp_path: Path) -> None:
    """A tool that takes 109 days: KV is copied before, and loaded too late for the tables."""
    trace = tmp_path / "late.jsonl"
    turn = '{"new_tokens": 3000, "output_tokens": 10, "tools": [{"name": "x", "duration_s": 9400000}]}'
    trace.write_text(f'{{"turns": [{turn}, {turn}]}}')
    link = LinkConfig(between=("hbm", "dram"), kind="pcie5-x16")
    memory = MemoryConfig(tiers=(TierConfig(name="dram", capacity_bytes=1e9),), links=(link,))
    scenario = Scenario(workload=WorkloadConfig(trace=str(trace)), memory=memory, residency="demote")
    with pytest.raises(RunError, match="the simulated clock has passed 106 days") as error:
        simulate(scenario)
    assert error.value.partial.memory["transfers"]["verb"].unique().to_list() == ["demote"]

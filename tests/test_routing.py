"""Routers from a scenario to the tables of its result."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from agentservesim import Scenario, WorkloadConfig, simulate
from agentservesim.fleet.config import NetworkConfig, RoutingConfig
from agentservesim.policies.protocols import Choice, InstanceView, TurnView
from agentservesim.results import Result, comparable
from agentservesim.results.run_folder import to_json
from agentservesim.scenario import InstanceConfig

NAMES = [
    entry.name
    for entry in entry_points(group="agentservesim.router")
    if entry.value.startswith("agentservesim.policies.routing.")
]


@pytest.fixture(scope="module", autouse=True)
def trace(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Ten programs of four turns that share 512 tokens and come to 4,000; `played` runs them."""
    turns = [
        {
            "new_tokens": 500 * (k + 1),
            "output_tokens": 9 + 4 * k,
            "tools": [{"name": "Bash", "duration_s": 0.4}],
        }
        for k in range(4)
    ]
    rows = [
        {"program_id": f"p{n}", "arrival_s": n * 0.05, "shared_prefix": 512, "turns": turns[: 1 + n % 4]}
        for n in range(10)
    ]
    TRACE.append(tmp_path_factory.mktemp("traces") / "ten.jsonl")
    TRACE[0].write_text("".join(json.dumps(row) + "\n" for row in rows))


TRACE: list[Path] = []


def played(router: str, instances: int = 1, **settings: object) -> Result:
    groups = (InstanceConfig(count=instances, num_gpu_blocks=700),)
    workload = WorkloadConfig(trace=str(TRACE[0]))
    return simulate(Scenario(workload=workload, instances=groups, router=router, **settings))


def saved(result: Result, folder: Path) -> tuple[bytes, ...]:
    """The bytes of a run folder, but for the router's name and the computer's speed."""
    result.save(folder)
    summary = comparable(result.summary)
    summary["scenario"] = {**summary["scenario"], "router": "", "routing": {}}
    tables = sorted(path for path in folder.iterdir() if path.suffix == ".parquet")
    return to_json(summary), *(path.read_bytes() for path in tables)


def test_one_instance_makes_all_routers_equal(tmp_path: Path) -> None:
    plain = saved(played("round-robin"), tmp_path / "plain")
    assert len(plain) >= 3
    for name in NAMES:
        assert saved(played(name), tmp_path / name) == plain, name
    old = played("least-loaded", routing=RoutingConfig(snapshot_interval_s=1, event_lag_s=0.3))
    assert saved(old, tmp_path / "old") == plain


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    """Whether the engines leap or not."""
    routing = RoutingConfig(snapshot_interval_s=0.07, event_lag_s=0.02)
    one, other = (
        saved(played(name, 3, routing=routing, leap=leap), tmp_path / str(leap)) for leap in (True, False)
    )
    assert one == other


def test_scores_are_in_the_turns() -> None:
    turns = played("least-loaded", 3).turns
    assert turns["route_scores"].list.len().unique().to_list() == [3]
    assert (turns["route_scores"].list.arg_min() == turns["instance"]).all()
    assert "route_scores" not in played("round-robin", 3).turns.columns


def test_draws_depend_on_the_seed() -> None:
    runs = [played("random", 3, seed=seed).turns["instance"].to_list() for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


@dataclass
class Wandering:
    """Turns go round, and have their KV sent after them."""

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> Choice:
        return Choice(turn.turn_index % len(instances), source=turn.home)


def test_kv_that_moves_is_in_the_tables() -> None:
    groups = (InstanceConfig(count=3, num_gpu_blocks=700),)
    network = NetworkConfig(kind="rdma-400g")
    scenario = Scenario(workload=WorkloadConfig(trace=str(TRACE[0])), instances=groups, network=network)
    result = simulate(scenario, router=Wandering())
    transfers = result.memory["transfers"]
    assert set(transfers["verb"]) == {"replicate"}
    assert (transfers["source"] != transfers["instance"]).all()
    links = result.memory["links"].filter(link="hbm-network")
    assert links["bytes"].to_list() == [transfers["bytes"].sum()] * 2
    assert result.summary["provenance"]["network"].startswith("400 Gb/s")
    assert (
        result.summary["tokens"]["hit_rate"]
        > simulate(scenario.model_copy(update={"network": None}), router=Wandering()).summary["tokens"][
            "hit_rate"
        ]
    )

"""Scenarios: files, defaults, fleets of several kinds, what cannot run, and determinism."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from agentservesim.kv.config import LinkConfig, MemoryConfig, TierConfig
from agentservesim.model import InputError
from agentservesim.results import Result, comparable
from agentservesim.results.run_folder import to_json
from agentservesim.scenario import InstanceConfig, Scenario, load_scenario, prepare, simulate
from agentservesim.workload import trace_stats
from agentservesim.workload.config import WorkloadConfig


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve programs whose contexts grow to about 9,000 tokens, with a shared beginning."""
    path = tmp_path_factory.mktemp("traces") / "twelve.jsonl"
    turns = [
        {
            "new_tokens": 700 * (k + 1),
            "output_tokens": 60 + 30 * k,
            "tools": [{"name": "Bash", "duration_s": 0.4}],
        }
        for k in range(4)
    ]
    rows = [
        {"program_id": f"p{n}", "arrival_s": n * 0.05, "shared_prefix": 512, "turns": turns}
        for n in range(12)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def scenario(trace: Path, **changes: object) -> Scenario:
    instances = (InstanceConfig(count=2, num_gpu_blocks=1500),)
    return Scenario(**{"workload": WorkloadConfig(trace=str(trace)), "instances": instances, **changes})


def digest(result: Result, folder: Path) -> dict[str, str]:
    result.save(folder)
    return {
        **{p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.parquet")},
        "summary": hashlib.sha256(to_json(comparable(result.summary))).hexdigest(),
    }


def test_the_python_interface(trace: Path) -> None:
    done: list[int] = []
    result = simulate(scenario(trace), progress=done.append)
    assert result.turns.height == 48
    assert result.programs.height == 12
    assert result.steps is None
    assert result.summary["scenario"]["workload"]["trace"] == str(trace)
    assert result.summary["tokens"]["prompt"] == result.turns["prompt_tokens"].sum()
    assert done == sorted(done)
    assert "12 programs, 48 turns" in repr(result)


def test_new_tokens_are_what_an_unlimited_cache_would_leave(trace: Path) -> None:
    result = simulate(scenario(trace))
    reuse = trace_stats(prepare(scenario(trace)).workload).reuse
    tokens = result.summary["tokens"]
    assert tokens["new"] == result.turns["new_tokens"].sum() == round((1 - reuse) * tokens["prompt"])
    ample = scenario(trace, instances=(InstanceConfig(num_gpu_blocks=100_000),), router="round-robin")
    assert 1 <= simulate(ample).summary["tokens"]["prefill_amplification"] < 1.1


def test_the_package_offers_what_a_script_needs() -> None:
    import agentservesim

    for name in agentservesim.__all__:
        assert getattr(agentservesim, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = agentservesim.nothing


def test_parts_of_a_turn_sum_to_its_latency(trace: Path) -> None:
    turns = simulate(scenario(trace)).turns
    parts = turns["queue_s"] + turns["prefill_s"] + turns["decode_s"] + turns["transfer_s"]
    assert parts.to_list() == pytest.approx(turns["e2el_s"].to_list(), abs=1e-9)
    assert (turns["cached_tokens"] + turns["computed_tokens"]).equals(
        turns["prompt_tokens"].alias("cached_tokens")
    )


@pytest.mark.parametrize("router", ["round-robin", "least-loaded", "session-affinity"])
def test_leap_equals_step_in_every_byte(trace: Path, tmp_path: Path, router: str) -> None:
    leapt = simulate(scenario(trace, router=router, record_steps=True))
    stepped = simulate(scenario(trace, router=router, record_steps=True, leap=False))
    assert leapt.summary["counts"]["leaps"] > 0 == stepped.summary["counts"]["leaps"]
    assert digest(leapt, tmp_path / "leapt") == digest(stepped, tmp_path / "stepped")


def test_same_seed_same_bytes_other_seed_other_bytes(trace: Path, tmp_path: Path) -> None:
    workload = WorkloadConfig(trace=str(trace), program_rate=3.0, burstiness=0.5)
    one, two, other = (
        digest(simulate(scenario(trace, workload=workload, seed=seed)), tmp_path / name)
        for name, seed in (("one", 1), ("two", 1), ("other", 2))
    )
    assert one == two
    assert one["turns.parquet"] != other["turns.parquet"]


def test_a_fleet_may_mix_instances(trace: Path) -> None:
    groups = (
        InstanceConfig(name="small", num_gpu_blocks=1200),
        InstanceConfig(name="big", count=2, num_gpu_blocks=9000, tensor_parallel_size=2),
    )
    result = simulate(scenario(trace, instances=groups, router="round-robin"))
    assert sorted(result.turns["instance"].unique()) == [0, 1, 2]
    small, big = (result.turns.filter(result.turns["instance"] == index)["tpot_s"].mean() for index in (0, 1))
    assert isinstance(small, float)
    assert isinstance(big, float)
    assert big < 0.8 * small
    described = result.summary["provenance"]["instances"]
    assert [(g["name"], g["count"], g["num_gpu_blocks"]) for g in described] == [
        ("small", 1, 1200),
        ("big", 2, 9000),
    ]


def test_a_turn_must_fit_every_instance(trace: Path) -> None:
    plan = prepare(scenario(trace))
    longest = max(turn.total_tokens for program in plan.workload.programs for turn in program.turns)
    blocks = -(-longest // 16) + 1
    prepare(scenario(trace, instances=(InstanceConfig(num_gpu_blocks=blocks),)))
    simulate(scenario(trace, instances=(InstanceConfig(num_gpu_blocks=blocks),)))
    small = InstanceConfig(name="tiny", num_gpu_blocks=blocks - 1)
    with pytest.raises(InputError, match=f"'tiny'.*num_gpu_blocks must be at least {blocks}$"):
        prepare(scenario(trace, instances=(InstanceConfig(), small)))
    with pytest.raises(InputError, match=f"it must be at least {longest}, or unset$"):
        prepare(scenario(trace, instances=(InstanceConfig(max_model_len=longest - 1),)))
    prepare(scenario(trace, instances=(InstanceConfig(max_model_len=longest),)))


def test_load_scenario(trace: Path, tmp_path: Path) -> None:
    (tmp_path / "twelve.jsonl").write_bytes(trace.read_bytes())
    text = 'router = "least-loaded"\n[workload]\ntrace = "twelve.jsonl"\n[[instances]]\ncount = 3\n'
    (tmp_path / "three.toml").write_text(text)
    loaded = load_scenario(tmp_path / "three.toml", ["seed=9", "instances.0.block_size=32"])
    assert loaded.name == "three"
    assert loaded.workload.trace == str(tmp_path / "twelve.jsonl")
    assert (loaded.seed, loaded.instances[0].count, loaded.instances[0].block_size) == (9, 3, 32)
    (tmp_path / "three.json").write_text(loaded.model_dump_json())
    assert load_scenario(tmp_path / "three.json") == loaded


def test_an_empty_file_is_a_scenario(tmp_path: Path) -> None:
    (tmp_path / "empty.toml").write_text("")
    assert load_scenario(tmp_path / "empty.toml") == Scenario(name="empty")


def test_every_setting_is_documented() -> None:
    for model in (Scenario, WorkloadConfig, InstanceConfig, MemoryConfig, TierConfig, LinkConfig):
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name} has no description"


def test_an_unknown_router_is_found_before_the_trace_is_read() -> None:
    with pytest.raises(InputError, match="did you mean 'least-loaded'"):
        prepare(Scenario(router="least-loadd", workload=WorkloadConfig(trace="missing.jsonl")))


@pytest.mark.parametrize(("family", "other"), [("router", "admission"), ("admission", "router")])
def test_a_policy_of_two_families_is_that_of_both(family: str, other: str) -> None:
    demo = {"trace": "demo", "max_programs": 1}
    fault = (
        f"^{family} 'thunderagent' goes with {other} 'thunderagent': one policy does both, and {other} is '"
    )
    plan = prepare(Scenario.model_validate({"workload": demo, family: "thunderagent"}))
    for refused in (plan.check, plan.run):
        with pytest.raises(InputError, match=fault):
            refused()
    prepare(plan.scenario.model_copy(update={other: "thunderagent"})).check()


def test_policies_may_be_given_by_name() -> None:
    scenario = Scenario.model_validate({"workload": {"trace": "demo", "max_programs": 2}})
    named = simulate(scenario, scheduler="plas,rounded=true").summary
    assert named["scenario"]["scheduler"] == "plas,rounded=true"
    given = simulate(scenario.model_copy(update={"scheduler": "plas,rounded=true"})).summary
    assert comparable(named) == comparable(given)
    with pytest.raises(InputError, match="unknown scheduler 'plass'; did you mean 'plas'"):
        simulate(scenario, scheduler="plass")
    with pytest.raises(InputError, match="unknown kind of policy 'schedular'; did you mean 'scheduler'"):
        simulate(scenario, schedular="plas")

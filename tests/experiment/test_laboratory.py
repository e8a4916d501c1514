"""Experiments from their arms to their files: common random numbers, resumption, processes, faults."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from agentservesim.experiment import Arm, compare, sweep
from agentservesim.experiment import runs as runs_module
from agentservesim.fleet.config import Distribution, ToolsConfig
from agentservesim.model import InputError
from agentservesim.scenario import InstanceConfig, Scenario
from agentservesim.workload.config import WorkloadConfig

TURNS = [{"new_tokens": 3000, "output_tokens": 40, "tools": [{"name": "Bash"}]}] * 3


@pytest.fixture
def base(tmp_path: Path) -> Scenario:
    """Eight programs of three turns, whose arrivals and tool times are drawn, on one small instance."""
    trace = tmp_path / "eight.jsonl"
    trace.write_text("".join(json.dumps({"program_id": f"p{n}", "turns": TURNS}) + "\n" for n in range(8)))
    return Scenario(
        workload=WorkloadConfig(trace=str(trace), program_rate=2.0),
        instances=(InstanceConfig(num_gpu_blocks=1500),),
        tools=ToolsConfig(default=Distribution(kind="lognormal", median_s=2.0)),
    )


def arms(base: Scenario, *residencies: str) -> list[Arm]:
    return [Arm(name, base.model_copy(update={"residency": name})) for name in residencies]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names and seeds of the runs that are really made."""
    names: list[str] = []
    run = runs_module.Job.run

    def noted(job: runs_module.Job) -> None:
        names.append(f"{job.arm}/{job.scenario.seed}")
        run(job)

    monkeypatch.setattr(runs_module.Job, "run", noted)
    return names


def turns(out: Path, arm: str, seed: int) -> pl.DataFrame:
    (folder,) = (out / "runs").glob(f"{arm}.seed{seed}.*")
    return pl.read_parquet(folder / "turns.parquet").sort("turn_id")


def test_arms_have_common_random_numbers(base: Scenario, tmp_path: Path) -> None:
    """At one seed arrivals and tool times are equal to the last digit; at another they are not."""
    out = tmp_path / "out"
    compare(arms(base, "lru", "drop"), seeds=2, folder=out, processes=1)
    for seed in (0, 1):
        first, second = (pl.read_parquet(next((out / "runs").glob(f"{a}.seed{seed}.*")) / "programs.parquet")
                         for a in ("lru", "drop"))  # fmt: skip
        assert first["arrival_s"].to_list() == second["arrival_s"].to_list()
        gaps = [turns(out, arm, seed)["gap_s"].to_list() for arm in ("lru", "drop")]
        assert gaps[0] == gaps[1]
    assert turns(out, "lru", 0)["gap_s"].to_list() != turns(out, "lru", 1)["gap_s"].to_list()
    assert turns(out, "lru", 0)["finish_s"].to_list() != turns(out, "drop", 0)["finish_s"].to_list()


def test_what_is_left_in_the_folder(base: Scenario, tmp_path: Path) -> None:
    out = tmp_path / "out"
    comparison = compare(arms(base, "lru", "drop"), seeds=2, folder=out, processes=1)
    assert {path.name for path in out.iterdir()} == {"runs", "comparison.json", "runs.parquet"}
    told = json.loads((out / "comparison.json").read_text())
    assert told == json.loads(json.dumps(comparison.as_dict()))
    table = pl.read_parquet(out / "runs.parquet")
    assert table.select("arm", "seed").rows() == [("lru", 0), ("lru", 1), ("drop", 0), ("drop", 1)]
    hits = [run.values["tokens.hit_rate"] for runs in comparison.arms.values() for run in runs]
    assert table["tokens.hit_rate"].to_list() == hits
    assert len(list((out / "runs").iterdir())) == 4


def test_finished_runs_are_not_made_again(base: Scenario, tmp_path: Path, made: list[str]) -> None:
    out = tmp_path / "out"
    first = compare(arms(base, "lru", "drop"), seeds=2, folder=out, processes=1)
    assert made == ["lru/0", "lru/1", "drop/0", "drop/1"]
    again = compare(arms(base, "lru", "drop"), seeds=2, folder=out, processes=1)
    assert len(made) == 4
    assert again.as_dict() == first.as_dict()
    compare(arms(base, "lru", "drop", "ttl,ttl_s=5"), seeds=3, folder=out, processes=1)
    assert made[4:] == ["lru/2", "drop/2", "ttl,ttl_s=5/0", "ttl,ttl_s=5/1", "ttl,ttl_s=5/2"]


def test_a_changed_trace_or_policy_is_run_again(
    base: Scenario, tmp_path: Path, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    policy = tmp_path / "late_policy.py"
    policy.write_text("from agentservesim.policies.residency.lru import Lru as Mine\n")
    pair = arms(base, "lru", "late_policy:Mine")
    out = tmp_path / "out"
    compare(pair, seeds=1, folder=out, processes=1)
    policy.write_text("from agentservesim.policies.residency.drop import Drop as Mine\n")
    compare(pair, seeds=1, folder=out, processes=1)
    assert made == ["lru/0", "late_policy:Mine/0", "late_policy:Mine/0"]
    trace = Path(base.workload.trace)
    trace.write_text(trace.read_text().replace("3000", "3001"))
    compare(pair, seeds=1, folder=out, processes=1)
    assert len(made) == 5


def test_an_interrupted_experiment_goes_on(
    base: Scenario, tmp_path: Path, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in its third run; started again, it makes the third and the fourth."""
    out = tmp_path / "out"
    patched = runs_module.Job.run

    def interrupted(job: runs_module.Job) -> None:
        if len(made) == 2:
            raise KeyboardInterrupt
        patched(job)

    with monkeypatch.context() as patch:
        patch.setattr(runs_module.Job, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            compare(arms(base, "lru", "drop"), seeds=2, folder=out, processes=1)
    assert made == ["lru/0", "lru/1"]
    assert not (out / "comparison.json").exists()
    compare(arms(base, "lru", "drop"), seeds=2, folder=out, processes=1)
    assert made[2:] == ["drop/0", "drop/1"]


def test_processes_give_the_same(base: Scenario, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    one = compare(arms(base, "lru", "drop"), seeds=2, folder=tmp_path / "one", processes=1)
    two = compare(
        arms(base, "lru", "drop"), 2, tmp_path / "two", 2, lambda done, all_: told.append((done, all_))
    )
    assert one.as_dict() == two.as_dict()
    assert told == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_run_that_fails_is_named_and_the_others_stay(
    base: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "breaking.py").write_text(
        "from agentservesim.policies.residency.lru import Lru\n"
        "class Breaks(Lru):\n"
        "    def place(self, chain, server):\n"
        "        return 1 / 0\n"
    )
    out = tmp_path / "out"
    with pytest.raises(InputError) as fault:
        compare(arms(base, "lru", "breaking:Breaks"), seeds=1, folder=out, processes=1)
    assert str(fault.value).startswith("breaking:Breaks, seed 0: ")
    assert "ZeroDivisionError" in str(fault.value)
    assert str(fault.value).endswith(f"; kept in {out / 'runs'}: 1 finished and 1 incomplete (.partial)")
    assert {
        (path.name.partition(".")[0], path.suffix == ".partial") for path in (out / "runs").iterdir()
    } == {
        ("lru", False),
        ("breaking_Breaks", True),
    }
    compare(arms(base, "lru", "drop"), seeds=1, folder=out, processes=1)


def test_all_arms_are_checked_before_the_first_run(base: Scenario, tmp_path: Path, made: list[str]) -> None:
    small = base.model_copy(update={"instances": (InstanceConfig(num_gpu_blocks=20),)})
    with pytest.raises(InputError, match=r"^small: .*num_gpu_blocks must be at least"):
        compare([Arm("good", base), Arm("small", small)], folder=tmp_path / "out", processes=1)
    assert made == []
    assert not (tmp_path / "out").exists()


def test_folders_of_others_are_safe(base: Scenario, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    for place, said in (("mine", "not an experiment"), ("mine/thesis.tex", "is a file")):
        with pytest.raises(InputError, match=said):
            compare(arms(base, "lru", "drop"), folder=tmp_path / place, processes=1)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_a_sweep_takes_different_workloads(base: Scenario, tmp_path: Path) -> None:
    points = [
        Arm(
            f"rate={rate}",
            base.model_copy(update={"workload": base.workload.model_copy(update={"program_rate": rate})}),
        )
        for rate in (0.1, 10.0)
    ]
    out = tmp_path / "out"
    result = sweep(points, seeds=2, folder=out, processes=1)
    idle, busy = (point.metrics["turn.ttft_s.mean"] for point in result.points)
    assert idle.value < busy.value
    assert idle.half_width is not None
    assert json.loads((out / "sweep.json").read_text()) == json.loads(json.dumps(result.as_dict()))
    single = sweep(points, seeds=1, processes=1)
    assert single.points[0].metrics["turn.ttft_s.mean"].half_width is None

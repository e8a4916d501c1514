"""Step logs written by hand or recorded by real vLLM; fits; predictions of runs that were not fitted."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from agentservesim.calibration import (
    fit_host,
    fit_linear,
    front_end,
    predict,
    predict_run,
    read_step_log,
    read_turns,
    recorded,
    turns_beside,
)
from agentservesim.calibration.predict import workload_of
from agentservesim.calibration.steplog import LoggedTurn
from agentservesim.cost import CostConfig, build_cost
from agentservesim.cost.base import Batch
from agentservesim.cost.calibration import Calibration, FrontEnd, read_calibration
from agentservesim.cost.linear import Coefficients, Linear
from agentservesim.model import InputError

TRUE = Coefficients(base_s=8e-3, token_s=2.5e-4, chunk_s=2e-3, pair_s=2e-7, row_s=5e-4, context_s=8e-7)

CONFIG = {
    "ev": "config",
    "block_size": 16,
    "num_blocks": 200,
    "max_num_batched_tokens": 64,
    "max_num_seqs": 8,
    "max_model_len": 1024,
}

RECORDED = Path(__file__).parents[3] / "shared" / "vllm" / "recorded"
needs_recordings = pytest.mark.skipif(
    not RECORDED.is_dir(), reason="recorded runs of vLLM on a CPU are not here: shared/vllm/recorded"
)


def write(path: Path, lines: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def a_log(path: Path, seed: int, speed: float = 1.0, noise: float = 0.0) -> Path:
    """A log of requests alone and together, whose steps take what TRUE says, times `speed` and noise."""
    draws, now, lines = np.random.default_rng(seed), 0.0, [dict(CONFIG)]
    model = Linear(TRUE, speed)
    for number in range(12):
        prompt, name = int(draws.integers(40, 200)), f"r{number}"
        lines.append({"ev": "req", "id": name, "t": now, "prompt_len": prompt, "max_tokens": 20})
        other = f"r{number - 1}" if number else None
        for computed in [*range(0, prompt, 64), *range(prompt, prompt + 20)]:
            new = min(64, prompt - computed) if computed < prompt else 1
            sched, contexts, chunks = [[name, computed, new]], [], []
            (contexts.append(computed + 1) if computed >= prompt else chunks.append((new, computed)))
            if other and draws.random() < 0.5:
                sched.append([other, 300 + computed, 1])
                contexts.append(301 + computed)
            took = model.step_ps(Batch.of((0,), chunks, contexts)) / 1e12
            took *= 1 + noise * draws.standard_normal()
            lines.append({"ev": "step", "sched": sched, "t0": now, "t2": now + took, "t3": now + took})
            now += took
    return write(path, lines)


def test_a_fit_finds_the_coefficients_that_made_the_log(tmp_path: Path) -> None:
    log = read_step_log(a_log(tmp_path / "a.steps.jsonl", seed=1))
    found = fit_linear([log])
    assert found.linear is not None
    for name, value in TRUE.model_dump().items():
        assert getattr(found.linear, name) == pytest.approx(value, rel=2e-3), name
    assert found.held_out is not None
    assert found.held_out.mape < 1e-4
    assert found.speed_spread == 0.0


def test_noise_is_told_from_speed(tmp_path: Path) -> None:
    logs = [
        read_step_log(a_log(tmp_path / f"{i}.steps.jsonl", seed=i, speed=s, noise=0.05))
        for i, s in enumerate((0.9, 1.0, 1.1))
    ]
    found = fit_linear(logs)
    assert found.speed_spread == pytest.approx(0.1, rel=0.15)
    assert found.step_spread == pytest.approx(0.05, rel=0.2)
    assert found.linear is not None
    assert found.linear.base_s == pytest.approx(TRUE.base_s, rel=0.05)


def test_a_disturbed_step_hardly_moves_the_fit(tmp_path: Path) -> None:
    path = a_log(tmp_path / "a.steps.jsonl", seed=1)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    steps = [i for i, line in enumerate(lines) if line["ev"] == "step"]
    late = 0.0
    for i in range(len(lines)):
        for key in ("t", "t0", "t2", "t3"):
            if key in lines[i]:
                lines[i][key] += late
        if i == steps[40]:
            late = 0.3
            lines[i]["t2"] += late
            lines[i]["t3"] += late
    found = fit_linear([read_step_log(write(path, lines))], hold_out=0.0)
    assert found.linear is not None
    # All is scaled to the right sum, in which the lost 0.3 s are; the shape stays.
    ratio = found.linear.base_s / TRUE.base_s
    assert found.linear.context_s / TRUE.context_s == pytest.approx(ratio, rel=0.05)
    assert found.linear.token_s / TRUE.token_s == pytest.approx(ratio, rel=0.05)


def test_the_host_is_fitted_on_top_of_operators(tmp_path: Path) -> None:
    """The log's steps are 1.2 x an H100's roofline, 0.7 ms each and 2 ms more with chunks."""
    bare = CostConfig(
        model="llama-3.1-8b",
        gpu="h100-sxm",
        host_overhead_s=0.0,
        prefill_overhead_s=0.0,
        step_time="roofline",
    )
    kernels = build_cost(bare, block_size=16, max_num_batched_tokens=64, max_num_seqs=8).step_time
    path = a_log(tmp_path / "a.steps.jsonl", seed=3)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    prompts = {line["id"]: line["prompt_len"] for line in lines if line["ev"] == "req"}
    now = 0.0
    for line in lines:
        if line["ev"] == "step":
            chunks = [(n, c) for r, c, n in line["sched"] if c < prompts[r]]
            contexts = [c + 1 for r, c, n in line["sched"] if c >= prompts[r]]
            ends = sum(c + n >= prompts[r] for r, c, n in line["sched"])
            took = 1.2 * kernels.step_ps(Batch.of(kernels.knots, chunks, contexts, ends)) / 1e12
            took += 0.7e-3 + (2e-3 if chunks else 0.0)
            line.update(t0=now, t2=now + took, t3=now + took)
            now += took
    found = fit_host([read_step_log(write(path, lines))], kernels, kernels)
    assert found.host is not None
    assert found.host.step_time_scale == pytest.approx(1.2, rel=0.05)
    assert found.host.host_overhead_s == pytest.approx(0.7e-3, rel=0.4)
    assert found.host.prefill_overhead_s == pytest.approx(2e-3, rel=0.1)


def test_no_fit_goes_below_the_floor(tmp_path: Path) -> None:
    """A log of a machine twice as fast as physics: the scale stays at the floor."""
    bare = CostConfig(
        model="llama-3.1-8b",
        gpu="h100-sxm",
        host_overhead_s=0.0,
        prefill_overhead_s=0.0,
        step_time="roofline",
    )
    kernels = build_cost(bare, block_size=16, max_num_batched_tokens=64, max_num_seqs=8).step_time
    path = a_log(tmp_path / "a.steps.jsonl", seed=3, speed=0.01)
    found = fit_host([read_step_log(path)], kernels, kernels)
    assert found.host is not None
    assert found.host.step_time_scale >= 1.0


def test_a_calibration_is_read_back_and_prices_steps(tmp_path: Path) -> None:
    found = fit_linear([read_step_log(a_log(tmp_path / "a.steps.jsonl", seed=1))])
    found = found.model_copy(update={"front_end": FrontEnd(in_s=0.004, out_s=0.002)})
    found.write(tmp_path / "c.json")
    assert read_calibration(tmp_path / "c.json") == found
    cost = build_cost(
        CostConfig(calibration=tmp_path / "c.json"), block_size=16, max_num_batched_tokens=64, max_num_seqs=8
    )
    assert found.linear is not None
    batch = Batch.of((0,), [(10, 5)], [100])
    assert cost.step_time.step_ps(batch) == Linear(found.linear).step_ps(batch)
    assert (cost.frontend_in_ps, cost.frontend_out_ps) == (4 * 10**9, 2 * 10**9)
    assert "coefficients" in cost.provenance["step_time"]


def test_linear_by_hand() -> None:
    """8 ms + 10 tokens x 0.25 ms + a chunk 2 ms + (10 x 5 + 55) pairs x 0.2 us + 0.5 ms + 100 x 0.8 us."""
    ps = Linear(TRUE).step_ps(Batch.of((0,), [(10, 5)], [100]))
    assert ps == 8_000_000_000 + 2_500_000_000 + 2_000_000_000 + 105 * 200_000 + 500_000_000 + 100 * 800_000
    assert Linear(TRUE).growth_ps(Batch.of((0,), contexts=[100, 7])) == 2 * 800_000


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"ev": "req", "id": "a", "t": 0, "prompt_len": 1, "max_tokens": 1}], "is no step log"),
        ([CONFIG], "holds no steps"),
        (
            [CONFIG, {"ev": "step", "sched": [["a", 0, 1]], "t0": 0, "t2": 1, "t3": 1}],
            ":2: schedules 'a', of which no line before it is the arrival",
        ),
        ([{**CONFIG, "block_size": 0}], ":1: block_size"),
    ],
)
def test_bad_logs(tmp_path: Path, lines: list[dict[str, object]], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        read_step_log(write(tmp_path / "x.steps.jsonl", lines))


def test_a_place_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    found = fit_linear([read_step_log(a_log(tmp_path / "a.steps.jsonl", seed=1))])
    with pytest.raises(InputError, match="could not be written: No such file"):
        found.write(tmp_path / "missing" / "calibration.json")


def test_damaged_and_foreign_files(tmp_path: Path) -> None:
    (tmp_path / "x.steps.jsonl").write_text("{]\n")
    with pytest.raises(InputError, match=r"x\.steps\.jsonl:1: not JSON"):
        read_step_log(tmp_path / "x.steps.jsonl")
    whole = gzip.compress(json.dumps(CONFIG).encode())
    (tmp_path / "y.steps.jsonl.gz").write_bytes(whole[:20])
    with pytest.raises(InputError, match="damaged"):
        read_step_log(tmp_path / "y.steps.jsonl.gz")
    with pytest.raises(InputError, match="this is a folder; give a step log"):
        read_step_log(tmp_path)
    (tmp_path / "c.json").write_text('{"a": 1}')
    with pytest.raises(InputError, match="is no calibration"):
        read_calibration(tmp_path / "c.json")


def test_too_few_steps_to_fit(tmp_path: Path) -> None:
    path = a_log(tmp_path / "a.steps.jsonl", seed=1)
    few = [json.loads(line) for line in path.read_text().splitlines()[:30]]
    with pytest.raises(InputError, match="at least 60 are needed"):
        fit_linear([read_step_log(write(path, few))])


@needs_recordings
@pytest.mark.parametrize("run", ["inproc_wA", "inproc_wB", "inproc_wC", "http_wA"])
def test_a_run_predicted_from_others(run: str) -> None:
    """Calibrated on all recorded runs of the other workloads."""
    others = [n for n in ("inproc_wA", "inproc_wB", "inproc_wC", "http_wA") if n[-1] != run[-1]]
    found = fit_linear([read_step_log(RECORDED / f"{name}.0.steps.jsonl.gz") for name in others])
    path = RECORDED / f"{run}.0.steps.jsonl.gz"
    log, beside = read_step_log(path), turns_beside(path)
    assert beside is not None
    ends = front_end(log, read_turns(beside))
    result = predict_run(path, found.model_copy(update={"front_end": ends}))
    print(run, result)
    # wB is overloaded: what its queue makes of a speed that drifts is judged by the interval.
    for figure, limit in (("TTFT", 0.10), ("TPOT", 0.15), ("program", 0.05), ("makespan", 0.03)):
        low, high = result.interval[figure]
        inside = low <= result.real.times[figure] <= high
        assert inside or abs(result.error(figure)) <= limit, figure
    assert abs(result.error("program", at_speed=True)) < 0.03
    assert abs(result.error("TPOT", at_speed=True)) < 0.04


@needs_recordings
def test_with_the_recorded_times_decisions_are_those_of_the_run() -> None:
    """Hits of the moderate run do not depend on a per cent of speed: they are equal, tokens and all."""
    path = RECORDED / "inproc_wA.0.steps.jsonl.gz"
    beside = turns_beside(path)
    assert beside is not None
    log, turns = read_step_log(path), read_turns(beside)
    workload = workload_of(log, turns)
    assert workload.num_turns == 44
    found = fit_linear([log])
    assert found.linear is not None
    outcome, real = predict(log, workload, Linear(found.linear), FrontEnd()), recorded(log, turns)
    assert outcome.cached_tokens == real.cached_tokens == 17024
    assert outcome.preemptions == real.preemptions == 0


def test_calibration_files_are_stable(tmp_path: Path) -> None:
    log = read_step_log(a_log(tmp_path / "a.steps.jsonl", seed=1, noise=0.02))
    fit_linear([log]).write(tmp_path / "1.json")
    fit_linear([log]).write(tmp_path / "2.json")
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()
    assert isinstance(read_calibration(tmp_path / "1.json"), Calibration)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t0": 0.0, "t2": 9e3, "t3": 9e3}, "are times in seconds"),
        ({"t3": None}, "t3: must be a number"),
    ],
)
def test_steps_that_cannot_be(tmp_path: Path, change: dict[str, object], message: str) -> None:
    lines = [json.loads(line) for line in a_log(tmp_path / "a.steps.jsonl", seed=1).read_text().splitlines()]
    wrong = [line | change if line["ev"] == "step" else line for line in lines]
    with pytest.raises(InputError, match=message):
        read_step_log(write(tmp_path / "b.steps.jsonl", wrong))


def test_ends_and_settings_of_a_log(tmp_path: Path) -> None:
    """What is null was not said; an end without its request is told with its line."""
    lines = [json.loads(line) for line in a_log(tmp_path / "a.steps.jsonl", seed=1).read_text().splitlines()]
    lines[0] |= {"policy": None, "watermark": None}
    log = read_step_log(write(tmp_path / "b.steps.jsonl", [*lines, {"ev": "fin", "id": "r0", "out": None}]))
    assert (log.limits.policy, log.limits.watermark, dict(log.outputs)) == ("fcfs", 0.0, {})
    with pytest.raises(InputError, match=rf"b\.steps\.jsonl:{len(lines) + 1}: id: is missing"):
        read_step_log(write(tmp_path / "b.steps.jsonl", [*lines, {"ev": "fin", "out": [1]}]))


def test_turns_that_are_not_of_the_log(tmp_path: Path) -> None:
    path = a_log(tmp_path / "a.steps.jsonl", seed=1)
    log = read_step_log(path)
    last = list(log.requests)[-1]
    seen = {"turn": 0, "prompt_len": 50, "n_out": 20}

    def turns(*names: str, off: float = 0.0) -> tuple[LoggedTurn, ...]:
        times = {"t_send": off, "t_first": off + 1, "t_last": off + 2, "t_done": off + 2}
        return tuple(LoggedTurn.model_validate({"id": n, "program": n, **seen, **times}) for n in names)

    with pytest.raises(InputError, match="are both files of one run, in seconds"):
        front_end(log, turns(*log.requests, off=5000.0))
    cut = [json.loads(line) for line in path.read_text().splitlines()]
    begun = next(i for i, line in enumerate(cut) if line.get("id") == last)
    short = read_step_log(write(tmp_path / "b.steps.jsonl", cut[: begun + 1]))
    with pytest.raises(InputError, match=f"ends before the first token of '{last}'"):
        front_end(short, turns(last))


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """calibrate writes what validate reads; validate judges by a tolerance; faults are one line."""
    from agentservesim.cli import main

    log = a_log(tmp_path / "a.steps.jsonl", seed=1, noise=0.02)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    arrived = {line["id"]: line["t"] for line in lines if line["ev"] == "req"}
    ends: dict[str, list[float]] = {}
    for line in lines[1:]:
        for request, computed, new in line.get("sched", ()):
            if computed + new >= 200 or new == 1:
                ends.setdefault(request, []).append(line["t3"])
    turns: list[dict[str, object]] = [
        {"id": name, "program": name, "turn": 0, "t_send": arrived[name], "t_first": seen[0]}
        | {"t_last": seen[19], "t_done": seen[19], "n_out": 20}
        | {"prompt_len": next(line["prompt_len"] for line in lines if line.get("id") == name)}
        for name, seen in ends.items()
    ]
    write(tmp_path / "a.turns.jsonl", turns)
    mine = tmp_path / "mine.json"

    def done(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in words])
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    code, out, _ = done("calibrate", log, "--out", mine)
    assert code == 0
    assert "held out" in out
    code, out, _ = done("validate", log, "--calibration", mine)
    assert code == 0
    assert "a: 12 turns" in out
    code, _, err = done("validate", log, "--calibration", mine, "--tolerance", "0")
    assert code == 1
    assert "beyond 0.0%" in err
    code, _, err = done("validate", log)
    assert code == 2
    assert "give --calibration FILE" in err
    deployment = ("--model", "llama-3.1-8b", "--gpu", "h100-sxm", "--tensor-parallel-size")
    scales = []
    for ranks in (1, 2):
        assert done("calibrate", log, *deployment, ranks, "--out", tmp_path / "host.json")[0] == 0
        host = read_calibration(tmp_path / "host.json").host
        assert host is not None
        scales.append(host.step_time_scale)
    assert scales[0] < scales[1]
    code, _, err = done("calibrate", log, *deployment, 3)
    assert (code, err.count("\n")) == (2, 1)
    assert "3 does not divide" in err
    code, _, err = done("calibrate", log, "--model", "llama-3.1-8b")
    assert code == 2
    assert "--model and --gpu go together" in err

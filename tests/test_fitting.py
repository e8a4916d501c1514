"""Constants fitted to recorded runs: found again where our own engine made the recording."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from agentservesim.cli import main
from agentservesim.cost.calibration import RequestError, read_calibration
from agentservesim.cost.config import CostConfig
from agentservesim.model import InputError
from agentservesim.validation import fit_requests, fitting, read_run, validate_run
from agentservesim.validation.rerun import replay

TRUTH = {
    "linear_scale": 1.15,
    "attention_scale": 1.3,
    "host_overhead_s": 1e-3,
    "prefill_overhead_s": 5e-3,
    "frontend_in_s": 20e-3,
}
ABOUT = {
    "model": "qwen3-8b",
    "vllm_version": "0.19.0",
    "engine_kwargs": {"max_num_seqs": 64, "max_num_batched_tokens": 2048},
    "hardware": {"device_name": "NVIDIA H100 SXM"},
}


def recorded(folder: Path, requests: int, inside: bool = False, **truth: float) -> Path:
    """A run that our own engine made, with these constants, as its clients or its engine would record it."""
    draws = np.random.default_rng(1)
    arrival = np.cumsum(draws.exponential(2.5, requests))
    prompts, outputs = draws.integers(50, 20_000, requests), draws.integers(2, 150, requests)
    lines = [
        {"input_toks": int(prompt), "output_toks": int(output), "arrival_time": float(at)}
        for at, prompt, output in zip(arrival, prompts, outputs, strict=True)
    ]
    stamps = {"first_token_ts": arrival + 1.0, "last_token_ts": arrival + 2.0}
    stamps |= {"queued_ts": arrival, "scheduled_ts": arrival} if inside else {}
    write(folder, lines, stamps)
    side, _ = replay(read_run(folder), truth)
    stamps |= {"first_token_ts": side.first_token + arrival[0], "last_token_ts": side.last_token + arrival[0]}
    stamps |= {"scheduled_ts": np.maximum(arrival, side.scheduled + arrival[0])} if inside else {}
    write(folder, lines, stamps)
    return folder


def write(folder: Path, lines: list[dict[str, float]], stamps: dict[str, np.ndarray]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "meta.json").write_text(json.dumps(ABOUT))
    rows = [line | {k: float(v[i]) for k, v in stamps.items()} for i, line in enumerate(lines)]
    (folder / "requests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_known_constants_are_found_again(tmp_path: Path) -> None:
    found = fit_requests([read_run(recorded(tmp_path / "run", 150, **TRUTH))])
    settings = found.settings()
    for name, within in (("linear_scale", 0.03), ("attention_scale", 0.03), ("frontend_in_s", 0.05)):
        assert settings[name] == pytest.approx(TRUTH[name], rel=within)
    for name, within in (("host_overhead_s", 0.2e-3), ("prefill_overhead_s", 1e-3)):
        assert settings[name] == pytest.approx(TRUTH[name], abs=within)
    assert set(found.spreads) == set(TRUTH)
    assert all(0 < spread < 0.1 * TRUTH[name] for name, spread in found.spreads.items())
    for error, requests in ((found.fitted, 120), (found.held_out, 30)):
        assert isinstance(error, RequestError)
        assert error.requests == requests
        assert abs(error.ttft.mean) < 0.01
        assert error.tpot is not None
        assert abs(error.tpot.mean) < 0.01


def test_the_command_fits_runs_and_others_are_validated_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "SHRINK", 0.5)
    folder, out = recorded(tmp_path / "run", 70, inside=True, attention_scale=1.5), tmp_path / "found.json"
    before = validate_run(folder)
    with pytest.raises(SystemExit, match="0"):
        main(["calibrate", str(folder), "--out", str(out)])
    said = capsys.readouterr().out
    assert "attention_scale" in said
    assert "held out: 10 requests, mean TTFT" in said
    found = read_calibration(out)
    assert found.front_end is None
    after = validate_run(folder, calibration=out)
    assert abs(after.error("TPOT")) < 0.3 * abs(before.error("TPOT"))
    row = next(row for row in after.figures if row.figure == "TPOT" and row.statistic == "mean")
    assert row.slower > 0.002 > -0.002 > row.faster


def test_too_few_requests_and_logs_of_two_kinds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = recorded(tmp_path / "run", 40)
    with pytest.raises(InputError, match="30 requests are left to fit; at least 50 are needed"):
        fit_requests([read_run(folder)], hold_out=0.25)
    with pytest.raises(SystemExit, match="2"):
        main(["calibrate", str(folder), "--model", "qwen3-8b", "--gpu", "h100-sxm"])
    assert "a folder of a recorded run says its model and gpu" in capsys.readouterr().err


def test_no_class_of_operators_is_faster_than_the_data_sheet() -> None:
    from agentservesim.cost import build_cost
    from agentservesim.cost.base import Batch
    from agentservesim.cost.config import Efficiency
    from agentservesim.cost.roofline import IDEAL

    limits = {"block_size": 16, "max_num_batched_tokens": 8192, "max_num_seqs": 256}
    quiet = {"host_work_s": 0.0, "host_work_per_sequence_s": 0.0, "prefill_overhead_s": 0.0}
    fast = {"linear_scale": 0.01, "attention_scale": 0.01, **quiet}
    ideal = CostConfig(step_time="roofline", efficiency=Efficiency(**IDEAL), **quiet)
    least = build_cost(ideal, **limits).step_time
    for step_time in ("roofline", "tables"):
        time = build_cost(CostConfig(step_time=step_time, **fast), **limits).step_time
        for chunks, contexts in (([(512, 4096)], []), ([(16, 32768)], [900]), ([], [4000] * 64), ([], [9])):
            ours, theirs = (
                model.step_ps(Batch.of(model.knots, chunks, contexts, 0)) for model in (time, least)
            )
            assert ours >= 0.999 * theirs  # rows beside chunks are not launched again: 4 us

"""Fidelity on recorded runs of vLLM, and the reader of recordings.

The recorded runs and tables lie beside the repository; where they are absent these tests say so and
are skipped. The others make a recording of their own.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from agentservesim.model import InputError
from agentservesim.validation import ValidationReport, print_validation, read_run, validate_run

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
LLAMA, LLAMA_4090 = "RTXPRO6000/Llama-3.1-8B", "RTX4090/Llama-3.1-8B"
QWEN = "RTXPRO6000/Qwen3-30B-A3B-Instruct-2507"


@pytest.fixture(scope="module")
def reports() -> dict[str, ValidationReport]:
    if not (DATA / "vllm-runs").is_dir():
        pytest.skip(f"no recorded runs in {DATA / 'vllm-runs'}: fidelity is NOT checked here")
    return {
        name: validate_run(DATA / "vllm-runs" / name, DATA / "profiles") for name in (LLAMA, LLAMA_4090, QWEN)
    }


def test_rtx_pro_6000_llama(reports: dict[str, ValidationReport]) -> None:
    report = reports[LLAMA]
    assert abs(report.error("TTFT")) <= 0.03
    assert abs(report.error("TPOT")) <= 0.015
    assert abs(report.error("E2E")) <= 0.015
    assert abs(report.error("makespan", "total")) <= 0.015
    assert report.unqueued == 119
    assert report.unqueued_mape is not None
    assert report.unqueued_mape <= 0.11
    assert report.within(0.03)


def test_rtx_4090_llama(reports: dict[str, ValidationReport]) -> None:
    """Memory-bound: 2,588 blocks, preemptions. Known to come out a few percent slow."""
    report = reports[LLAMA_4090]
    assert report.provenance["num_gpu_blocks"] == "given"
    assert report.within(0.06)


def test_data_parallel_experts(reports: dict[str, ValidationReport]) -> None:
    """Two engines in step, experts shared, over PCIe."""
    report = reports[QWEN]
    assert report.within(0.03)
    assert all(abs(report.error(figure, "p99")) <= 0.05 for figure in ("TTFT", "TPOT", "E2E"))


def test_errors_of_another_simulator_stand_beside_ours(reports: dict[str, ValidationReport]) -> None:
    peers = {(row.figure, row.statistic): row.peer_error for row in reports[LLAMA].figures}
    assert peers["TTFT", "mean"] == pytest.approx(-0.04)
    assert peers["E2E", "p99"] == pytest.approx(-0.016)
    assert peers["makespan", "total"] is None


def test_queueing_amplifies_a_step_s_error(reports: dict[str, ValidationReport]) -> None:
    row = next(r for r in reports[LLAMA].figures if (r.figure, r.statistic) == ("TTFT", "mean"))
    assert row.slower > 0.015
    assert row.faster < -0.015


def test_the_table_names_what_is_left_out(reports: dict[str, ValidationReport]) -> None:
    screen = io.StringIO()
    print_validation([reports[QWEN]], screen)
    assert f"{QWEN}: 300 requests" in screen.getvalue()
    assert "note: prefix hits" in screen.getvalue()
    assert "MAPE" in screen.getvalue()


def _write(folder: Path, requests: list[dict[str, object]], **meta: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "model": "qwen3-8b",
        "vllm_version": "0.19.0",
        "engine_kwargs": {"max_num_seqs": 8, "max_num_batched_tokens": 1024},
        "hardware": {"device_name": "NVIDIA H100 SXM"},
    }
    (folder / "meta.json").write_text(json.dumps(about | meta))
    (folder / "requests.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in requests))
    return folder


def _request(at: float, first: float, last: float, **other: object) -> dict[str, object]:
    return {
        "input_toks": 500,
        "output_toks": 11,
        "arrival_time": 1e9 + at,
        "queued_ts": 50.0 + at,
        "scheduled_ts": 50.0 + at,
        "first_token_ts": 50.0 + at + first,
        "last_token_ts": 50.0 + at + last,
    } | other


def test_clocks_are_aligned_by_the_quickest_request(tmp_path: Path) -> None:
    slow = _request(2.0, 0.4, 1.1, queued_ts=52.25, scheduled_ts=52.25)
    run = read_run(_write(tmp_path / "gpu" / "model", [slow, _request(0.0, 0.1, 1.1)]))
    assert run.name == "gpu/model"
    assert run.arrival == pytest.approx([0.0, 2.0])
    assert run.queued == pytest.approx([0.0, 2.25])
    assert run.first_token == pytest.approx([0.1, 2.4])


def test_a_recording_without_tables_is_priced_by_the_roofline(tmp_path: Path) -> None:
    folder = _write(tmp_path, [_request(at, 0.1, 0.2) for at in (0.0, 1.0, 2.0)])
    report = validate_run(folder)
    assert report.requests == report.unqueued == 3
    assert report.provenance["step_time"].startswith("roofline")
    real = next(r for r in report.figures if (r.figure, r.statistic) == ("TPOT", "mean"))
    assert real.real == pytest.approx(0.01)
    assert 0.002 < real.simulated < 0.02
    assert json.loads(json.dumps(report.as_dict()))["requests"] == 3


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ('{"input_toks": 5', "requests.jsonl:2: not JSON"),
        ("{}", "requests.jsonl:2: input_toks: is missing"),
        ('"text"', "requests.jsonl:2:"),
        (
            json.dumps(_request(0, 1, 2, output_toks=0)),
            "requests.jsonl:2: output_toks: must be",
        ),
        (json.dumps(_request(0, 1, 2, queued_ts="soon")), "requests.jsonl:2: queued_ts: must be a number"),
        (
            json.dumps(_request(0, 1, 2, first_token_ts=float("nan"))),
            "requests.jsonl:2: first_token_ts: must be a finite",
        ),
        (json.dumps(_request(0, 3, 2)), "requests.jsonl:2: stamps must ascend"),
    ],
)
def test_broken_requests(tmp_path: Path, broken: str, message: str) -> None:
    folder = _write(tmp_path, [_request(0.0, 0.1, 0.2)])
    with (folder / "requests.jsonl").open("a") as file:
        file.write(broken + "\n")
    with pytest.raises(InputError) as raised:
        read_run(folder)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"model": "qwen3-8c"}, "did you mean 'qwen3-8b'"),
        ({"hardware": {"device_name": "NVIDIA H100 SMX"}}, "did you mean 'h100-sxm'"),
        ({"engine_kwargs": {"max_num_seqs": -1}}, "max_num_seqs"),
        ({"engine_kwargs": [1]}, "'engine_kwargs' must be a table"),
        (
            {"engine_kwargs": {"data_parallel_size": "two"}},
            "data_parallel_size must be a positive whole number",
        ),
        ({"kv_cache": {"num_gpu_blocks": 20}}, ""),
    ],
)
def test_broken_settings(tmp_path: Path, meta: dict[str, object], message: str) -> None:
    folder = _write(tmp_path, [_request(0.0, 0.1, 0.2)], **meta)
    with pytest.raises(InputError) as raised:
        validate_run(folder)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a folder"):
        validate_run(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"meta\.json: no such file"):
        validate_run(tmp_path)
    _write(tmp_path, [])
    with pytest.raises(InputError, match="holds no requests"):
        validate_run(tmp_path)

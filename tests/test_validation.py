"""Fidelity on recorded runs of vLLM, and the reader of recordings.

The recorded runs and tables lie beside the repository; where they are absent these tests say so and
are skipped. The others make a recording of their own.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from agentservesim.cli import main
from agentservesim.model import InputError
from agentservesim.validation import (
    ValidationReport,
    print_validation,
    read_run,
    rerun,
    validate_run,
)

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


@pytest.mark.parametrize("name", [LLAMA, LLAMA_4090, QWEN])
def test_without_tables_of_their_own(name: str) -> None:
    """What ships with the package, and one set of constants, for all three servers."""
    if not (DATA / "vllm-runs").is_dir():
        pytest.skip(f"no recorded runs in {DATA / 'vllm-runs'}: fidelity is NOT checked here")
    report = validate_run(DATA / "vllm-runs" / name)
    assert report.within(0.03)
    for figure in ("TTFT", "TPOT", "E2E"):
        for statistic in ("p50", "p90", "p99"):
            assert abs(report.error(figure, statistic)) <= 0.05, (figure, statistic)


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


def test_a_recording_without_tables_takes_the_default_step_times(tmp_path: Path) -> None:
    folder = _write(tmp_path, [_request(at, 0.1, 0.2) for at in (0.0, 1.0, 2.0)])
    report = validate_run(folder)
    assert report.requests == report.unqueued == 3
    assert report.provenance["step_time"].startswith(("roofline", "tables: operators measured on h100"))
    real = next(r for r in report.figures if (r.figure, r.statistic) == ("TPOT", "mean"))
    assert real.real == pytest.approx(0.01)
    assert 0.002 < real.simulated < 0.02
    assert json.loads(json.dumps(report.as_dict()))["requests"] == 3


@pytest.mark.parametrize(
    ("version", "share"),
    [("0.11.2", 0.9), ("0.19.1", 0.9), ("0.23.0", 0.92), ("0.32.0", 0.92), ("0.40", 0.92)],
)
def test_memory_is_shared_out_as_the_recorded_version_does(
    tmp_path: Path, version: str, share: float
) -> None:
    """0.9 in vLLM 0.19, 0.92 in 0.26 and, by the blocks of the server in docs/accuracy.md, in 0.23."""
    requests = [_request(0.0, 0.1, 0.2)]
    silent = read_run(_write(tmp_path / "silent", requests, vllm_version=version))
    told = read_run(_write(tmp_path / "told", requests, kv_cache={"gpu_memory_utilization": 0.5}))
    assert rerun.instance_of(silent, {}).gpu_memory_utilization == share
    assert rerun.instance_of(told, {}).gpu_memory_utilization == 0.5


@pytest.mark.parametrize(
    ("version", "asynchronous"), [("0.12.0", False), ("v0.16.0", True), ("0.40.1", True)]
)
def test_scheduling_is_asynchronous_since_0_14(tmp_path: Path, version: str, asynchronous: bool) -> None:
    run = read_run(_write(tmp_path, [_request(0.0, 0.1, 0.2)], vllm_version=version))
    assert rerun.instance_of(run, {}).async_scheduling is asynchronous


def test_settings_are_those_given_else_those_resolved(tmp_path: Path) -> None:
    resolved = {
        "scheduler_config": {
            "max_num_seqs": 99,
            "max_num_batched_tokens": 4096,
            "enable_chunked_prefill": True,
        },
        "parallel_config": {"tensor_parallel_size": 2},
        "cache_config": {"cache_dtype": "fp8_e4m3"},
        "model_config": {"dtype": "torch.float16", "enforce_eager": True},
    }
    given = {"max_num_seqs": 8, "max_model_len": None, "enable_chunked_prefill": False, "block_size": 32}
    run = read_run(_write(tmp_path, [_request(0.0, 0.1, 0.2)], resolved_config=resolved, engine_kwargs=given))
    engine = rerun.instance_of(run, {})
    assert (engine.max_num_seqs, engine.max_num_batched_tokens) == (8, 4096)
    assert (engine.tensor_parallel_size, engine.block_size) == (2, 32)
    assert (engine.dtype, engine.kv_cache_dtype) == ("float16", "fp8")
    assert engine.enforce_eager
    assert not engine.enable_chunked_prefill


def test_a_quantised_checkpoint_says_itself_how(tmp_path: Path) -> None:
    """vLLM resolves `quantization` to the checkpoint's own kind, for which there is no setting here."""
    for model, method in (("openai/gpt-oss-20b", "mxfp4"), ("org/Qwen3-14B-FP8", "compressed-tensors")):
        requests = [_request(0.0, 0.1, 0.2)]
        run = read_run(_write(tmp_path, requests, model=model, engine_kwargs={"quantization": method}))
        assert rerun.instance_of(run, {}).quantization == "auto"


def test_tables_are_found_by_any_name(tmp_path: Path) -> None:
    """The driver's name of the accelerator, and an instruct model with the shapes of its base."""
    root = tmp_path / "tables"
    for place in ("Qwen3-32B/bf16", "Qwen3-8B/bf16", "Qwen3-8B/fp8"):
        (root / "H100/Qwen" / place).mkdir(parents=True)
        (root / "H100/Qwen" / place / "meta.json").write_text("{}")

    def found(model: str) -> Path:
        device = {"device_name": "NVIDIA H100 80GB HBM3"}
        requests = [_request(0.0, 0.1, 0.2)]
        return rerun.tables_of(
            read_run(_write(tmp_path / "run", requests, model=model, hardware=device)), root
        )

    assert found("/models/Qwen3-8B") == root / "H100/Qwen/Qwen3-8B/bf16"
    assert found("Qwen/Qwen3-8B-FP8") == root / "H100/Qwen/Qwen3-8B/fp8"
    with pytest.raises(InputError, match="holds none of Qwen/Qwen3-32B-FP8 in fp8"):
        found("Qwen/Qwen3-32B-FP8")


def test_what_a_replay_leaves_out_is_said(tmp_path: Path) -> None:
    given = {"speculative_config": {"method": "ngram"}, "enable_lora": False, "enforce_eager": True}
    report = validate_run(_write(tmp_path, [_request(0.0, 0.1, 0.2)], engine_kwargs=given))
    assert any("left out: speculative_config" in note for note in report.notes)
    assert any(note.startswith("enforce_eager") for note in report.notes)
    assert not any("lora" in note for note in report.notes)


def _client(at: float, first: float, last: float, **other: object) -> dict[str, object]:
    inside = ("queued_ts", "scheduled_ts")
    request = _request(at, first, last, arrival_time=50.0 + at, **other)
    return {key: value for key, value in request.items() if key not in inside}


def test_clients_see_the_front_end(tmp_path: Path) -> None:
    """One clock, no stamps of the engine: nothing is known of queues, and the front end is simulated."""
    times = [(at, 0.1, 0.2) for at in (0.0, 1.0, 2.0)]
    inside = validate_run(_write(tmp_path / "inside", [_request(*t) for t in times]))
    outside = validate_run(_write(tmp_path / "outside", [_client(*t) for t in times]))
    ttft = [
        next(r.simulated for r in report.figures if (r.figure, r.statistic) == ("TTFT", "mean"))
        for report in (inside, outside)
    ]
    assert 0.001 < ttft[1] - ttft[0] < 0.05
    assert outside.unqueued_mape is None
    assert set(outside.over_time) == {"output"}
    assert any("recorded by clients" in note for note in outside.notes)


def test_named_contents_hit_the_prefix_cache(tmp_path: Path) -> None:
    """500 tokens are 31 blocks of 16 and 4 tokens. The second request repeats 20 blocks, the third all, of
    which the last token, and so its block, is computed again."""
    first = list(range(32))
    second = [*range(20), *range(100, 112)]
    requests = [
        _request(0.0, 0.1, 0.2, hash_ids=first, cached_toks=0),
        _request(1.0, 0.1, 0.2, hash_ids=second, cached_toks=320),
        _request(2.0, 0.1, 0.2, hash_ids=first, cached_toks=480),
    ]
    report = validate_run(_write(tmp_path, requests))
    rate = next(row for row in report.figures if row.figure == "hit rate")
    assert rate.real == pytest.approx(800 / 1500)
    assert rate.simulated == pytest.approx((320 + 31 * 16) / 1500)
    assert not any("prefix hits" in note for note in report.notes)
    with pytest.raises(InputError, match="500 tokens has 3 hash_ids"):
        validate_run(_write(tmp_path / "short", [_request(0.0, 0.1, 0.2, hash_ids=[1, 2, 3])]))


def test_saturated_throughput_is_that_of_the_queue(tmp_path: Path) -> None:
    """Two run at once. Of 11 tokens a request's last 10 are spread over 10 s; requests 3 to 6 wait from the
    start until 30 s, and in these 30 s the engine puts out three pairs of replies."""
    requests = [
        _request(0.0, wait + 1e-3, wait + 10.0, scheduled_ts=50.0 + wait)
        for wait in (0.0, 0.0, 10.0, 10.0, 20.0, 20.0, 30.0, 30.0)
    ]
    folder = _write(tmp_path, requests, engine_kwargs={"max_num_seqs": 2, "max_num_batched_tokens": 1024})
    report = validate_run(folder)
    rows = {(row.figure, row.statistic): row for row in report.figures}
    assert rows["throughput", "saturated"].real == pytest.approx(2 * 11 / 10, rel=1e-3)
    assert rows["throughput", "total"].real == pytest.approx(8 * 11 / 40, rel=1e-3)
    assert rows["queue", "mean"].real == pytest.approx(2 * (10 + 20 + 30) / 40, rel=1e-3)
    assert report.unqueued == 2
    bins = report.real
    assert (bins.output * (bins.edges[1:] - bins.edges[:-1])).sum() == pytest.approx(88, rel=1e-3)
    assert bins.running.max() == pytest.approx(2.0, rel=1e-3)


def test_files_and_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _write(tmp_path / "gpu" / "run", [_request(at, 0.1, 0.2) for at in (0.0, 1.0)])
    out = tmp_path / "out"

    def validate(*options: object) -> int:
        with pytest.raises(SystemExit) as ended:
            main(["validate", str(folder), *map(str, options)])
        return int(ended.value.code or 0)

    assert validate("--out", out) == 0
    assert validate("--out", folder / "meta.json" / "out") == 2
    assert "out: cannot be made" in capsys.readouterr().err
    assert {path.name for path in out.iterdir()} == {
        "validation.json",
        "gpu_run.timeline.csv",
        "gpu_run.timeline.svg",
    }
    assert json.loads((out / "validation.json").read_text())[0]["name"] == "gpu/run"
    lines = (out / "gpu_run.timeline.csv").read_text().splitlines()
    assert lines[0].startswith("time_s,real_output,sim_output,real_waiting")
    assert len(lines) == 61
    assert (out / "gpu_run.timeline.svg").read_text().count("<polyline") == 6
    assert validate("--tolerance", 100) == 0
    capsys.readouterr()
    assert validate("--tolerance", 0.0001) == 1
    assert "beyond 0.0%: TTFT of gpu/run is" in capsys.readouterr().err


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
        (json.dumps(_request(0, 1, 2, queued_ts=None)), "queued_ts and scheduled_ts go together"),
        (
            json.dumps(_request(0, 1, 2, queued_ts=None, scheduled_ts=None, arrival_time=40.0)),
            "queued_ts must be there for all requests, or for none",
        ),
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
        ({"hash_block_size": 0}, "'hash_block_size' is 0"),
        ({"vllm_version": "nightly"}, "vllm_version 'nightly' is no version"),
        ({"vllm_version": "0.1.dev1+g12ab"}, "is no version"),
        ({"engine_kwargs": {"quantization": "awq"}}, "got 'awq'"),
        ({"hardware": None}, "gpu: '"),
    ],
)
def test_broken_settings(tmp_path: Path, meta: dict[str, object], message: str) -> None:
    folder = _write(tmp_path, [_request(0.0, 0.1, 0.2)], **meta)
    with pytest.raises(InputError) as raised:
        validate_run(folder)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_stamps_that_are_not_seconds(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"requests\.jsonl: a token took 100 s on average; are stamps in"):
        read_run(_write(tmp_path, [_request(0.0, 500.0, 1500.0)]))


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a folder"):
        validate_run(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"meta\.json: no such file"):
        validate_run(tmp_path)
    _write(tmp_path, [])
    with pytest.raises(InputError, match="holds no requests"):
        validate_run(tmp_path)

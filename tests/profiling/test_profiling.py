"""The profiler, at toy size on the processor: its operators, its tables, and what becomes of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from agentservesim.cost import CostConfig, build_cost
from agentservesim.cost.base import Batch
from agentservesim.cost.modelnames import load_model
from agentservesim.model import InputError
from agentservesim.profiling import Grid, link_of, open_device, profile
from agentservesim.profiling.collectives import all_reduce
from agentservesim.profiling.devices import Device
from agentservesim.profiling.operators import doublings

TOY = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 256,
    "torch_dtype": "bfloat16",
}
SPARSE = TOY | {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
}
GRID = Grid(max_tokens=64, max_context=256, max_rows=8)


def toy(folder: Path, config: dict[str, object]) -> str:
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return str(path)


@pytest.fixture(params=["numpy", "cpu"])
def device(request: pytest.FixtureRequest) -> Device:
    if request.param == "cpu":
        pytest.importorskip("torch", reason="PyTorch is not installed: its device is not tested")
    return open_device(request.param)


@pytest.mark.parametrize("config", [TOY, SPARSE], ids=["dense", "sparse"])
def test_the_tables_price_steps(tmp_path: Path, device: Device, config: dict[str, object]) -> None:
    name = toy(tmp_path, config)
    seen: list[tuple[str, int]] = []
    folder = profile(
        load_model(name), device, tmp_path / "tables", grid=GRID, progress=lambda *row: seen.append(row)
    )
    assert {path.name for path in folder.iterdir()} >= {"dense.csv", "per_sequence.csv", "attention.csv"}
    assert (folder / "moe.csv").exists() == ("num_experts" in config)
    assert seen[-1][0] == ("moe.csv" if "num_experts" in config else "copies.csv")
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["library"].split()[0] == ("numpy" if device.number_bytes == 4 else "torch")
    cost = build_cost(
        CostConfig(model=name, tables=folder), block_size=16, max_num_batched_tokens=64, max_num_seqs=8
    )
    step = cost.step_time
    short, long = (step.step_ps(Batch.of(step.knots, contexts=[c] * 4)) for c in (100, 250))
    assert 0 < short <= long
    assert "measured operators" in cost.provenance["step_time"]
    bytes_per_s, overhead_s = link_of(folder, "up")
    assert bytes_per_s > 1e6
    assert overhead_s >= 0


def test_attention_is_attention(device: Device) -> None:
    """Two queries on three keys: the first sees two of them, the second all; sqrt(4) is 2."""
    q, k, v = device.array(1, 2, 2, 4), device.array(1, 1, 3, 4), device.array(1, 1, 3, 4)
    plain = [np.asarray(x.tolist(), float) for x in (q, k, v)]
    found = np.asarray(device.attend(q * 2, k, v, causal=True).tolist(), float)
    for head in range(2):
        for query, seen in ((0, 2), (1, 3)):
            scores = np.exp(plain[1][0, 0, :seen] @ plain[0][0, head, query])
            expected = scores @ plain[2][0, 0, :seen] / scores.sum()
            assert found[0, head, query] == pytest.approx(expected, rel=0.05, abs=0.03)


def test_a_profile_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    model = load_model(toy(tmp_path, TOY))

    def interrupt(name: str, rows: int) -> None:
        if name == "attention.csv" and rows == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        profile(model, open_device("numpy"), tmp_path / "t", grid=GRID, progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    (tmp_path / "t").mkdir()
    with pytest.raises(InputError, match="tables: cannot be made"):
        profile(model, open_device("numpy"), tmp_path / "config.json" / "tables", grid=GRID)
    with pytest.raises(InputError, match="is there already"):
        profile(model, open_device("numpy"), tmp_path / "t", grid=GRID)


def test_what_cannot_be_profiled(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown device 'cdua'; did you mean 'cuda'"):
        open_device("cdua")
    with pytest.raises(InputError, match="operator tables hold one kind of layer"):
        profile(load_model("gpt-oss-20b"), open_device("numpy"), tmp_path / "t", grid=GRID)


def test_a_link_is_found_in_its_copies(tmp_path: Path) -> None:
    """Copies of 2 us and 10 GB/s: n blocks of b bytes take 2 n + n b / 10,000 us."""
    rows = [("up", b, n, 2 * n + n * b / 10_000) for b in (10_000, 1_000_000) for n in (1, 8, 64)]
    lines = ["direction,block_bytes,blocks,time_us", *(",".join(map(str, row)) for row in rows)]
    (tmp_path / "copies.csv").write_text("\n".join(lines) + "\n")
    bytes_per_s, overhead_s = link_of(tmp_path, "up")
    assert bytes_per_s == pytest.approx(10e9, rel=1e-6)
    assert overhead_s == pytest.approx(2e-6, rel=1e-6)


def test_doublings() -> None:
    assert doublings(1, 8) == [1, 2, 4, 8]
    assert doublings(16, 100) == [16, 32, 64, 100]
    assert doublings(4, 3) == [3]


def test_ranks_add_up_and_are_timed() -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: its collectives are not tested")
    rows = list(all_reduce(2, on_gpu=False, sizes=(4096, 65536)))
    assert [row[:3] for row in rows] == [("all_reduce", 2, 4096), ("all_reduce", 2, 65536)]
    assert all(row[3] > 0 for row in rows)

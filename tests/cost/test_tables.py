"""Operator tables: what was measured comes out, beyond it curves go on, bad files are named with the line."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from agentservesim.cost import CostConfig, build_cost
from agentservesim.cost.accelerators import load_accelerator
from agentservesim.cost.base import Batch
from agentservesim.cost.curves import Curve
from agentservesim.cost.deployment import Deployment
from agentservesim.cost.modelnames import load_model
from agentservesim.cost.tablefiles import GAP_US, OperatorTables, read_tables, step_tables
from agentservesim.cost.tables import Tables
from agentservesim.model import InputError, to_ps
from tests.cost.conftest import (
    CONTEXT,
    HISTORY,
    LAYERS,
    NEW,
    ROWS,
    alone_us,
    beside_us,
    chunk_us,
    write_tables,
)

PS_PER_US = 1_000_000


@pytest.fixture(scope="module")
def model(config_json: Path, table_folder: Path) -> Tables:
    return _tables(config_json, table_folder)


def _tables(config_json: Path, folder: Path, **settings: object) -> Tables:
    config = CostConfig.model_validate(
        {
            "model": str(config_json),
            "gpu": "rtx-4090",
            "tables": folder,
            "enforce_eager": True,
            "host_work_s": 0,
            "host_work_per_sequence_s": 0,
            **settings,
        }
    )
    cost = build_cost(config, block_size=16, max_num_batched_tokens=2048, max_num_seqs=128)
    assert isinstance(cost.step_time, Tables)
    return cost.step_time


def _attention_us(model: Tables, batch: Batch) -> float:
    """Attention of a layer: the step less all that does not depend on contexts."""
    if batch.chunks:
        return model.mixed_ps(batch) / LAYERS / PS_PER_US
    costs, slopes = model.decode_cells(batch.rows)
    total = sum(c * a + s * b for c, a, s, b in zip(batch.counts, costs, batch.contexts, slopes, strict=True))
    return total / LAYERS / PS_PER_US


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("context", CONTEXT)
def test_equal_decode_rows_cost_what_was_measured(model: Tables, rows: int, context: int) -> None:
    batch = Batch.of(model.knots, contexts=[context] * rows)
    assert _attention_us(model, batch) == pytest.approx(alone_us(rows, context), rel=1e-4)


@pytest.mark.parametrize("new", NEW)
@pytest.mark.parametrize("history", HISTORY)
def test_a_chunk_costs_what_was_measured(model: Tables, new: int, history: int) -> None:
    batch = Batch.of(model.knots, [(new, history)])
    assert _attention_us(model, batch) == pytest.approx(chunk_us(new, history), rel=1e-4)


@pytest.mark.parametrize("new", NEW)
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("context", CONTEXT)
def test_rows_beside_a_chunk_cost_what_was_measured(model: Tables, new: int, rows: int, context: int) -> None:
    batch = Batch.of(model.knots, [(new, 1024)], [context] * rows)
    expected = chunk_us(new, 1024) + beside_us(new, rows, context)
    assert _attention_us(model, batch) == pytest.approx(expected, rel=1e-3)


def test_between_points_curves_are_straight(model: Tables) -> None:
    """Not straight in the logarithm, which would overshoot between points far apart."""
    batch = Batch.of(model.knots, contexts=[1200] * 5)
    assert _attention_us(model, batch) == pytest.approx(alone_us(5, 1200), rel=1e-3)
    between = Batch.of(model.knots, [(256, 2500)])
    assert _attention_us(model, between) == pytest.approx(chunk_us(256, 2500), rel=1e-3)


def test_a_finer_grid_that_begins_later_says_nothing_of_short_contexts(
    config_json: Path, table_folder: Path, tmp_path: Path, model: Tables
) -> None:
    """A chunk length and a history that were measured beside long contexts alone leave the others be."""
    folder = tmp_path / "tp1"
    shutil.copytree(table_folder, folder)
    late = [(128, 0), (64, 512)]
    with (folder / "attention.csv").open("a") as file:
        for new, history in late:
            own = chunk_us(new, history)
            file.writelines(
                f"{new},{history},{n},{kv},{own + beside_us(new, n, kv)!r}\n"
                for n in ROWS
                for kv in CONTEXT[-2:]
            )
    finer = _tables(config_json, folder)
    for new in (*NEW, 128):
        for rows in ROWS:
            batch = Batch.of(model.knots, [(new, 0)], [CONTEXT[0]] * rows)
            assert finer.mixed_ps(batch) == model.mixed_ps(batch)


def test_a_decode_row_is_priced_by_its_own_context(model: Tables) -> None:
    contexts = [100, 5000, 60_000, 1]
    batch = Batch.of(model.knots, contexts=contexts)
    own = sum(alone_us(4, max(16, context)) / 4 for context in contexts)
    assert _attention_us(model, batch) == pytest.approx(own, rel=1e-3)


def test_beyond_the_grid_curves_go_on(model: Tables) -> None:
    far = Batch.of(model.knots, contexts=[150_000] * 4)
    assert _attention_us(model, far) == pytest.approx(alone_us(4, 150_000), rel=1e-3)
    many = Batch.of(model.knots, contexts=[1000] * 300)
    assert _attention_us(model, many) == pytest.approx(alone_us(300, 1000), rel=1e-3)
    deep = Batch.of(model.knots, [(1024, 100_000)])
    assert _attention_us(model, deep) == pytest.approx(chunk_us(1024, 100_000), rel=1e-3)
    per_token = LAYERS * (0.02 + 0.01 + 0.04 + 0.02 + 2 * 0.001) + 0.001
    assert model.dense_ps(8192) - model.dense_ps(4096) == pytest.approx(
        4096 * per_token * PS_PER_US, rel=1e-3
    )


def test_a_long_chunk_is_priced_in_pieces(model: Tables) -> None:
    batch = Batch.of(model.knots, [(2560, 512)])
    pieces = chunk_us(1024, 512) + chunk_us(1024, 1536) + chunk_us(512, 2560)
    assert _attention_us(model, batch) == pytest.approx(pieces, rel=0.02)


def test_dense_and_head_by_hand(model: Tables) -> None:
    # 64 tokens: four projections and two norms a layer, the embedding once; gaps, attention's too.
    layer = 4 * 5 + 64 * (0.02 + 0.01 + 0.04 + 0.02) + 2 * (5 + 64 * 0.001)
    gaps = LAYERS * (4 + 2 + 1) * GAP_US
    assert model.dense_ps(64) / PS_PER_US == pytest.approx(LAYERS * layer + gaps + 3 + 0.064, rel=1e-6)
    assert model.head_ps(16) / PS_PER_US == pytest.approx(20 + 1.6 + 10 + 8, rel=1e-6)
    assert model.head_ps(0) == model.dense_ps(0) == 0


def test_a_step_is_the_sum_of_its_parts(config_json: Path, table_folder: Path) -> None:
    model = _tables(config_json, table_folder, host_overhead_s=1e-3, prefill_overhead_s=2e-3)
    batch = Batch.of(model.knots, [(100, 300), (50, 0)], [400] * 7, sampled=8)
    parts = model.dense_ps(157) + model.head_ps(8) + model.mixed_ps(batch)
    assert model.step_ps(batch) == parts + 3_000_000_000
    alone = Batch.of(model.knots, contexts=[400] * 7)
    attention = _attention_us(model, alone) * LAYERS * PS_PER_US
    expected = model.dense_ps(7) + model.head_ps(7) + attention + 1_000_000_000
    assert model.step_ps(alone) == pytest.approx(expected, abs=2)


def test_batches_are_padded_to_captured_graphs(config_json: Path, table_folder: Path) -> None:
    model = _tables(config_json, table_folder, enforce_eager=False, host_overhead_s=0)
    seven = Batch.of(model.knots, contexts=[16] * 7)
    attention = _attention_us(model, seven) * LAYERS * PS_PER_US
    assert model.step_ps(seven) == pytest.approx(model.dense_ps(8) + model.head_ps(7) + attention, abs=2)
    assert model.dense_ps(8) > model.dense_ps(7)


def test_scale_leaves_the_host_alone(config_json: Path, table_folder: Path) -> None:
    once = _tables(config_json, table_folder, host_overhead_s=1e-3)
    twice = _tables(config_json, table_folder, host_overhead_s=1e-3, step_time_scale=2.0)
    batch = Batch.of(once.knots, [(100, 300)], [400] * 7)
    host = 1_000_000_000 + to_ps(CostConfig().prefill_overhead_s)
    assert twice.step_ps(batch) - host == pytest.approx(2 * (once.step_ps(batch) - host), rel=1e-6)


def test_impossible_measurements_are_lifted_to_the_floor(config_json: Path, tmp_path: Path) -> None:
    folder = write_tables(tmp_path / "tp1")
    for name in ("dense.csv", "per_sequence.csv", "attention.csv"):
        header, *lines = (folder / name).read_text().splitlines()
        lines = [line.rpartition(",")[0] + ",0.0" for line in lines]
        (folder / name).write_text("\n".join([header, *lines]) + "\n")
    model = _tables(config_json, folder, host_overhead_s=0)
    kept = LAYERS * 2 * 2 * 64 * 2
    batch = Batch.of(model.knots, contexts=[50_000] * 10)
    assert _attention_us(model, batch) * LAYERS / 1e6 >= 500_000 * kept / 1.008e12 * 0.999
    assert model.mixed_ps(Batch.of(model.knots, [(16, 100_000)])) / 1e12 >= 100_016 * kept / 1.008e12 * 0.999
    linear = LAYERS * (512 * 768 + 512 * 512 + 3 * 512 * 1024)
    assert model.dense_ps(2048) / 1e12 >= 2 * 2048 * linear / 165.2e12 * 0.999


def test_ranks_pay_for_their_collectives(config_json: Path, tmp_path: Path) -> None:
    write_tables(tmp_path / "tp1")
    write_tables(tmp_path / "tp2")
    one, two = (_tables(config_json, tmp_path, tensor_parallel_size=ranks) for ranks in (1, 2))
    tokens = 100
    message = tokens * 512 * 2
    # Nine all-reduces, two a layer and one for the embedding: 15 us each and half the message both ways.
    expected = (2 * LAYERS + 1) * (15e-6 + message / (32e9 * 0.75))
    assert (two.dense_ps(tokens) - one.dense_ps(tokens)) / 1e12 == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "line", "text", "message"),
    [
        ("dense.csv", 1, "layer,tokens", "dense.csv:1: the header must be 'layer,tokens,time_us'"),
        ("dense.csv", 3, "qkv_prj,8,5", "dense.csv:3: layer 'qkv_prj' is unknown; did you mean 'qkv_proj'"),
        ("dense.csv", 4, "qkv_proj,8,5", "dense.csv:4: qkv_proj at 8 tokens is there twice"),
        ("dense.csv", 5, "qkv_proj,512", "dense.csv:5: 1 columns; there must be 2"),
        ("per_sequence.csv", 2, "lm_head,1,-3", "per_sequence.csv:2: time_us is '-3'; it must be a finite"),
        ("attention.csv", 7, "0,0,two,16,8.0", "attention.csv:7: n_decode is 'two'; it must be a whole"),
        ("attention.csv", 8, "0,0,2,16.5,8.0", "attention.csv:8: kv_decode is '16.5'; it must be a whole"),
        ("attention.csv", 9, "0,0,2,16,nan", "attention.csv:9: time_us is 'nan'; it must be a finite"),
        ("attention.csv", 9, "0,0,2,16", "attention.csv:9: 4 columns; there must be 5"),
    ],
)
def test_malformed_files(
    config_json: Path, tmp_path: Path, name: str, line: int, text: str, message: str
) -> None:
    folder = write_tables(tmp_path / "tp1")
    lines = (folder / name).read_text().splitlines()
    lines[line - 1] = text
    (folder / name).write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError) as raised:
        _tables(config_json, folder)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_missing_parts(config_json: Path, tmp_path: Path) -> None:
    folder = write_tables(tmp_path / "tp1")
    with pytest.raises(InputError, match="is of tensor parallelism 1, tensor_parallel_size is 2"):
        _tables(config_json, folder, tensor_parallel_size=2)
    with pytest.raises(InputError, match=r"no dense\.csv and no folder tp4; it holds tp1"):
        _tables(config_json, tmp_path, tensor_parallel_size=4)
    with pytest.raises(InputError, match="is not a folder"):
        _tables(config_json, tmp_path / "nothing")
    with pytest.raises(InputError, match=r"moe\.csv: missing; qwen3-30b-a3b has experts"):
        _tables(config_json, folder, model="qwen3-30b-a3b")
    with pytest.raises(InputError, match="layers of 2 kinds"):
        _tables(config_json, folder, model="gpt-oss-20b")
    (folder / "attention.csv").write_text("prefill_chunk,kv_prefill,n_decode,kv_decode,time_us\n0,0,1,16,8\n")
    with pytest.raises(InputError, match=r"attention\.csv: holds no chunks alone"):
        _tables(config_json, folder)
    shutil.rmtree(folder)
    with pytest.raises(InputError, match="it holds no tables"):
        _tables(config_json, tmp_path)


def test_one_mixed_point_is_enough(config_json: Path, tmp_path: Path) -> None:
    """A profile at toy size has decode rows beside one chunk on one history only."""
    folder = write_tables(tmp_path / "tp1")
    header, *lines = (folder / "attention.csv").read_text().splitlines()
    alone = [line for line in lines if line.startswith("0,") or line.split(",")[2] == "0"]
    mixed = next(line for line in lines if line not in alone)
    (folder / "attention.csv").write_text("\n".join([header, *alone, mixed]) + "\n")
    new, history, rows, context = map(int, mixed.split(",")[:4])
    model = _tables(config_json, folder)
    batch = Batch.of(model.knots, [(new, history)], [context] * rows)
    assert _attention_us(model, batch) == pytest.approx(float(mixed.split(",")[4]), rel=1e-3)
    more = Batch.of(model.knots, [(2 * new, history)], [2 * context] * rows)
    assert _attention_us(model, more) > _attention_us(model, batch)


def test_tables_of_another_model_are_refused(config_json: Path, tmp_path: Path) -> None:
    folder = write_tables(tmp_path / "tp1")
    (tmp_path / "meta.json").write_text('{"model": "meta-llama/Llama-3.1-8B"}')
    with pytest.raises(InputError, match=r"was measured on llama-3\.1-8b, the model is qwen3-8b"):
        _tables(config_json, folder, model="qwen3-8b")
    assert _tables(config_json, folder)
    assert _tables(config_json, folder, model="llama-3.1-8b")


MOE = [(tokens, awake) for tokens in (1, 2, 8, 64, 512) for awake in (8, 16, 64, 128) if awake <= 8 * tokens]


def _expert_us(tokens: int, awake: int) -> float:
    """Experts of a layer: few tokens that wake many take long."""
    return 6.5 * awake + 0.1 * tokens + (40 if awake == 8 * tokens else 0)


def _experts(engines: int, ranks: int = 1) -> Curve:
    """Experts of Qwen3-30B-A3B from points where as many can be awake as there are tokens for."""
    points = np.array([(tokens, awake, _expert_us(tokens, awake)) for tokens, awake in MOE], dtype=float)
    flat = {"qkv_proj": np.array([[1.0, 1.0], [8.0, 1.0]]), "o_proj": np.array([[1.0, 1.0], [8.0, 1.0]])}
    attention = np.array([(16, 0, 0, 0, 9.0), (0, 0, 1, 16, 9.0)])
    files = OperatorTables(Path("moe"), flat, {"lm_head": flat["o_proj"]}, attention, points)
    on = Deployment(load_model("qwen3-30b-a3b"), load_accelerator("rtx-4090"), ranks, engines=engines)
    experts = step_tables(on, files).experts
    assert experts is not None
    return experts


def test_experts_that_are_all_awake_cost_what_was_measured() -> None:
    """What two tokens that wake 16 take says nothing of the time in which 128 are read."""
    assert _experts(1).at([512])[0] / 48 == pytest.approx(_expert_us(512, 128) + 8 * GAP_US)


def test_experts_of_other_ranks_cost_the_bytes_of_their_places() -> None:
    """Two engines: half of a token's eight are elsewhere, 5 x 768 + 2 x 2048 numbers of two bytes each."""
    shared = _experts(2).at([1024])[0] / 48
    foreign_us = 1024 * 4 * (5 * 768 + 2 * 2048) * 2 / (0.9 * 1008e9) * 1e6
    assert shared == pytest.approx(_expert_us(512, 64) + 8 * GAP_US + foreign_us)


def test_experts_of_one_rank_are_shared_out_over_several(tmp_path: Path) -> None:
    """Each of two ranks has half the tokens' choices and half the experts."""
    assert _experts(1, ranks=2).at([1024])[0] / 48 == pytest.approx(_expert_us(512, 64) + 8 * GAP_US)
    write_tables(tmp_path / "tp1")
    (tmp_path / "tp1/moe.csv").write_text("tokens,activated_experts,time_us\n1,8,50\n512,128,900\n")
    write_tables(tmp_path / "tp2")
    files = read_tables(tmp_path, 2)
    assert files.moe is not None
    assert (files.folder.name, files.moe_ranks) == ("tp2", 1)
    shutil.copy(tmp_path / "tp1/moe.csv", tmp_path / "tp2/moe.csv")
    assert read_tables(tmp_path, 2).moe_ranks == 2

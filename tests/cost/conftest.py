"""A small model and operator tables made from a formula, so that what they should give is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

LAYERS = 4
CONFIG = {
    "model_type": "llama",
    "num_hidden_layers": LAYERS,
    "hidden_size": 512,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 1024,
    "vocab_size": 4096,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
NEW = (16, 64, 256, 1024)
HISTORY = (0, 256, 1024, 4096)
ROWS = (1, 2, 8, 32, 128)
CONTEXT = (16, 128, 512, 2048, 8192)


def chunk_us(new: int, history: int) -> float:
    """Attention of a chunk alone, per layer."""
    return 8.0 + 1e-4 * new * (history + new / 2) + 0.01 * history


def alone_us(rows: int, context: int) -> float:
    """Attention of equal decode rows, per layer."""
    return 8.0 + 0.05 * rows + 0.003 * rows * context


def beside_us(new: int, rows: int, context: int) -> float:
    """What equal decode rows add to a chunk, per layer."""
    return 0.1 * rows + 0.005 * rows * context + 0.001 * new


def write_tables(folder: Path) -> Path:
    """A folder of tables for `CONFIG`."""
    folder.mkdir(parents=True)
    per_token = {
        "qkv_proj": 0.02,
        "o_proj": 0.01,
        "gate_up_proj": 0.04,
        "down_proj": 0.02,
        "layernorm": 0.001,
    }
    dense = ["layer,tokens,time_us"]
    for layer, slope in per_token.items():
        dense += [f"{layer},{tokens},{5 + slope * tokens}" for tokens in (1, 8, 64, 512, 1024)]
    dense += [f"embedding,{tokens},{3 + 0.001 * tokens}" for tokens in (1, 1024)]
    (folder / "dense.csv").write_text("\n".join(dense) + "\n")
    head = ["layer,sequences,time_us"]
    head += [f"lm_head,{n},{20 + 0.1 * n}" for n in (1, 16, 128)]
    head += [f"sampler,{n},{10 + 0.5 * n}" for n in (1, 16, 128)]
    (folder / "per_sequence.csv").write_text("\n".join(head) + "\n")
    attention = ["prefill_chunk,kv_prefill,n_decode,kv_decode,time_us"]
    attention += [f"0,0,{n},{kv},{alone_us(n, kv)!r}" for n in ROWS for kv in CONTEXT]
    for new in NEW:
        for history in HISTORY:
            own = chunk_us(new, history)
            attention.append(f"{new},{history},0,0,{own!r}")
            attention += [
                f"{new},{history},{n},{kv},{own + beside_us(new, n, kv)!r}" for n in ROWS for kv in CONTEXT
            ]
    (folder / "attention.csv").write_text("\n".join(attention) + "\n")
    return folder


@pytest.fixture(scope="session")
def config_json(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "config.json"
    path.write_text(json.dumps(CONFIG))
    return path


@pytest.fixture(scope="session")
def table_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("tables") / "tp1")

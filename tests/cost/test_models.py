"""Parameters, KV bytes and FLOPs against published figures and arithmetic by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentservesim.cost import list_models
from agentservesim.cost.modelconfig import from_config
from agentservesim.cost.modelnames import load_model
from agentservesim.model import InputError

PUBLISHED_PARAMETERS = {
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "llama-3-8b": 8_030_261_248,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
    "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-72b": 72_706_203_648,
    "mistral-small-24b": 23_572_403_200,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-14b": 14_768_307_200,
    "qwen3-32b": 32_762_123_264,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-235b-a22b": 235_093_634_560,
    "mistral-7b-v0.3": 7_248_023_552,
    "mixtral-8x7b": 46_702_792_704,
    "gpt-oss-20b": 20_914_757_184,
    "gpt-oss-120b": 116_829_156_672,
    "deepseek-v3": 671_026_419_200,
    "qwen3-next-80b-a3b": 79_674_391_296,
    "gemma-3-27b": 27_009_346_304,
}
"""What the Hub counts in each repository's weight files, without the modules that predict several tokens
(DeepSeek-V3, Qwen3-Next) and without the vision tower (Gemma 3)."""


def test_every_model_of_the_catalogue_has_its_published_parameters() -> None:
    assert {name: load_model(name).parameters for name in list_models()} == PUBLISHED_PARAMETERS


def test_names_are_the_hub_s_too_and_case_does_not_count() -> None:
    ours = load_model("qwen3-30b-a3b")
    assert load_model("Qwen/Qwen3-30B-A3B") == ours
    assert load_model("Qwen/Qwen3-30B-A3B-Instruct-2507") == ours
    assert load_model("meta-llama/Llama-3.1-8B") == load_model("LLAMA-3.1-8B")


def test_kv_bytes_per_token() -> None:
    # Llama-3.1-8B: 32 layers x (key + value) x 8 heads x 128 numbers x 2 bytes.
    assert load_model("llama-3.1-8b").kv_bytes_per_token() == 32 * 2 * 8 * 128 * 2 == 131_072
    assert load_model("llama-3.1-8b").kv_bytes_per_token("fp8") == 65_536
    # Over four ranks each holds a quarter of the heads; over 16, a head of 8 is held twice.
    assert load_model("llama-3.1-8b").kv_bytes_per_token(ranks=4) == 32_768
    assert load_model("llama-3.1-8b").kv_bytes_per_token(ranks=16) == 32 * 2 * 1 * 128 * 2
    # gpt-oss: of 24 layers every other one has a window of 128 and keeps no more than that.
    assert load_model("gpt-oss-20b").kv_bytes_per_token() == 12 * 2 * 8 * 64 * 2


def test_weight_bytes() -> None:
    model = load_model("llama-3.1-8b")
    assert model.weight_bytes() == 2 * 8_030_261_248
    # Two ranks: everything is halved but the 65 norm vectors of 4,096 numbers, which both hold.
    norms = 65 * 4096
    assert model.weight_bytes(2) == 2 * ((8_030_261_248 - norms) // 2 + norms)
    # Two instances that share experts: half of 128 x 3 x 2048 x 768 weights a layer is elsewhere.
    sparse = load_model("qwen3-30b-a3b")
    assert sparse.weight_bytes() - sparse.weight_bytes(1, 2) == 48 * 64 * 3 * 2048 * 768 * 2


def test_mxfp4_experts_take_four_and_a_quarter_bits() -> None:
    model = load_model("gpt-oss-20b")
    experts = 24 * 32 * 3 * 2880 * 2880
    assert model.weight_bytes() == round(experts * 4.25 / 8) + 2 * (model.parameters - experts)


def test_flops_per_token() -> None:
    model = load_model("llama-3.1-8b")
    layer = 4096 * (32 + 2 * 8) * 128 + 32 * 128 * 4096 + 3 * 4096 * 14336
    linear = 32 * layer + 4096 * 128_256
    assert model.active_parameters == linear
    # Attention: 32 layers x 32 heads x 128 x (2 for scores + 2 for values) a token attended to.
    assert model.flops_per_token(1000) == 2 * linear + 32 * 32 * 128 * 4 * 1000


def test_a_window_bounds_attention() -> None:
    model = load_model("gpt-oss-20b")
    per_token = 64 * 64 * 4
    grown = model.flops_per_token(10_000) - model.flops_per_token(5_000)
    assert grown == 12 * per_token * 5_000
    assert model.flops_per_token(128) - model.flops_per_token(127) == 24 * per_token


def test_shared_and_dense_first_layers() -> None:
    config = {
        "num_hidden_layers": 3,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "vocab_size": 100,
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "n_shared_experts": 2,
        "first_k_dense_replace": 1,
    }
    model = from_config(config, "small", "test")
    dense, sparse = model.groups
    assert (dense.count, dense.feed_forward.width, dense.feed_forward.experts) == (1, 256, 0)
    assert (sparse.count, sparse.feed_forward.width, sparse.feed_forward.experts) == (2, 64, 8)
    attention = 4 * 64 * 64
    head = 64 * 100
    active = 3 * attention + 3 * 64 * 256 + 2 * (3 * 64 * 64 + 64 * 8 + 2 * 3 * 64 * 32) + head
    assert model.active_parameters == active


def test_a_config_file_and_its_folder(tmp_path: Path) -> None:
    config = {"num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2}
    config |= {"intermediate_size": 16, "vocab_size": 10, "model_type": "llama"}
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    assert load_model(str(folder)) == load_model(str(folder / "config.json"))
    assert load_model(str(folder)).name == "my-model"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": None}, "'hidden_size' is missing"),
        ({"num_hidden_layers": 0}, "'num_hidden_layers' is 0; it must be a positive whole number"),
        ({"vocab_size": "many"}, "'vocab_size' is 'many'"),
        ({"num_attention_heads": True}, "'num_attention_heads' is True"),
        ({"num_key_value_heads": 3}, "'num_key_value_heads' is 3; it must divide 4 heads"),
        ({"kv_lora_rank": 512}, "'qk_nope_head_dim' is missing"),
        ({"mamba_dt_rank": 256}, "Mamba-1 layers ('mamba_dt_rank') are not modelled"),
        ({"hybrid_override_pattern": "-E"}, "layer 1 of 'hybrid_override_pattern' is 'E'"),
        ({"torch_dtype": "int3"}, "torch_dtype 'int3' is unknown"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantization 'awq' is not modelled"),
    ],
)
def test_bad_configs(change: dict[str, object], message: str) -> None:
    config = {"num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 4}
    config |= {"intermediate_size": 16, "vocab_size": 10}
    with pytest.raises(InputError) as raised:
        from_config(config | change, "small", "here/config.json")
    assert str(raised.value).startswith("here/config.json: ")
    assert message in str(raised.value)


def test_bad_files(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(InputError, match="no such file"):
        load_model(str(path))
    path.write_text('{"hidden_size": 8,\n')
    with pytest.raises(InputError, match=r"config\.json:2: not JSON"):
        load_model(str(path))
    path.write_text("[1]")
    with pytest.raises(InputError, match="holds one object, this is a list"):
        load_model(str(path))


def test_unknown_names_get_a_suggestion() -> None:
    with pytest.raises(
        InputError, match=r"'lama-3\.1-8b' is not in the catalogue.*did you mean 'llama-3\.1-8b'"
    ):
        load_model("lama-3.1-8b")


def test_parallelism_the_model_does_not_allow() -> None:
    with pytest.raises(InputError, match="3 does not divide 32 attention heads"):
        load_model("llama-3.1-8b").weight_bytes(3)


def test_latent_attention_by_hand() -> None:
    """DeepSeek-V3: 61 layers, 128 heads, latents of 512 and a rotary key of 64."""
    model = load_model("deepseek-v3")
    attention = model.groups[0].attention
    down, up_q = 7168 * (1536 + 512 + 64), 1536 * 128 * (128 + 64)
    up_kv, out = 512 * 128 * (128 + 128), 128 * 128 * 7168
    assert attention.linear_parameters(7168) == down + up_q + up_kv + out
    # One latent a token and layer, whatever the number of heads, on every rank.
    assert model.kv_bytes_per_token() == model.kv_bytes_per_token(ranks=8) == 61 * (512 + 64) * 2 == 70_272
    assert model.kv_bytes_per_token("fp8") == 61 * 576
    # A chunk attends as 128 heads of 192 and 128 numbers; its history is made from latents again.
    pairs = 16 * 1000 + 16 * 17 // 2
    assert attention.chunk_flops(16, 1000) == 2 * 128 * (192 + 128) * pairs + 2 * 512 * 128 * 256 * 1000
    # A decode row attends in the latent space: scores over 576 numbers, values over 512.
    assert attention.row_flops(1000) == 2 * 128 * (576 + 512) * 1000
    # Of 256 experts a token passes 8 and a shared one; three layers are dense.
    expert, layer = 3 * 7168 * 2048, down + up_q + up_kv + out
    active = 61 * layer + 3 * 3 * 7168 * 18432 + 58 * (9 * expert + 7168 * 256) + 7168 * 129280
    assert model.active_parameters == active
    # fp8 linear layers; embedding, head, router, norms and biases in bfloat16.
    cut = 61 * layer + 3 * 3 * 7168 * 18432 + 58 * 257 * expert
    assert model.weight_bytes() == cut + 2 * (model.parameters - cut)


def test_windows_by_pattern() -> None:
    """Gemma 3: of 62 layers every sixth attends to all, the others to 1,024 tokens."""
    model = load_model("gemma-3-27b")
    windows = {group.attention.window: group.count for group in model.groups}
    assert windows == {1024: 52, None: 10}
    assert model.kv_bytes_per_token() == 10 * 2 * 16 * 128 * 2 == 81_920
    pair = 4 * 32 * 128
    mixing = model.flops_per_token(100_000) - 2 * model.active_parameters
    assert mixing == 10 * pair * 100_000 + 52 * pair * 1024


def test_delta_nets_by_hand() -> None:
    """Qwen3-Next: 36 of 48 layers keep a state of 32 heads x 128 x 128, 12 keep KV of 2 heads x 256."""
    model = load_model("qwen3-next-80b-a3b")
    assert model.kv_bytes_per_token() == 12 * 2 * 2 * 256 * 2 == 24_576
    state, channels = 32 * 128 * 128, 2 * 16 * 128 + 32 * 128
    assert model.state_bytes() == 36 * (state + 3 * channels) * 2
    assert model.state_bytes(2) == model.state_bytes() // 2
    recurrent = next(g.attention for g in model.groups if g.attention.kv_numbers() == 0)
    assert recurrent.linear_parameters(2048) == 2048 * (channels + 4096 + 2 * 32) + 4096 * 2048
    assert recurrent.row_flops(50_000) == 7 * state + 2 * 4 * channels
    gated = next(g.attention for g in model.groups if g.attention.kv_numbers())
    # Queries come with a gate as wide.
    assert gated.linear_parameters(2048) == 2048 * (2 * 16 + 2 * 2) * 256 + 16 * 256 * 2048


def test_mamba_by_hand() -> None:
    """Nemotron-H-8B: 24 Mamba-2, 4 attention and 24 feed-forward layers, each with one norm."""
    config = {
        "model_type": "nemotron_h",
        "num_hidden_layers": 52,
        "hybrid_override_pattern": "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-",
        "hidden_size": 4096,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 21504,
        "mamba_num_heads": 128,
        "mamba_head_dim": 64,
        "ssm_state_size": 128,
        "n_groups": 8,
        "conv_kernel": 4,
        "vocab_size": 131072,
        "mamba_ssm_dtype": "float32",
    }
    model = from_config(config, "nemotron-h", "test")
    inner, state, channels = 128 * 64, 128 * 64 * 128, 128 * 64 + 2 * 8 * 128
    mamba = 4096 * (inner + channels + 128) + inner * 4096 + channels * 5 + 3 * 128 + inner
    attention, mlp = 4096 * (32 + 16) * 128 + 32 * 128 * 4096, 2 * 4096 * 21504
    layers = 24 * mamba + 4 * attention + 24 * mlp + 52 * 4096
    assert model.parameters == layers + 2 * 131072 * 4096 + 4096
    assert model.kv_bytes_per_token() == 4 * 2 * 8 * 128 * 2
    assert model.state_bytes() == 24 * (state * 4 + 3 * channels * 2)
    assert model.flops_per_token(10) == (
        2 * model.active_parameters + 24 * (5 * state + 2 * 4 * channels) + 4 * 4 * 32 * 128 * 10
    )


def test_stages_hold_their_part_of_the_layers() -> None:
    model = load_model("llama-3.1-8b")
    layer = (model.parameters - 2 * 128256 * 4096 - 4096) // 32
    # Of 32 layers in three stages the fullest has 11, and the embedding or the head.
    assert model.weight_bytes(stages=3) == 2 * (11 * layer + 128256 * 4096 + 4096)


@pytest.mark.parametrize(
    "name",
    [
        "meta-llama/Meta-Llama-3.1-8B-Instruct",
        "somebody/Llama-3.1-8B",
        "/models/Llama-3.1-8B/",
        "/cache/models--meta-llama--Llama-3.1-8B/snapshots/0e9e39f2",
    ],
)
def test_copies_of_a_model_are_the_model(name: str) -> None:
    assert load_model(name) == load_model("llama-3.1-8b")


def test_fp8_at_the_end_of_a_name() -> None:
    plain, eight = load_model("Qwen/Qwen3-14B"), load_model("Qwen/Qwen3-14B-FP8")
    assert (eight.name, eight.quantization) == ("qwen3-14b-fp8", "fp8")
    assert 0.5 < eight.weight_bytes() / plain.weight_bytes() < 0.6
    assert load_model("RedHatAI/Qwen3-14B-FP8-dynamic") == eight
    with pytest.raises(InputError, match="did you mean 'qwen3-4b'"):
        load_model("qwen3-41b-fp8")


@pytest.mark.parametrize(
    "section",
    [
        {"quant_method": "fp8"},
        {"quant_method": "compressed-tensors", "format": "float-quantized"},
        {"quant_method": "modelopt", "quant_algo": "FP8"},
        {"quant_method": "fbgemm_fp8"},
    ],
)
def test_fp8_by_any_quantiser(section: dict[str, str]) -> None:
    config = {
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "vocab_size": 512,
    }
    assert from_config({**config, "quantization_config": section}, "m", "m").quantization == "fp8"
    for other in ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, {"quant_method": "awq"}):
        with pytest.raises(InputError, match="is not modelled; fp8 and mxfp4 are"):
            from_config({**config, "quantization_config": other}, "m", "m")
    with pytest.raises(InputError, match="attention in chunks"):
        from_config({**config, "attention_chunk_size": 8192}, "m", "m")

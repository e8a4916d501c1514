from __future__ import annotations

import pytest

from agentservesim.cost import list_gpus
from agentservesim.cost.accelerators import load_accelerator
from agentservesim.model import InputError


@pytest.mark.parametrize("name", list(list_gpus()))
def test_every_accelerator_is_plausible_and_sourced(name: str) -> None:
    gpu = load_accelerator(name)
    assert gpu.source
    assert gpu.title
    assert 50e12 < gpu.bf16_flops < 5e15
    assert gpu.fp8_flops == 0 or 1.9 < gpu.fp8_flops / gpu.bf16_flops < 2.1
    assert 20e9 < gpu.memory_bytes < 300e9
    assert 0.2e12 < gpu.memory_bytes_per_s < 10e12


def test_spelling_does_not_count() -> None:
    assert (
        load_accelerator("RTX PRO 6000") == load_accelerator("RTXPRO6000") == load_accelerator("rtx-pro-6000")
    )


@pytest.mark.parametrize(
    ("reported", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("NVIDIA H200", "h200-sxm"),
        ("NVIDIA A100-SXM4-80GB", "a100-sxm"),
        ("NVIDIA B200", "b200"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx-pro-6000"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA H100 NVL", "h100-nvl"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA GeForce RTX 3090", "rtx-3090"),
        ("NVIDIA GeForce RTX 5090", "rtx-5090"),
        ("H100", "h100-sxm"),
    ],
)
def test_names_of_the_driver_are_known(reported: str, name: str) -> None:
    assert load_accelerator(reported).name == name


def test_other_boards_of_the_same_chip_are_not_it() -> None:
    with pytest.raises(InputError, match="not in the catalogue"):
        load_accelerator("RTX PRO 6000 Blackwell Workstation Edition")
    small, large = (load_accelerator(name) for name in ("NVIDIA A100-SXM4-40GB", "A100"))
    assert small.memory_bytes < large.memory_bytes / 1.9
    assert load_accelerator("NVIDIA H100 PCIe").bf16_flops < load_accelerator("H100").bf16_flops


def test_an_accelerator_without_fp8_computes_in_bf16() -> None:
    assert load_accelerator("a100-sxm").peak_flops(fp8=True) == 312e12
    assert load_accelerator("h100-sxm").peak_flops(fp8=True) == 1979e12


def test_unknown_names_get_a_suggestion() -> None:
    with pytest.raises(InputError, match=r"'h100-smx' is not in the catalogue.*did you mean 'h100-sxm'"):
        load_accelerator("h100-smx")

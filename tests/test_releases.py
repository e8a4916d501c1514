"""What differs between vLLM releases, beside vLLM's own source where it is at hand (`make oracle`)."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import get_args

import pytest

from agentservesim.cost.accelerators import list_gpus, load_accelerator
from agentservesim.releases import RELEASES, BatchLimits, EngineVersion, batch_limits, capture_sizes
from agentservesim.scenario import InstanceConfig
from tests.conftest import REPOSITORY

VERSIONS = get_args(EngineVersion)
SIZES = [(8192, 1024), (16384, 1024), (2048, 256), (2048, 200), (100, 256), (8192, 3), (512, 7), (300, 300)]
SMALL, LARGE, LARGEST = (2048, 256), (8192, 1024), (16384, 1024)

VLLM = """
import json, sys
from types import SimpleNamespace as N
import vllm
import vllm.platforms as platforms
from vllm.config import CUDAGraphMode
from vllm.config.vllm import VllmConfig
from vllm.engine import arg_utils
from vllm.usage.usage_lib import UsageContext

class Platform:
    def __init__(self, title, memory_bytes, capability):
        self.get_device_name = lambda: title
        self.get_device_total_memory = lambda: memory_bytes
        self.is_device_capability_family = lambda family: capability == family / 10
        self.is_tpu = self.is_cpu = self.is_xpu = lambda: False

def graphs(budget, seqs):
    compilation = N(
        cudagraph_mode=CUDAGraphMode.FULL_AND_PIECEWISE, max_cudagraph_capture_size=None,
        cudagraph_capture_sizes=None, pass_config=N(enable_sp=False), post_init_cudagraph_sizes=lambda: None,
    )
    config = N(
        model_config=N(enforce_eager=False), compilation_config=compilation, performance_mode="balanced",
        scheduler_config=N(max_num_seqs=seqs, max_num_batched_tokens=budget), speculative_config=None,
        parallel_config=N(tensor_parallel_size=1), uniform_decode_query_len=1, num_speculative_tokens=0,
    )
    VllmConfig._set_cudagraph_sizes(config)
    return compilation.cudagraph_capture_sizes

gpus, sizes = json.loads(sys.argv[1])
limits, captured = {}, {}
for name, *facts in gpus:
    arg_utils.current_platform = platforms._current_platform = Platform(*facts)
    defaults = arg_utils.EngineArgs.get_batch_defaults(1)
    limits[name] = [each[UsageContext.OPENAI_API_SERVER] for each in defaults]
    captured[name] = [graphs(*size) for size in sizes]
version = ".".join(vllm.__version__.split("+")[0].split(".")[:2])
print("\\n" + json.dumps([version, limits, captured]))
"""


@pytest.mark.oracle
def test_limits_and_graphs_are_those_of_vllm_s_source(vllm_python: Path) -> None:
    gpus = [load_accelerator(name) for name in list_gpus()]
    facts = [(gpu.name, gpu.title, gpu.memory_bytes, gpu.compute_capability) for gpu in gpus]
    done = subprocess.run(
        [vllm_python, "-c", VLLM, json.dumps([facts, SIZES])], capture_output=True, text=True, check=True
    )
    version, limits, captured = json.loads(done.stdout.splitlines()[-1])
    assert version in VERSIONS
    for gpu in gpus:
        assert batch_limits(version, gpu.title, gpu.memory_bytes) == tuple(limits[gpu.name])
        ours = [capture_sizes(version, BatchLimits(*size), gpu.compute_capability == 10) for size in SIZES]
        assert ours == list(map(tuple, captured[gpu.name]))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("gpu", "limits"),
    [
        ("a100-sxm", SMALL),
        ("h100-sxm", LARGE),
        ("h200-sxm", LARGE),
        ("b200", LARGEST),
        ("gb200", LARGEST),
        ("l40s", SMALL),
        ("rtx-pro-6000", LARGE),
        ("rtx-4090", SMALL),
        ("a10g", SMALL),
    ],
)
def test_batch_limits_follow_the_gpu_and_the_release(
    gpu: str, version: EngineVersion, limits: tuple[int, int]
) -> None:
    """`EngineArgs.get_batch_defaults` of 0.19, 0.26 and 0.32; the class of 160 GiB is new in 0.32."""
    if limits == LARGEST and version != "0.32":
        limits = LARGE
    group = InstanceConfig.model_validate({"gpu": gpu, "engine_version": version})
    assert (group.max_num_batched_tokens, group.max_num_seqs) == limits


def test_a_limit_that_is_given_stays() -> None:
    group = InstanceConfig.model_validate({"gpu": "l40s", "max_num_seqs": "7"})
    assert (group.max_num_batched_tokens, group.max_num_seqs) == (2048, 7)


def test_a_written_scenario_keeps_the_limits_of_its_gpu() -> None:
    group = InstanceConfig(gpu="l40s")
    assert InstanceConfig.model_validate_json(group.model_dump_json()) == group


def test_whole_prompts_get_a_budget_for_the_longest() -> None:
    """`EngineArgs._set_default_max_num_seqs_and_batched_tokens_args`."""
    whole = {"enable_chunked_prefill": False, "max_model_len": "20000"}
    assert InstanceConfig.model_validate(whole).max_num_batched_tokens == 20000
    assert InstanceConfig.model_validate({**whole, "max_model_len": 100}).max_num_batched_tokens == 8192


def test_the_page_tells_what_is_here() -> None:
    page = (REPOSITORY / "docs" / "releases.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if "|" in line]
    assert rows[0][1:] == list(RELEASES)
    words = {True: "yes", False: "no"}
    for name, row in zip(
        ("reserve_full", "blanks_first", "watermark", "lone_uncapped"), rows[2:6], strict=True
    ):
        here = [getattr(release, name) for release in RELEASES.values()]
        assert row[1:] == [words[value != (name == "lone_uncapped")] for value in here]
    releases = RELEASES.values()
    assert rows[6][1:] == ["on" if release.async_scheduling else "off" for release in releases]
    assert rows[7][1:] == [str(release.gpu_memory_utilization) for release in releases]
    for row, gib in zip(rows[8:11], (69.9, 70, 160), strict=True):
        limits = [batch_limits(version, "", int(gib * 2**30)) for version in RELEASES]
        assert row[1:] == [f"{budget}, {most}" for budget, most in limits]
    assert rows[11][1:] == [str(release.largest_graph) for release in releases]
    assert rows[12][1:] == [words[release.budget_captured] for release in releases]
    assert rows[13][1:] == [words[release.seqs_captured] for release in releases]


def test_captured_graphs() -> None:
    large, small = BatchLimits(*LARGE), BatchLimits(*SMALL)
    assert capture_sizes("0.32", small)[:5] == (1, 2, 4, 8, 16)
    assert capture_sizes("0.32", large)[-3:] == (480, 496, 512)
    assert len(capture_sizes("0.19", small)) == 51
    assert capture_sizes("0.26", large, blackwell=True)[-1] == 512
    assert capture_sizes("0.32", large, blackwell=True)[-2:] == (1008, 1024)
    three = BatchLimits(8192, 3)
    assert capture_sizes("0.32", three) == (1, 2, 3, 4)
    assert capture_sizes("0.26", three) == (1, 2, 4)
    tiny = BatchLimits(100, 256)
    assert capture_sizes("0.26", tiny)[-2:] == (96, 100)
    assert capture_sizes("0.19", tiny)[-1] == 96

"""A recorded run, simulated with its own arrivals, contents and settings."""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import numpy as np

from agentservesim.cost import build_cost
from agentservesim.cost.accelerators import catalogued_gpu
from agentservesim.cost.modelnames import FP8_FORM, catalogued_model, load_model
from agentservesim.fleet import Fleet, InstanceSpec
from agentservesim.fleet.config import ToolsConfig
from agentservesim.model import (
    InputError,
    Program,
    Segment,
    StepRecord,
    Turn,
    TurnRecord,
    Workload,
    to_ps,
    to_s,
)
from agentservesim.model import Path as ContentPath
from agentservesim.policies import load_policy
from agentservesim.releases import RELEASES, EngineVersion
from agentservesim.scenario import InstanceConfig
from agentservesim.settings import Settings, validate
from agentservesim.validation.figures import Side
from agentservesim.validation.recording import Recording
from agentservesim.workload.content import ContentTree
from agentservesim.workload.hashes import HashIndex


def replay(run: Recording, changes: Mapping[str, object]) -> tuple[Side, dict[str, str]]:
    """What becomes of the run's requests, and where the numbers come from.

    `changes` are settings of an instance that the run does not say. Requests recorded by their clients
    pass the front end.
    """
    engine = instance_of(run, changes)
    cost = build_cost(
        engine,
        block_size=engine.block_size,
        max_num_batched_tokens=engine.max_num_batched_tokens,
        max_num_seqs=engine.max_num_seqs,
        pipeline_parallel_size=engine.pipeline_parallel_size,
        async_scheduling=engine.async_scheduling,
        engine_version=engine.engine_version,
    )
    stamps = _Stamps(len(run.arrival))
    outside = run.queued is None
    spec = InstanceSpec(
        "recorded",
        engine,
        cost.step_time,
        cost.num_gpu_blocks,
        frontend_in_ps=cost.frontend_in_ps if outside else 0,
        frontend_out_ps=cost.frontend_out_ps if outside else 0,
        wave="recorded" if run.engines > 1 and cost.sparse else None,
    )
    fleet = Fleet(
        _workload(run),
        [spec] * run.engines,
        router=load_policy("router", "least-loaded"),
        tools=ToolsConfig(),
        seed=0,
        listener=stamps,
    )
    fleet.run()
    return stamps.side(run), cost.provenance


def tables_of(run: Recording, root: Path) -> Path:
    """The folder of the run's own tables, below `root` or `root` itself."""
    model, gpu, fp8 = load_model(run.model), catalogued_gpu(run.gpu), _quantization(run) == "fp8"
    wanted = _folder_of(model.name, fp8 or model.quantization == "fp8")
    for accelerator in root.iterdir() if root.is_dir() else ():
        if accelerator.is_dir() and gpu is not None and catalogued_gpu(accelerator.name) == gpu:
            types = [path.parent for path in accelerator.glob("**/meta.json")]
            found = [path for path in types if _folder_of(path.parent.name, "fp8" in path.name) == wanted]
            if found:
                return sorted(found)[0]
            raise InputError(f"tables: {accelerator} holds none of {run.model} in {wanted[1]}")
    return root


def _folder_of(model: str, fp8: bool) -> tuple[str, str]:
    """The model that a folder's name means, and its type."""
    name = catalogued_model(model) or model.lower()
    return name.removesuffix(FP8_FORM), "fp8" if fp8 or name.endswith(FP8_FORM) else "16 bit"


_LIMITS = (
    "max_num_batched_tokens",
    "max_num_seqs",
    "max_model_len",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "enable_prefix_caching",
    "enable_chunked_prefill",
    "long_prefill_token_threshold",
    "enforce_eager",
)
"""Settings that are taken as the engine was given them."""

_OLDEST, _ASYNCHRONOUS = (0, 8), (0, 14)
"""Releases of vLLM: the first whose engine is the one that is simulated, and from which scheduling is
asynchronous unless it cannot be."""

_DTYPES = {"half": "float16", "float": "float32"}
"""Short names that vLLM has for types."""


def instance_of(run: Recording, changes: Mapping[str, object]) -> InstanceConfig:
    """The recorded server, with `changes`; what neither says has its default."""
    settings = run.settings
    scheduler, cache = run.section("resolved_config", "scheduler_config"), run.section("kv_cache")
    version = run.meta.get("vllm_version")
    dtype = str(settings.get("dtype", "auto")).removeprefix("torch.")
    kv_dtype = settings.get("kv_cache_dtype", settings.get("cache_dtype"))
    values = {name: settings.get(name) for name in _LIMITS} | {
        "engine_version": None if version is None else _version(str(version), run.source),
        "block_size": _first(cache.get("block_size"), settings.get("block_size")),
        "async_scheduling": _first(
            scheduler.get("async_scheduling"),
            settings.get("async_scheduling"),
            None if version is None else _number(str(version)) >= _ASYNCHRONOUS,
        ),
        "model": run.model,
        "gpu": run.gpu,
        "data_parallel_size": run.engines,
        "dtype": _DTYPES.get(dtype, dtype),
        "quantization": _quantization(run),
        "gpu_memory_utilization": _first(
            cache.get("gpu_memory_utilization"),
            settings.get("gpu_memory_utilization"),
            None if version is None else _memory_default(str(version)),
        ),
        "num_gpu_blocks": _first(
            *(settings.get(name) for name in ("num_gpu_blocks", "num_gpu_blocks_override"))
        ),
        "kv_cache_dtype": "fp8" if str(kv_dtype).startswith("fp8") else kv_dtype,
        **changes,
    }
    given = {name: value for name, value in values.items() if value is not None}
    return validate(InstanceConfig, Settings(given, source=run.source))


def _first(*values: object) -> object:
    """The first that is said."""
    return next((value for value in values if value is not None), None)


def _quantization(run: Recording) -> str | None:
    """What was asked for; of a checkpoint that is quantised itself its `config.json` says more."""
    method: str | None = run.settings.get("quantization")
    return method if load_model(run.model).quantization == "none" else None


def _version(recorded: str, source: str) -> EngineVersion:
    """The newest version whose rules are known and that is no newer than the recorded one.

    Raises InputError for what is no version.
    """
    if _number(recorded) < _OLDEST:
        raise InputError(f"{source}: vllm_version '{recorded}' is no version such as 0.19.0; or leave it out")
    known: list[EngineVersion] = sorted(get_args(EngineVersion), key=_number)
    return max((v for v in known if _number(v) <= _number(recorded)), key=_number, default=known[0])


def _memory_default(recorded: str) -> float | None:
    """The share of memory that the recorded version uses unless asked for another.

    Between two known versions (0.20 to 0.25) it is taken to be the newer one's: 18,038 blocks of a server of
    0.23 are those of 0.92. None for a version that is newer than all.
    """
    newer = [version for version in RELEASES if _number(version) >= _number(recorded)]
    return RELEASES[min(newer, key=_number)].gpu_memory_utilization if newer else None


def _number(version: str) -> tuple[int, ...]:
    """Major and minor number; empty for what is no version."""
    found = re.match(r"v?(\d+)\.(\d+)", version)
    return tuple(map(int, found.groups())) if found else ()


def _workload(run: Recording) -> Workload:
    programs = []
    for index, (arrival, path) in enumerate(zip(run.arrival, _contents(run), strict=True)):
        prompt, output = int(run.prompt_tokens[index]), int(run.output_tokens[index])
        turn = Turn(str(index), 0, str(index), prompt, output, path)
        programs.append(Program(str(index), to_ps(float(arrival)), (turn,)))
    return Workload(tuple(programs), run.name)


def _contents(run: Recording) -> list[ContentPath]:
    """What each request says: as its hash ids tell, else something nobody else does."""
    lengths = list(zip(run.prompt_tokens.tolist(), run.output_tokens.tolist(), strict=True))
    if run.hash_ids is None:
        return [((Segment(), prompt + output),) for prompt, output in lengths]
    tree = ContentTree()
    index = HashIndex(tree, run.hash_block_size, reuse_output=False)
    paths = []
    for ids, (prompt, output) in zip(run.hash_ids, lengths, strict=True):
        blocks = -(-prompt // run.hash_block_size)
        if not prompt // run.hash_block_size <= len(ids) <= blocks:
            raise InputError(
                f"{run.source}: a request of {prompt} tokens has {len(ids)} hash_ids; of blocks of "
                f"{run.hash_block_size} tokens it must have {blocks}"
            )
        paths.append(tree.path(index.place(array("q", ids), prompt, output, None)))
    return paths


class _Stamps:
    """Listens for what becomes of every request."""

    wants_steps = False

    def __init__(self, requests: int) -> None:
        self._scheduled, self._first, self._last = np.zeros((3, requests))
        self._cached = np.zeros(requests, dtype=np.int64)

    def turn_done(self, record: TurnRecord) -> None:
        index = int(record.program_id)
        self._scheduled[index] = to_s(record.scheduled_ps)
        self._first[index] = to_s(record.first_token_ps)
        self._last[index] = to_s(record.finish_ps)
        self._cached[index] = record.cached_tokens

    def step_done(self, record: StepRecord) -> None:
        """Not asked for."""

    def side(self, run: Recording) -> Side:
        """All of them."""
        cached = None if run.hash_ids is None else self._cached
        return Side(run.arrival, self._scheduled, self._first, self._last, cached)

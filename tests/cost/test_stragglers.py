"""Long rows among short ones: what they cost where the attention kernel does not cut them."""

from __future__ import annotations

from bisect import bisect_right

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentservesim.cost import CostConfig, build_cost
from agentservesim.cost.accelerators import load_accelerator
from agentservesim.cost.base import Batch, StepTime
from agentservesim.cost.deployment import Deployment
from agentservesim.cost.modelnames import load_model
from agentservesim.cost.stragglers import Stragglers
from agentservesim.model import to_s

LAW = settings(max_examples=60, deadline=None)


def _time(gpu: str, model: str = "llama-3.1-8b", **changes: object) -> StepTime:
    config = CostConfig.model_validate({"model": model, "gpu": gpu, **changes})
    return build_cost(config, block_size=16, max_num_batched_tokens=8192, max_num_seqs=256).step_time


UNCUT = {
    "roofline": _time("rtx-4090"),
    "tables": _time("l40s"),
    "windows": _time("rtx-pro-6000", "gpt-oss-20b"),
}
KINDS = pytest.mark.parametrize("kind", UNCUT)
rows = st.lists(st.integers(1, 150_000), min_size=29, max_size=120)


def _of(gpu: str, model: str, **parallel: object) -> Stragglers:
    return Stragglers.of(Deployment(load_model(model), load_accelerator(gpu), **parallel))  # type: ignore[arg-type]


def _decode_s(model: StepTime, contexts: list[int]) -> float:
    return to_s(model.step_ps(Batch.of(model.knots, contexts=contexts)))


def test_who_has_them() -> None:
    """As many rows as fill 0.8 of two tiles a multiprocessor with their KV heads are not cut."""
    assert _of("rtx-4090", "llama-3.1-8b") == Stragglers(7, 26)
    assert _of("rtx-pro-6000", "llama-3.1-8b") == Stragglers(7, 38)
    assert _of("rtx-pro-6000", "qwen3-30b-a3b") == Stragglers(13, 76)
    assert _of("rtx-pro-6000", "llama-3.1-8b", ranks=2) == Stragglers(13, 76)
    assert _of("a100-sxm", "llama-3.1-8b") == Stragglers(7, 22)
    nobody = Stragglers()
    assert _of("h100-sxm", "llama-3.1-8b") == nobody
    assert _of("b200", "llama-3.1-8b") == nobody
    assert _of("rtx-4090", "llama-3.1-8b", kv_dtype="fp8") == nobody
    assert _of("a100-sxm", "deepseek-v3", ranks=8) == nobody


def test_one_long_row_holds_up_short_ones() -> None:
    """100,000 tokens beside 39 rows of 1,000 are seven rows' worth of reading; where KV is cut, one's."""
    short, long = [1_000] * 40, [100_000] + [1_000] * 39
    for gpu, more in (("rtx-4090", 7), ("h100-sxm", 1)):
        model = _time(gpu, step_time="roofline")
        token_s = _decode_s(model, [2_000] + [1_000] * 8) - _decode_s(model, [1_000] * 9)
        added_s = _decode_s(model, long) - _decode_s(model, short)
        assert added_s == pytest.approx(more * 99 * token_s, rel=0.01), gpu


def test_padding_counts_and_few_rows_are_cut() -> None:
    """24 rows have a CUDA graph of their own; 25 are padded to 32, and what is captured for 32 is not cut."""
    model = UNCUT["roofline"]
    for count, waits in ((24, False), (25, True)):
        even = _decode_s(model, [2_000] * count)
        uneven = _decode_s(model, [2_000 + 100 * (count - 1)] + [1_900] * (count - 1))
        assert (uneven > 1.01 * even) == waits


def test_the_longest_row_holds_up_a_step_with_chunks() -> None:
    """A row beside a chunk is read by one tile for each head: no step is done before it."""
    model = UNCUT["tables"]
    alone = model.step_ps(Batch.of(model.knots, [(16, 0)], [140_000]))
    beside = model.step_ps(Batch.of(model.knots, [(16, 0)], [140_000] + [16] * 60))
    assert beside >= alone


@KINDS
@LAW
@given(contexts=rows, steps=st.integers(1, 300))
def test_growth_is_exact_within_cells(kind: str, contexts: list[int], steps: int) -> None:
    model = UNCUT[kind]
    borders = (*model.knots, 1 << 60)
    steps = min(steps, *(borders[bisect_right(model.knots, c)] - 1 - c for c in contexts))
    batch = Batch.of(model.knots, contexts=contexts)
    later = Batch.of(model.knots, contexts=[c + steps for c in contexts])
    assert model.step_ps(later) == model.step_ps(batch) + steps * model.growth_ps(batch)


@KINDS
@LAW
@given(contexts=rows, data=st.data())
def test_never_faster_with_context(kind: str, contexts: list[int], data: st.DataObject) -> None:
    model = UNCUT[kind]
    longer = list(contexts)
    longer[data.draw(st.integers(0, len(contexts) - 1))] += data.draw(st.integers(1, 50_000))
    assert _decode_s(model, longer) >= _decode_s(model, contexts)


@KINDS
@LAW
@given(contexts=rows)
def test_only_the_longest_are_looked_at(kind: str, contexts: list[int]) -> None:
    """A batch may name as many as the model asks for, or all."""
    model = UNCUT[kind]
    whole = Batch.of(model.knots, contexts=contexts)
    some = Batch(
        whole.chunks, whole.rows, whole.counts, whole.contexts, whole.sampled, whole.longest[: model.longest]
    )
    assert model.step_ps(some) == model.step_ps(whole)
    assert model.growth_ps(some) == model.growth_ps(whole)

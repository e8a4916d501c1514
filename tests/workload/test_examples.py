"""The hand-written traces show what their README says they show."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agentservesim.model import InputError, Turn, to_ps, to_s
from agentservesim.workload import ReadOptions, read_trace, shared_tokens

TRACES = Path(__file__).resolve().parents[2] / "examples" / "traces"


def turns(name: str, **options: Any) -> dict[str, Turn]:
    workload = read_trace(TRACES / f"{name}.jsonl", ReadOptions(**options))
    return {turn.id: turn for program in workload.programs for turn in program.turns}


def test_the_readme_names_every_trace() -> None:
    text = (TRACES / "README.md").read_text()
    assert {f"`{path.name}`" for path in TRACES.glob("*.jsonl")} == {
        line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| `")
    }


@pytest.mark.parametrize("path", sorted(TRACES.glob("*.jsonl")), ids=lambda path: path.stem)
def test_every_example_reads_without_options_but_deltas(path: Path) -> None:
    if path.stem == "mooncake-delta":
        with pytest.raises(InputError, match="say lengths = 'delta'"):
            read_trace(path)
    else:
        assert read_trace(path).num_turns > 2


def test_shared_system_prompt() -> None:
    found = turns("shared-system-prompt")
    assert shared_tokens(found["coding-0:0"].path, found["coding-3:0"].path) == 12_000
    assert shared_tokens(found["support-0:0"].path, found["support-2:1"].path) == 5_000
    assert shared_tokens(found["coding-0:0"].path, found["support-0:0"].path) == 0


def test_fork_join() -> None:
    found = turns("fork-join")
    plan, critic, answer = (found[f"research:{name}"] for name in ("plan", "critic", "answer"))
    assert shared_tokens(plan.path, critic.path) == plan.total_tokens
    assert shared_tokens(plan.path, found["research:search"].path) == 0
    assert [d.relation for d in answer.dependencies] == ["sequence", "join", "join", "join"]


def test_dispatch_trigger() -> None:
    guard = turns("dispatch-trigger")["watched-0:guard"]
    assert [(d.trigger, d.delay_ps) for d in guard.dependencies] == [("dispatch", to_ps(0.05))]


def test_context_reset() -> None:
    found = turns("context-reset")
    program = [turn for turn in found.values() if turn.session_id == "compacted"]
    shared = [shared_tokens(a.path, b.path) for a, b in pairwise(program)]
    assert shared == [26_500, 6_000, 15_400, 12_000]
    assert shared_tokens(found["cleared:0"].path, found["cleared:from-nothing"].path) == 0


def test_think_time() -> None:
    delays = [to_s(d.delay_ps) for turn in turns("think-time").values() for d in turn.dependencies]
    assert min(delays) == 25
    assert max(delays) == 90


def test_tools_with_and_without_durations() -> None:
    assert all(call.duration_ps for turn in turns("tool-workers").values() for call in turn.tools)
    drawn = turns("tool-distributions")["agent-0:1"]
    assert [call.duration_ps for call in drawn.tools] == [None, to_ps(1.2)]


def test_priorities() -> None:
    assert {turn.priority for turn in turns("priorities").values()} == {0, 5}


@pytest.mark.parametrize("reuse", [True, False])
def test_mooncake_sessions_in_both_ways_of_counting(reuse: bool) -> None:
    whole = turns("mooncake-sessions", reuse_output=reuse)
    parts = turns("mooncake-delta", reuse_output=reuse, lengths="delta")
    assert [t.prompt_tokens for t in whole.values()] == [t.prompt_tokens for t in parts.values()]
    for a, b in zip(whole, parts, strict=True):
        for c, d in zip(whole, parts, strict=True):
            one = shared_tokens(whole[a].path, whole[c].path)
            assert one == shared_tokens(parts[b].path, parts[d].path)
            assert (one >= 64) is True


def test_canonical_v1_and_v2() -> None:
    v1, v2 = turns("canonical-v1"), turns("canonical-v2")
    assert [d.relation for d in v1["b"].dependencies] == ["sequence", "join"]
    assert shared_tokens(v1["k0"].path, v1["k1"].path) == 2_620
    assert v2["c"].not_before_ps == to_ps(2)
    assert v2["c"].dependencies[0].tools_ps == to_ps(0.7)
    assert shared_tokens(v2["a"].path, v2["c"].path) == 240

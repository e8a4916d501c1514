"""What must be the same: no pins and LRU, much memory and more, memory that is infinitely fast and HBM."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agentservesim.engine.config import EngineConfig
from agentservesim.fleet import Fleet, InstanceSpec
from agentservesim.fleet.config import ToolsConfig
from agentservesim.kv.config import LinkConfig, MemoryConfig, TierConfig
from agentservesim.kv.tiers import KvShape
from agentservesim.model import Path, Program, Segment, Turn, TurnRecord, Workload
from agentservesim.policies import list_policies, load_policy
from agentservesim.policies.protocols import ChainView, Placement, ServerView
from agentservesim.policies.residency import Demote, Lru, PinAlways, Ttl
from agentservesim.policies.routing import SessionAffinity
from agentservesim.testing.playing import play
from agentservesim.testing.residency_cases import draw_case
from tests.engine.unruly import Unruly
from tests.fleet.parts import Log, PerToken, S, after

BLOCK = 4


@pytest.mark.parametrize("seed", range(40))
def test_a_time_to_live_of_zero_is_lru(seed: int) -> None:
    case = draw_case(seed)
    for memory in (case.memory, MemoryConfig()):
        lru = play(replace(case, memory=memory), Lru())
        ttl = play(replace(case, memory=memory), Ttl(ttl_s=0.0))
        assert lru.turns == ttl.turns


@pytest.mark.parametrize("name", sorted(list_policies("residency")))
def test_with_memory_for_everything_all_policies_tie(name: str) -> None:
    for seed in range(12):
        case = replace(draw_case(seed, needs=("dram",)), blocks=5_000)
        policy = load_policy("residency", name)
        assert play(case, policy).turns == play(case, Lru()).turns, f"case {seed}"


def test_with_memory_for_everything_even_an_unruly_one_does() -> None:
    for seed in range(40):
        case = replace(draw_case(seed), blocks=5_000)
        tiers = [tier.name for tier in case.memory.tiers]
        assert play(case, Unruly(seed, tiers)).turns == play(case, Lru()).turns, f"case {seed}"


# ---- DRAM and HBM -------------------------------------------------------------------------------

LAYERS = 4


def growing(name: str, arrival_s: int, turns: int = 4) -> Program:
    """Turns of a session whose context grows by 40 tokens each; a minute between them."""
    made: list[Turn] = []
    path: Path = ()
    for index in range(turns):
        start = path[-1][1] if path else 0
        own = Segment(start, path[-1][0] if path else None)
        path = (*path, (own, start + 40))
        waits = (after(index - 1, 60),) if index else ()
        made.append(Turn(f"{name}:{index}", index, "main", start + 30, 10, path, waits))
    return Program(name, arrival_s * S, tuple(made))


def serve(
    policy: object,
    blocks: int,
    memory: MemoryConfig,
    programs: tuple[Program, ...],
    max_num_seqs: int = 64,
) -> dict[str, TurnRecord]:
    """10 ms for each prompt token, 1 s for each decode step."""
    log = Log()
    engine = EngineConfig(block_size=BLOCK, async_scheduling=False, max_num_seqs=max_num_seqs)
    step_time = PerToken(prompt_ps=S // 100, row_ps=S)
    fleet = Fleet(
        Workload(programs),
        [InstanceSpec("i", engine, step_time, blocks, kv_shape=KvShape(BLOCK, 1000, layers=LAYERS))],
        router=SessionAffinity(),
        tools=ToolsConfig(),
        seed=0,
        listener=log,
        memory=memory,
        residency=policy,
    )
    fleet.run()
    return log.by_turn()


def dram(bytes_per_s: float, load: str, latency_s: float = 0.0) -> MemoryConfig:
    return MemoryConfig(
        tiers=(TierConfig(name="dram", capacity_bytes=1e12),),
        links=(
            LinkConfig(
                between=("hbm", "dram"),
                down_bytes_per_s=1e30,
                up_bytes_per_s=bytes_per_s,
                latency_s=latency_s,
            ),
        ),
        load=load,
    )


# Turns of the three programs alternate, never at once; HBM has room for one context.
PROGRAMS = tuple(growing(name, 20 * i) for i, name in enumerate("abc"))
ONE_CONTEXT = 42


class LoadAll(Demote):
    """Loads all there is, however long it takes."""

    def resume(self, chain: ChainView, hits: dict[str, int], server: ServerView) -> int:
        return 10**9


@pytest.mark.parametrize("load", ["blocking", "layerwise"])
def test_an_infinite_dram_that_is_infinitely_fast_is_an_infinite_hbm(load: str) -> None:
    hbm = serve(Lru(), 10_000, MemoryConfig(), PROGRAMS)
    fast = serve(Demote(), ONE_CONTEXT, dram(1e30, load), PROGRAMS)
    scarce = serve(Lru(), ONE_CONTEXT, MemoryConfig(), PROGRAMS)
    assert {k: r.cached_tokens for k, r in fast.items()} == {k: r.cached_tokens for k, r in hbm.items()}
    assert {k: r.finish_ps for k, r in fast.items()} == {k: r.finish_ps for k, r in hbm.items()}
    assert sum(r.cached_tokens for r in scarce.values()) < sum(r.cached_tokens for r in hbm.values()) / 4


def test_layer_by_layer_only_the_first_layer_shows() -> None:
    """A load that is quicker than its step costs its first layer, a longer one its excess too."""
    hbm, longer = serve(Lru(), 10_000, MemoryConfig(), PROGRAMS), []
    for bytes_per_s in (1e6, 4e4):
        slow = serve(LoadAll(), ONE_CONTEXT, dram(bytes_per_s, "layerwise"), PROGRAMS)
        for name, record in slow.items():
            blocks = record.loaded_tokens.get("dram", 0) // BLOCK
            load_ps = round(blocks * 1000 / bytes_per_s * S)
            compute_ps = (record.prompt_tokens - record.cached_tokens) * S // 100
            shows_ps = max(load_ps - compute_ps, 0) + load_ps // LAYERS
            longer.append(load_ps > compute_ps)
            assert record.cached_tokens == hbm[name].cached_tokens
            ttft_ps = hbm[name].first_token_ps - hbm[name].ready_ps
            assert record.first_token_ps - record.ready_ps == ttft_ps + shows_ps
    assert {True, False} == {*longer}


def test_layer_by_layer_a_load_ends_where_its_step_hides_it() -> None:
    """If all that is there would take longer to load than the rest to compute, a part of it is computed."""
    whole, split = (
        serve(policy, ONE_CONTEXT, dram(4e4, "layerwise"), PROGRAMS) for policy in (LoadAll(), Demote())
    )
    sooner = [
        whole[name].first_token_ps - whole[name].ready_ps - (record.first_token_ps - record.ready_ps)
        for name, record in split.items()
    ]
    assert min(sooner) == 0 < max(sooner)
    assert 0 < split["c:2"].loaded_tokens["dram"] < whole["c:2"].loaded_tokens["dram"]


def test_a_blocking_load_shows_as_a_whole() -> None:
    hbm = serve(Lru(), 10_000, MemoryConfig(), PROGRAMS)
    slow = serve(Demote(), ONE_CONTEXT, dram(1e6, "blocking", latency_s=0.001), PROGRAMS)
    for name, record in slow.items():
        blocks = record.loaded_tokens.get("dram", 0) // BLOCK
        load_ps = round(blocks * 1000 / 1e6 * S) + S // 1000 if blocks else 0
        assert record.transfer_ps == load_ps
        ttft_ps = hbm[name].first_token_ps - hbm[name].ready_ps
        assert record.first_token_ps - record.ready_ps == ttft_ps + load_ps


def test_what_is_quicker_to_compute_is_computed() -> None:
    slow = serve(Demote(), ONE_CONTEXT, dram(1e3, "blocking"), PROGRAMS)
    assert not any(record.loaded_tokens or record.transfer_ps for record in slow.values())


# ---- nothing is stuck ---------------------------------------------------------------------------


class AllHard:
    """Hard pins for ever."""

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        return Placement("hbm", hard=True)


@pytest.mark.parametrize("policy", [AllHard(), PinAlways()])
@pytest.mark.parametrize("version", ["0.12", "0.32"])
def test_pins_on_everything_are_broken_when_nothing_else_can_go_on(policy: object, version: str) -> None:
    """Also under a turn that runs alone and grows (0.12 admits what may not fit in the end)."""
    for seed in range(30):
        case = draw_case(seed, cramped=True)
        case = replace(case, engine=case.engine.model_copy(update={"engine_version": version}))
        play(case, policy, audit_every=3)


def two_turns(name: str, first: int, second: int) -> Program:
    """A prompt of `first` tokens, and, 100 s after its reply, one of `second` tokens that continues it."""
    trunk = Segment()
    turns = (
        Turn(f"{name}:0", 0, "main", first, 1, ((trunk, first + 1),)),
        Turn(
            f"{name}:1",
            1,
            "main",
            second,
            2,
            ((trunk, first), (Segment(first, trunk), second + 2)),
            (after(0, 100),),
        ),
    )
    return Program(name, 0, turns)


def one_turn(name: str, prompt: int, output: int, arrival_s: int) -> Program:
    turn = Turn(f"{name}:0", 0, "main", prompt, output, ((Segment(), prompt + output),))
    return Program(name, arrival_s * S, (turn,))


def test_turns_that_wait_with_loaded_kv_do_not_block_each_other() -> None:
    """Both load at once, b is there first, a last and so at the head; c runs meanwhile, one at a time.

    Of 61 blocks a holds 30 and needs 30 more, b holds 20 and needs 10; 11 are left. So b has to give
    its blocks back.
    """
    memory = dram(1500, "blocking")
    link = memory.links[0].model_copy(update={"sharing": "processor"})
    served = serve(
        LoadAll(),
        62,
        memory.model_copy(update={"links": (link,)}),
        (
            two_turns("a", 120, 240),
            two_turns("b", 80, 118),
            one_turn("filler", 241, 1, arrival_s=30),
            one_turn("c", 8, 34, arrival_s=103),
        ),
        max_num_seqs=1,
    )
    a, b, c = served["a:1"], served["b:1"], served["c:0"]
    assert c.scheduled_ps < a.ready_ps + a.transfer_ps < c.finish_ps
    assert c.finish_ps <= a.scheduled_ps < b.scheduled_ps
    once_ps = round(2 * 20_000 / 1500 * S)  # side by side with a
    assert b.transfer_ps == pytest.approx(once_ps * 3 / 2, abs=10)  # and again, alone
    assert (a.loaded_tokens["dram"], b.loaded_tokens["dram"]) == (120, 80)

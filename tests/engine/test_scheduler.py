"""Each scheduling rule in a case small enough to work out by hand.

Every step takes 10 ticks. A step is written as {request: (first token, number of tokens)}.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from agentservesim.engine.config import EngineConfig, rules_of
from agentservesim.engine.request import Request
from agentservesim.engine.step import Step
from agentservesim.model import Path, Segment
from tests.engine.runs import InstanceRun
from tests.engine.scenarios import Arrival, InstanceScenario, KnottedStepTime
from tests.kv.evictions import Evictions, recorder
from tests.paths import cut, fork, longer, root, turn

TICKS = KnottedStepTime(base=10)
Composition = dict[str, tuple[int, int]]


class Film:
    """What an engine of `usable` blocks of 4 tokens did, step by step."""

    def __init__(
        self, arrivals: Sequence[Arrival], usable: int = 100, policy: str = "fcfs", **settings: object
    ) -> None:
        config = EngineConfig.model_validate({"block_size": 4, "async_scheduling": False, **settings})
        scenario = InstanceScenario([config], [usable + 1], [TICKS], arrivals, policy)
        run = InstanceRun(scenario, leap=False)
        self._scheduler = scheduler = run.instances[0].scheduler
        self.steps: list[Composition] = []
        self.preempted: list[tuple[int, str]] = []
        self.evicted: Evictions = []
        scheduler.on_step = self._step
        scheduler.on_preempt = lambda request: self.preempted.append((len(self.steps), request.id))
        scheduler.pool.on_evict = recorder(self.evicted)
        run.run()
        self.requests: dict[str, Request] = {request.id: request for request in run.finished}
        self.ends = [request.id for request in run.finished]
        leapt = InstanceRun(scenario, leap=True).run()
        assert leapt.turns() == run.turns()

    def _step(self, step: Step) -> None:
        chunks = dict(zip(step.prefills, step.chunks, strict=True))
        composition: Composition = {}
        for request in self._scheduler.running:
            if request in chunks:
                new, start = chunks[request]
                composition[request.id] = (start, new)
            elif request.in_rows:
                composition[request.id] = (self._scheduler.rows.computed(request) - 1, 1)
        self.steps.append(composition)

    def cached(self, name: str) -> int:
        return self.requests[name].cached_tokens

    def starts(self, name: str) -> int:
        """The step in which a request first runs."""
        return next(number for number, step in enumerate(self.steps) if name in step)


def ask(
    name: str, prompt: int, reply: int = 1, *, at: int = 0, priority: int = 0, path: Path | None = None
) -> Arrival:
    """A request of fresh content, or of the given one continued."""
    content = root(prompt + reply) if path is None else longer(path, prompt + reply)
    return Arrival(turn(name, content, prompt, priority=priority), 0, at)


# ---- what a step holds ----------------------------------------------------------------------------


def test_running_requests_first_then_waiting_ones_up_to_the_token_budget() -> None:
    film = Film([ask("a", 5, 3), ask("b", 5), ask("c", 5)], max_num_batched_tokens=8)
    assert film.steps == [
        {"a": (0, 5), "b": (0, 3)},
        {"a": (5, 1), "b": (3, 2), "c": (0, 5)},
        {"a": (6, 1)},
    ]


def test_a_long_prompt_is_computed_in_chunks() -> None:
    film = Film([ask("a", 20, 2)], max_num_batched_tokens=8)
    assert film.steps == [{"a": (0, 8)}, {"a": (8, 8)}, {"a": (16, 4)}, {"a": (20, 1)}]


def test_without_chunked_prefill_a_prompt_waits_until_it_fits_into_a_step() -> None:
    arrivals = [ask("a", 12, 2), ask("b", 12)]
    film = Film(arrivals, max_num_batched_tokens=20, max_model_len=20, enable_chunked_prefill=False)
    assert film.steps == [{"a": (0, 12)}, {"a": (12, 1), "b": (0, 12)}]


def test_no_more_than_max_num_seqs_run() -> None:
    film = Film([ask("a", 4, 2), ask("b", 4, 3), ask("c", 4)], max_num_seqs=2)
    assert film.steps == [
        {"a": (0, 4), "b": (0, 4)},
        {"a": (4, 1), "b": (4, 1)},
        {"b": (5, 1), "c": (0, 4)},
    ]


def test_the_long_prefill_threshold_binds_while_others_are_there() -> None:
    film = Film([ask("a", 10), ask("b", 6)], long_prefill_token_threshold=4)
    assert film.steps == [
        {"a": (0, 4), "b": (0, 4)},
        {"a": (4, 4), "b": (4, 2)},
        {"a": (8, 2)},
    ]


@pytest.mark.parametrize(("version", "chunks"), [("0.26", 3), ("0.32", 1)])
def test_who_is_alone_is_not_bound_by_the_threshold_since_0_32(version: str, chunks: int) -> None:
    film = Film([ask("a", 10)], long_prefill_token_threshold=4, engine_version=version)
    assert len(film.steps) == chunks


def test_who_waits_in_the_queue_binds_the_one_that_runs() -> None:
    film = Film([ask("a", 10), ask("b", 4)], long_prefill_token_threshold=4, max_num_seqs=1)
    assert film.steps == [{"a": (0, 4)}, {"a": (4, 4)}, {"a": (8, 2)}, {"b": (0, 4)}]


def test_the_head_of_the_line_blocks_the_rest() -> None:
    film = Film([ask("a", 20, 3), ask("big", 24), ask("small", 4)], usable=8)
    assert film.steps[0] == {"a": (0, 20)}
    assert film.starts("big") == film.starts("small") == 3, "three free blocks were enough for the small one"


# ---- prefix hits ----------------------------------------------------------------------------------


def test_at_least_one_token_of_a_prompt_is_computed() -> None:
    path = root(8)
    film = Film([ask("a", 8, path=path), ask("b", 8, at=15, path=path)])
    assert film.cached("b") == 4, "a hit of both blocks would leave nothing to compute"


def test_a_block_can_be_hit_in_the_very_step_that_computes_it() -> None:
    path = root(9)
    film = Film([ask("a", 9, path=path), ask("b", 9, path=path)])
    assert film.steps[0] == {"a": (0, 9), "b": (8, 1)}


def test_the_next_turn_hits_prompt_and_reply() -> None:
    first = ask("a", 6, 7)  # 12 tokens are computed: the last one never is
    film = Film([first, ask("b", 20, at=100, path=first.turn.path)])
    assert film.cached("b") == 12


def test_the_last_token_of_a_reply_is_never_computed_nor_its_block_hit() -> None:
    first = ask("a", 6, 6)  # 11 tokens are computed
    film = Film([first, ask("b", 20, at=100, path=first.turn.path)])
    assert film.cached("b") == 8


def test_forks_share_what_comes_before_them() -> None:
    trunk = root(10)
    arrivals = [
        ask("a", 14, path=fork(trunk, 10, 14)),
        ask("b", 14, at=20, path=fork(trunk, 10, 14)),
        ask("c", 14, at=40, path=fork(trunk, 3, 14)),
        ask("d", 10, at=60, path=cut(trunk, 10)),
    ]
    film = Film(arrivals)
    assert [film.cached(name) for name in "abcd"] == [0, 8, 0, 8]


def test_without_prefix_caching_nothing_is_hit() -> None:
    path = root(9)
    film = Film([ask("a", 9, path=path), ask("b", 9, path=path)], enable_prefix_caching=False)
    assert film.steps[0] == {"a": (0, 9), "b": (0, 9)}


# ---- admission ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "starts"),
    [
        ({}, 6),
        ({"engine_version": "0.19"}, 6),
        ({"engine_version": "0.12"}, 3),
        ({"scheduler_reserve_full_isl": False}, 3),
        ({"engine_version": "0.12", "scheduler_reserve_full_isl": True}, 6),
    ],
)
def test_the_whole_known_sequence_must_fit(settings: dict[str, object], starts: int) -> None:
    """Ten blocks: a takes seven, and b needs six, of which its first chunk needs two."""
    film = Film([ask("a", 25, 4), ask("b", 24, at=25)], usable=10, max_num_batched_tokens=9, **settings)
    assert film.steps[3]["a"] == (25, 1)
    # Older releases admit b and let it compute what there is room for.
    assert film.starts("b") == starts


@pytest.mark.parametrize(("version", "starts"), [("0.32", 3), ("0.26", 3), ("0.19", 1), ("0.12", 1)])
def test_the_watermark_is_kept_free_beside_others_since_0_26(version: str, starts: int) -> None:
    """Ten blocks, int(0.2 * 11) of which the watermark keeps: a takes eight all the same, b must wait."""
    arrivals = [ask("a", 32, 3, at=0), ask("b", 4, at=5)]
    film = Film(arrivals, usable=10, watermark=0.2, engine_version=version)
    assert film.starts("a") == 0, "nobody runs: no watermark"
    assert film.starts("b") == starts


def test_hits_that_nobody_uses_cost_free_blocks() -> None:
    """Six blocks. The content of a lies in three of the free ones; b has taken three others. To hit two
    of those three leaves one free block, and c needs two more."""
    first = ask("a", 12)
    arrivals = [first, ask("b", 10, 3, at=15), ask("c", 16, at=25, path=cut(first.turn.path, 8))]
    film = Film(arrivals, usable=6)
    assert film.starts("c") == 4, "behind the end of b"


# ---- preemption -----------------------------------------------------------------------------------


def test_the_youngest_is_preempted_and_computes_again_what_was_evicted() -> None:
    film = Film([ask("a", 8, 5), ask("b", 8, 5), ask("c", 4)], usable=4)
    assert film.steps == [
        {"a": (0, 8), "b": (0, 8)},
        {"a": (8, 1)},  # took b's last block; nobody is admitted in a step that preempts
        {"a": (9, 1)},  # c would fit, but b is the head of the line
        {"a": (10, 1)},
        {"a": (11, 1)},
        {"b": (4, 5), "c": (0, 4)},
        {"b": (9, 1)},
        {"b": (10, 1)},
        {"b": (11, 1)},
    ]
    assert film.preempted == [(1, "b")]
    again = film.requests["b"]
    assert (again.preemptions, again.recomputed_tokens, again.cached_tokens) == (1, 4, 0)
    assert again.queue_ps == 40, "from the preemption to the end of a"


def test_who_asks_for_a_block_may_be_the_youngest_itself() -> None:
    film = Film([ask("a", 7, 2), ask("b", 8, 2)], usable=4)
    assert film.preempted == [(1, "b")]
    assert film.steps == [{"a": (0, 7), "b": (0, 8)}, {"a": (7, 1)}, {"b": (8, 1)}]
    assert film.requests["b"].recomputed_tokens == 0, "nobody had taken its blocks"


def test_by_priority_the_worst_goes_and_gives_back_what_it_was_granted() -> None:
    arrivals = [ask("low", 5, 9, priority=2), ask("high", 8, 3, at=5, priority=0)]
    film = Film(arrivals, usable=4, policy="priority")
    assert film.steps[:4] == [
        {"low": (0, 5)},
        {"low": (5, 1), "high": (0, 8)},
        {"high": (8, 1)},  # low had its token already, when high needed a block
        {"high": (9, 1)},
    ]
    assert film.preempted == [(2, "low")]


def test_of_equal_priority_the_last_to_arrive_goes() -> None:
    arrivals = [ask("first", 5, 9, at=0), ask("last", 5, 9, at=5), ask("asks", 8, 3, at=6)]
    film = Film(arrivals, usable=6, policy="priority")
    assert film.preempted[0] == (2, "asks"), "it is the last one itself"
    arrivals = [ask("other", 4, 9, at=0), ask("asks", 8, 3, at=5), ask("last", 6, 9, at=6)]
    film = Film(arrivals, usable=6, policy="priority")
    assert film.preempted[0] == (2, "last")


def test_the_queue_is_served_by_priority_then_arrival_then_id() -> None:
    arrivals = [
        ask("now", 4, 2),
        ask("c", 4, at=5, priority=1),
        ask("b", 4, at=6, priority=0),
        ask("y", 4, at=7, priority=0),
        ask("x", 4, at=7, priority=0),
    ]
    film = Film(arrivals, max_num_seqs=1, policy="priority")
    assert film.ends == ["now", "b", "x", "y", "c"]
    assert Film(arrivals, max_num_seqs=1).ends == ["now", "c", "b", "y", "x"]


def test_what_others_computed_for_a_preempted_request_counts_as_cached() -> None:
    """b is preempted in the middle of its prompt; until it comes back, a has computed more of it."""
    shared = root(29)
    arrivals = [
        ask("b", 24, path=cut(shared, 25), priority=2),
        ask("a", 28, path=shared, at=5, priority=0),
    ]
    film = Film(
        arrivals,
        usable=8,
        long_prefill_token_threshold=4,
        engine_version="0.12",
        policy="priority",
    )
    assert film.steps == [
        {"b": (0, 4)},
        {"b": (4, 4), "a": (8, 4)},  # a hits what b is computing in the same step
        {"b": (8, 4), "a": (12, 4)},
        {"b": (12, 4), "a": (16, 4)},
        {"a": (20, 4)},  # takes the block that b was granted
        {"b": (20, 4), "a": (24, 4)},
    ]
    b = film.requests["b"]
    assert (b.cached_tokens, b.recomputed_tokens) == (4, 0), "it had come to 16 and goes on at 20"


# ---- eviction and releases ------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "evictions"), [("0.12", 1), ("0.19", 1), ("0.26", 0), ("0.32", 0)])
def test_blocks_without_content_are_taken_first_since_0_26(version: str, evictions: int) -> None:
    """Four blocks: a leaves two with content, b one without; c takes two."""
    arrivals = [ask("a", 8), ask("b", 3, at=15), ask("c", 7, at=30)]
    film = Film(arrivals, usable=4, engine_version=version)
    segment: Segment = arrivals[0].turn.path[0][0]
    assert film.evicted == [(segment, 1)] * evictions


def test_what_a_release_switches() -> None:
    def rules(version: str) -> tuple[bool, bool, bool, bool]:
        found = rules_of(EngineConfig.model_validate({"engine_version": version}))
        return found.reserve_full, found.blanks_first, found.watermark, found.lone_uncapped

    assert rules("0.12") == (False, False, False, False)
    assert rules("0.19") == (True, False, False, False)
    assert rules("0.26") == (True, True, True, False)
    assert rules("0.32") == (True, True, True, True)


# ---- synchronous and asynchronous -----------------------------------------------------------------


@pytest.mark.parametrize(("asynchronous", "runs_in"), [(False, 2), (True, 3)])
def test_an_arrival_during_step_n_first_runs_in_the_next_or_the_one_after(
    asynchronous: bool, runs_in: int
) -> None:
    film = Film([ask("a", 4, 20), ask("b", 4, at=15)], async_scheduling=asynchronous)
    assert film.starts("b") == runs_in, "b arrives during step 1"
    b = film.requests["b"]
    assert (b.scheduled_ps, b.first_token_ps) == (20, 10 * (runs_in + 1))
    assert (b.queue_ps, b.prefill_ps) == (5, b.first_token_ps - 20)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_arrival_at_the_start_of_a_step_is_seen_by_the_decision_of_that_moment(asynchronous: bool) -> None:
    film = Film([ask("a", 4, 20), ask("b", 4, at=20)], async_scheduling=asynchronous)
    assert film.requests["b"].scheduled_ps == 20


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_idle_engine_starts_at_once(asynchronous: bool) -> None:
    film = Film([ask("a", 4, 3, at=7)], async_scheduling=asynchronous)
    a = film.requests["a"]
    assert (a.scheduled_ps, a.first_token_ps, a.finish_ps) == (7, 17, 37)
    assert film.steps == [{"a": (0, 4)}, {"a": (4, 1)}, {"a": (5, 1)}]


@pytest.mark.parametrize(("asynchronous", "arrival", "cached"), [(False, 35, 8), (True, 25, 4)])
def test_a_block_with_a_generated_token_is_hit_when_the_token_is_known(
    asynchronous: bool, arrival: int, cached: int
) -> None:
    """In step 4 a computes its eighth token. Synchronously its second block can be hit at once;
    asynchronously that token is being sampled while step 4 is decided."""
    first = ask("a", 4, 9)
    arrivals = [first, ask("b", 20, at=arrival, path=first.turn.path)]
    film = Film(arrivals, async_scheduling=asynchronous)
    assert film.starts("b") == 4
    assert film.cached("b") == cached


def test_a_request_that_ended_holds_its_place_until_its_step_has_run() -> None:
    """With one place, a's last step is step 1; the decision behind it is taken when step 1 ends."""
    for asynchronous, start in ((False, 20), (True, 20)):
        film = Film([ask("a", 4, 2), ask("b", 4)], max_num_seqs=1, async_scheduling=asynchronous)
        assert film.requests["b"].scheduled_ps == start
        assert film.steps == [{"a": (0, 4)}, {"a": (4, 1)}, {"b": (0, 4)}]


def test_a_turn_preempted_before_its_last_token_is_out_ends_all_the_same() -> None:
    """Asynchronously, b may lose its blocks while the step that yields its last token still runs."""
    film = Film([ask("a", 8, 5), ask("b", 8, 1)], usable=4, async_scheduling=True)
    b = film.requests["b"]
    assert film.preempted == [(1, "b")]
    assert (b.first_token_ps, b.finish_ps, b.recomputed_tokens, b.queue_ps) == (10, 10, 0, 0)

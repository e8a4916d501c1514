"""Programs over instances: the orchestrator sends turns, the router places them, instances serve them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from agentservesim.engine.order import Order, order_of
from agentservesim.engine.request import NOTHING, Request
from agentservesim.engine.seen import seen_of
from agentservesim.fleet.admission import FleetState, Gate
from agentservesim.fleet.ahead import look_ahead
from agentservesim.fleet.config import NetworkConfig, RoutingConfig, ToolsConfig
from agentservesim.fleet.engines import InstanceSpec, build_engines
from agentservesim.fleet.memory import build_network, equip
from agentservesim.fleet.migration import Migrations
from agentservesim.fleet.orchestrator import Orchestrator, ProgramRun
from agentservesim.fleet.router import Dispatcher
from agentservesim.fleet.servers import Server, estimates_of
from agentservesim.fleet.tools import ToolSimulator
from agentservesim.kernel import Kernel
from agentservesim.kv.config import MemoryConfig
from agentservesim.kv.residency import Chain, Residency
from agentservesim.kv.tiers import KvShape
from agentservesim.model import InputError, Listener, Turn, TurnRecord, Workload, first_tokens
from agentservesim.policies.admission.always import Always
from agentservesim.policies.asking import tick_ps
from agentservesim.policies.protocols import (
    NO_HINTS,
    Choice,
    OraclePolicy,
    Prefilled,
    ProgramArrived,
    ProgramEnded,
    Router,
    TurnFinished,
    TurnView,
)
from agentservesim.policies.residency.lru import Lru
from agentservesim.policies.scheduling.fcfs import Fcfs

PROGRESS_EVERY = 64
"""Turns between two calls of a progress callback."""

FIRST = -(1 << 21)
"""Priority: a first token is out before any turn ends in its moment."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What a run did: engine steps, leaps (runs of steps taken at once), preemptions, KV blocks evicted."""

    steps: int
    leaps: int
    preemptions: int
    evicted_blocks: int


class Busy(NamedTuple):
    """Picoseconds that an instance's accelerators spent in steps with prefill, and of decode alone."""

    prefill_ps: int
    decode_ps: int


@dataclass(slots=True, eq=False)
class Sent:
    """A turn on its way: what its record needs to know."""

    run: ProgramRun
    gap_ps: int
    hold_ps: int
    view: TurnView
    scores: Sequence[float]


class Fleet:
    """A workload served by instances.

    Raises InputError for a router that names no instance. `run` may be called once.
    """

    def __init__(
        self,
        workload: Workload,
        instances: Sequence[InstanceSpec],
        *,
        router: Router,
        tools: ToolsConfig,
        seed: int,
        listener: Listener,
        leap: bool = True,
        max_concurrency: int | None = None,
        memory: MemoryConfig | None = None,
        residency: object = None,
        scheduler: object = None,
        admission: object = None,
        routing: RoutingConfig | None = None,
        network: NetworkConfig | None = None,
    ) -> None:
        self._kernel = kernel = Kernel()
        self._listener = listener
        self._turns_left = workload.num_turns
        self._progress: Callable[[int], None] | None = None
        self._turns = workload.num_turns
        self._order = order = order_of(scheduler or Fcfs())
        if isinstance(scheduler, OraclePolicy):
            scheduler.replies |= {p.id: tuple(t.output_tokens for t in p.turns) for p in workload.programs}
        engines = build_engines(instances, kernel, self._finished, order=order, leap=leap, listener=listener)
        self.network = build_network(network, instances, kernel)
        self._servers = [
            Server(engine, spec, estimates, self.network)
            for engine, spec, estimates in zip(engines, instances, estimates_of(instances), strict=True)
        ]
        self._dispatcher = Dispatcher(router, self._servers, routing or RoutingConfig(), kernel, seed)
        self.residencies = self._equip(instances, memory or MemoryConfig(), residency or Lru())
        every_ps = tick_ps(residency, "residency")
        if every_ps and not hasattr(residency, "next_tick_s"):
            kernel.every(every_ps, self._tick)
        state = FleetState(kernel, [server.view for server in self._servers])
        self._gate = Gate(admission or Always(), state, self._see, self._send, self._hold, self._reject)
        self._migrations = Migrations(
            self._dispatcher,
            state,
            self._servers,
            self.residencies,
            self.network,
            self._gate,
            self._submit,
            kernel,
        )
        self.rejected: dict[str, int] = {}
        self._orchestrator = Orchestrator(
            workload.programs, kernel, ToolSimulator(tools, kernel, seed), self._ready, max_concurrency
        )

    def _equip(self, specs: Sequence[InstanceSpec], memory: MemoryConfig, policy: object) -> list[Residency]:
        """The memory models of the instances; none where LRU and HBM are all there is."""
        if type(policy) is Lru and not memory.tiers and self.network is None:
            return []
        return equip(
            [server.instance for server in self._servers],
            [spec.step_time for spec in specs],
            [spec.kv_shape or KvShape(spec.engine.block_size, 1) for spec in specs],
            memory,
            policy,
            self._kernel,
        )

    @property
    def now_ps(self) -> int:
        """The simulated time."""
        return self._kernel.now

    def run(self, progress: Callable[[int], None] | None = None) -> Counts:
        """Serve every turn; `progress` is told now and then how many are done.

        Raises InputError if turns are left that nothing can serve.
        """
        self._progress = progress
        # Nothing here is garbage before the end; looking for it would take a tenth of the time.
        gc_was_enabled = gc.isenabled()
        gc.disable()
        try:
            self._kernel.run()
        finally:
            if gc_was_enabled:
                gc.enable()
        self._gate.check_empty()
        if self._turns_left:
            raise InputError(f"{self._turns_left} turns could not be served: their prompts fit no instance")
        return self.counts

    @property
    def counts(self) -> Counts:
        """What was done so far."""
        instances = [server.instance for server in self._servers]
        return Counts(
            steps=sum(i.steps for i in instances),
            leaps=sum(i.leaps for i in instances),
            preemptions=sum(i.scheduler.preemptions for i in instances),
            evicted_blocks=sum(i.scheduler.pool.evicted_blocks for i in instances),
        )

    @property
    def busy(self) -> list[Busy]:
        """How long each instance was at work so far."""
        return [
            Busy(engine.prefill_busy_ps // stages, engine.decode_busy_ps // stages)
            for engine in (server.instance for server in self._servers)
            for stages in (engine.config.pipeline_parallel_size,)
        ]

    def _see(self, run: ProgramRun, turn: Turn) -> TurnView:
        """A turn that is ready, as policies see it."""
        home = run.homes.get(turn.session_id)
        return TurnView(
            run.program.id,
            turn.session_id,
            turn.index,
            turn.prompt_tokens,
            turn.priority,
            run.homes.get(None) if home is None else home,
            first_tokens(turn.path, turn.prompt_tokens),
            turn.hints or NO_HINTS,
            run.known,
        )

    def _ready(self, run: ProgramRun, turn: Turn, gap_ps: int) -> None:
        """A client sends a turn."""
        run.known.ready(turn, self._kernel.now)
        if self._order is not None:
            if run.known.turns_done == 0 and run.known.running_turns == 1:
                self._order.tell(ProgramArrived(run.known))
            self._order.changed(run.program.id)
        self._gate.ready(run, turn, gap_ps)

    def _hold(self, run: ProgramRun, turn: Turn) -> None:
        """A turn has to wait before the router: the gap before it is over."""
        if self.residencies and turn.session_id in run.homes:
            residency = self.residencies[run.homes[turn.session_id]]
            residency.gap_ends((run.program.id, turn.session_id))

    def _reject(self, run: ProgramRun, reason: str) -> None:
        """A program ends before its time."""
        self.rejected[run.program.id] = run.start_ps
        self._turns_left -= self._orchestrator.reject(run)
        for residency in self.residencies:
            for session in run.homes:
                residency.forget((run.program.id, session or ""))
            residency.program_ends(run.program.id, run.known.turns_done)

    def _send(self, run: ProgramRun, turn: Turn, gap_ps: int, hold_ps: int) -> None:
        """A turn goes to the instance that the router chooses."""
        homes, now = run.homes, self._kernel.now
        view = self._see(run, turn)
        watched = self._migrations.watches
        directed = self._migrations.directed(run.program.id) if watched else None
        choice = self._dispatcher.choose(view) if directed is None else Choice(directed)
        index = choice.index
        if self.residencies and turn.session_id in homes:
            session = run.program.id, turn.session_id
            residency = self.residencies[homes[turn.session_id]]
            residency.gap_ends(session)
            residency.returns(session, view.home == index)
        homes[turn.session_id] = index
        run.latest[turn.session_id] = turn.index
        homes.setdefault(None, index)
        run.known.sent(index)
        if choice.source is not None:
            self._migrations.fetch(run, turn, choice.source, index)
        run.in_flight += 1
        request = Request(turn, now, Sent(run, gap_ps, hold_ps, view, choice.scores), run.program.id)
        if self._order is not None:
            request.program, request.critical_path_s = run.known, run.known.path_s(turn.index)
        if self._dispatcher.wants_news or self._gate.observes:
            request.on_first_token = self._first_token
        if watched:
            self._migrations.sent(run, request)
        self._submit(request, index)

    def _submit(self, request: Request, index: int) -> None:
        """A turn is on its way to an instance."""
        server = self._servers[index]
        server.load += 1
        self._dispatcher.sent(index)
        if server.spec.frontend_in_ps:
            self._kernel.after(server.spec.frontend_in_ps, server.instance.submit, request)
        else:
            server.instance.submit(request)

    def _first_token(self, request: Request) -> None:
        assert isinstance(request.owner, Sent)
        view, at_ps = request.owner.view, request.first_token_ps
        if self._dispatcher.wants_news:
            self._dispatcher.prefilled(view, request.instance, at_ps)
        if self._gate.observes:
            self._kernel.at(at_ps, self._gate.prefilled, Prefilled(view, request.instance), FIRST)

    def _finished(self, request: Request) -> None:
        server, sent, turn = self._servers[request.instance], request.owner, request.turn
        server.load -= 1
        if sent is None:
            self._looked_ahead(request)
            return
        assert isinstance(sent, Sent)
        out_ps = server.spec.frontend_out_ps
        finish_ps = request.finish_ps + out_ps
        first_ps = request.first_token_ps + out_ps
        prefill_ps = request.prefill_ps + out_ps
        in_engine_ps = request.queue_ps + prefill_ps + request.transfer_ps
        self._listener.turn_done(
            TurnRecord(
                program_id=sent.run.program.id,
                turn_id=turn.id,
                index=turn.index,
                session_id=turn.session_id,
                instance=request.instance,
                ready_ps=request.arrival_ps - sent.hold_ps,
                scheduled_ps=request.scheduled_ps,
                first_token_ps=first_ps,
                finish_ps=finish_ps,
                gap_ps=sent.gap_ps,
                queue_ps=request.queue_ps + sent.hold_ps,
                hold_ps=sent.hold_ps,
                requeue_ps=request.requeue_ps,
                prefill_ps=prefill_ps,
                decode_ps=finish_ps - request.arrival_ps - in_engine_ps,
                transfer_ps=request.transfer_ps,
                prompt_tokens=turn.prompt_tokens,
                output_tokens=turn.output_tokens,
                cached_tokens=request.cached_tokens,
                computed_tokens=turn.prompt_tokens - request.cached_tokens,
                recomputed_tokens=request.recomputed_tokens,
                preemptions=request.preemptions,
                loaded_tokens=self._loaded_tokens(request) if request.loaded_blocks else NOTHING,
                scores=sent.scores,
            )
        )
        self._dispatcher.replied(sent.view, request.instance, turn.output_tokens)
        self._turns_left -= 1
        sent.run.known.done(request, self._kernel.now)
        if self._progress is not None and self._turns_left % PROGRESS_EVERY == 0:
            self._progress(self._turns - self._turns_left)
        self._orchestrator.finished(sent.run, turn, finish_ps)
        if self._order is not None:
            self._tell(self._order, sent.run, request)
        if self.residencies:
            self._note_gap(self.residencies[request.instance], sent.run, request)
        if self._migrations.watches:
            self._migrations.ended(sent.run, request)
        if self._dispatcher.looks_ahead(sent.view) and sent.run.turns_left:
            self._look_ahead(sent.run, request)
        self._gate.ended(sent.run, turn, request.cached_tokens)

    def _look_ahead(self, run: ProgramRun, request: Request) -> None:
        """Compute where a turn ended what is known of the next prompt."""
        ahead = look_ahead(run, request.turn, self._kernel.now)
        if self._order is not None:
            ahead.program, ahead.critical_path_s = run.known, request.critical_path_s
        self._kernel.after(0, lambda _: self._submit(ahead, request.instance))

    def _looked_ahead(self, request: Request) -> None:
        """The next prompt's beginning has been computed: the scheduling policy is told, and nobody else."""
        self._dispatcher.sent(request.instance)
        if self._order is not None:
            self._order.tell(TurnFinished(seen_of(request)))
            request.seen = None

    def _loaded_tokens(self, request: Request) -> dict[str, int]:
        """Tokens that were loaded for a turn, by tier."""
        size = self._servers[request.instance].spec.engine.block_size
        return {tier: blocks * size for tier, blocks in request.loaded_blocks.items()}

    def _tell(self, order: Order, run: ProgramRun, request: Request) -> None:
        """Tell the scheduling policy that a turn, and maybe its program, is done."""
        order.tell(TurnFinished(seen_of(request)))
        request.seen = None  # the two know each other, and would outlive the run
        if run.turns_left == 0:
            order.tell(ProgramEnded(run.program.id, len(run.program.turns)))
        order.changed(run.program.id)

    def _tick(self) -> None:
        for residency in self.residencies:
            residency.tick()

    def _note_gap(self, residency: Residency, run: ProgramRun, request: Request) -> None:
        """Tell the memory model what the turn left behind, and whether its session goes on."""
        program, turn = run.program, request.turn
        session = program.id, turn.session_id
        blocks = (turn.total_tokens - 1) // self._servers[request.instance].spec.engine.block_size
        after = run.next_turns.get(turn.index)
        if after is None:
            residency.ends(session, turn.path, blocks)
            if run.turns_left == 0:
                residency.program_ends(program.id, len(program.turns))
            return
        if run.latest[turn.session_id] != turn.index:
            return  # The session's next turn did not wait for this one's end.
        chain = residency.chains.get(session)
        if chain is None:
            before = run.chains.get(turn.session_id)
            chain = Chain(session, run.start_ps) if before is None else before.elsewhere()
            residency.roll.add(chain)
        run.chains[turn.session_id] = chain
        chain.path, chain.turns_done = turn.path, chain.turns_done + 1
        chain.blocks = blocks
        chain.tools = tuple([call.name for call in turn.tools])
        chain.hints = turn.hints or {}
        residency.gap_starts(chain, None if run.waiting_for[after] else run.ready_ps[after])

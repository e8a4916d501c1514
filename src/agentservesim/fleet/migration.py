"""Programs that move: what a routing policy asks of turns and KV that are placed already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from agentservesim.engine.request import Request
from agentservesim.fleet.admission import LONGEST_IDLE_PS, FleetState, Gate
from agentservesim.fleet.orchestrator import ProgramRun
from agentservesim.fleet.router import Dispatcher
from agentservesim.fleet.servers import Server
from agentservesim.kernel import Kernel
from agentservesim.kv.links import Network
from agentservesim.kv.residency import Chain, Residency, Session
from agentservesim.model import InputError, Turn, first_tokens
from agentservesim.policies.asking import FAULTS, attribute, fault_of, tick_ps
from agentservesim.policies.protocols import Migration, Move, Pause, Replicate, Restore


class Migrations:
    """Carries out what `rebalance` yields, and sends KV over the network.

    Views may be old: what no longer applies has no effect (a program that ended, a session that is there
    already). It `watches` what is sent and ends if the policy may ask for anything at all.
    resend(request, index): a turn that was taken back is sent to an instance. Raises InputError that names
    the policy for an answer that is no migration, or leads to no instance.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        fleet: FleetState,
        servers: Sequence[Server],
        residencies: Sequence[Residency],
        network: Network | None,
        gate: Gate,
        resend: Callable[[Request, int], None],
        kernel: Kernel,
    ) -> None:
        self._policy = policy = dispatcher.policy
        self._name = dispatcher.name
        self._dispatcher = dispatcher
        self._fleet = fleet
        self._servers = servers
        self._residencies = residencies
        self._network = network
        self._kernel = kernel
        self._gate = gate
        self._resend = resend
        self._runs: dict[str, ProgramRun] = {}
        self._active: dict[Session, Request] = {}
        self._later: dict[Session, Move] = {}
        self._directed: dict[str, int] = {}
        self._busy_ps = 0
        self._seen = replace(fleet)
        every_ps = tick_ps(policy, self._name)
        may = attribute(policy, "rebalance", self._name) is not None
        self.watches = may and every_ps > 0 and attribute(policy, "rebalances", self._name, True)
        if self.watches:
            kernel.every(every_ps, self._tick, lambda: fleet.held > 0)

    # ---- what the fleet says ------------------------------------------------------------------

    def directed(self, program_id: str) -> int | None:
        """Where the turns of a restored program go that were held."""
        return self._directed.get(program_id)

    def sent(self, run: ProgramRun, request: Request) -> None:
        """A turn is on its way to an instance."""
        self._runs[run.program.id] = run
        self._active[request.session] = request

    def ended(self, run: ProgramRun, request: Request) -> None:
        """A turn ended, and its gap, if any, has begun: a session that was to move afterwards goes."""
        session = request.session
        if self._active.get(session) is request:
            del self._active[session]
        move = self._later.pop(session, None)
        if run.turns_left == 0:
            self._runs.pop(run.program.id, None)
        elif move is not None:
            self._move(move)

    def fetch(self, run: ProgramRun, turn: Turn, source: int, goal: int) -> None:
        """Send what an instance has of a turn's prompt to the one that will serve it."""
        if self._network is None or source == goal:
            return
        at, session = self._residencies[goal], (run.program.id, turn.session_id)
        chain = at.chains.get(session) or Chain(session, run.start_ps)
        if chain.pin is None:
            chain.path = first_tokens(turn.path, turn.prompt_tokens)
            chain.blocks = (turn.prompt_tokens - 1) // self._servers[goal].spec.engine.block_size
            if at.bring(chain, self._residencies[source], self._network, keep=True):
                at.roll.add(chain)

    # ---- what the policy says -----------------------------------------------------------------

    def _tick(self) -> None:
        self._seen.held, self._seen.instances = self._fleet.held, self._dispatcher.views
        try:
            wanted = list(self._policy.rebalance(self._seen))
        except FAULTS as error:
            raise fault_of(f"{self._name}: rebalance()", error) from error
        for migration in wanted:
            self._carry_out(migration)
        if not self._kernel.idle:
            self._busy_ps = self._kernel.now
        elif self._kernel.now - self._busy_ps > LONGEST_IDLE_PS:
            self._gate.check_empty()

    def _carry_out(self, migration: Migration) -> None:
        if not isinstance(migration, (Move, Replicate, Pause, Restore)):
            raise InputError(
                f"{self._name}: rebalance() yielded {migration!r}; it must be a Move, Replicate, Pause or "
                "Restore"
            )
        if isinstance(migration, Pause):
            self._gate.pause(migration.program_id)
            return
        index = migration.instance
        if index is not None and not (isinstance(index, int) and 0 <= index < len(self._servers)):
            last = len(self._servers) - 1
            raise InputError(f"{self._name}: rebalance() yielded {migration!r}; instances are 0 to {last}")
        if isinstance(migration, Restore):
            self._restore(migration)
        elif isinstance(migration, Move):
            self._move(migration)
        else:
            self._replicate(migration)

    def _restore(self, restore: Restore) -> None:
        if restore.instance is not None:
            self._directed[restore.program_id] = restore.instance
        self._gate.restore(restore.program_id)
        self._directed.pop(restore.program_id, None)

    def _move(self, move: Move) -> None:
        session, goal = (move.program_id, move.session_id), move.instance
        run = self._runs.get(move.program_id)
        home = run.homes.get(move.session_id) if run is not None else None
        if run is None or home is None or home == goal:
            return
        request = self._active.get(session)
        if request is not None and not self._servers[home].withdraw(request):
            self._later[session] = move
            return
        run.homes[move.session_id] = goal
        run.known.sent(goal)
        self._carry(session, home, goal, move.transfer)
        if request is not None:
            self._resend(request, goal)

    def _carry(self, session: Session, home: int, goal: int, transfer: bool) -> None:
        """What is known of a session goes with it, and its KV if it is to."""
        if self._residencies:
            network = self._network if transfer else None
            self._residencies[goal].take_over(session, self._residencies[home], network)

    def _replicate(self, replicate: Replicate) -> None:
        run = self._runs.get(replicate.program_id)
        home = run.homes.get(replicate.session_id) if run is not None else None
        if self._network is None or home is None or home == replicate.instance:
            return
        session, at = (replicate.program_id, replicate.session_id), self._residencies[replicate.instance]
        at.replicate(session, self._residencies[home], self._network)

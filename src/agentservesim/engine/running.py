"""The running requests of an instance: their decode rows, their chunks of prefill, and who is preempted.

`_run_each` takes them request by request, as vLLM does, and is the reference. Where no row can be short of
budget or blocks, and no two requests write the same content, all decode rows are advanced at once instead.
The tests hold the two equal, and both equal to vLLM.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter

from agentservesim.cost.base import StepTime
from agentservesim.engine.config import EngineConfig, rules_of
from agentservesim.engine.memory import Memory
from agentservesim.engine.order import Order
from agentservesim.engine.request import Request
from agentservesim.engine.room import Room
from agentservesim.engine.rows import DecodeRows
from agentservesim.engine.seen import seen_of
from agentservesim.engine.step import Requests, Step
from agentservesim.engine.waiting import ArrivalQueue, KeyQueue
from agentservesim.kv.pool import BlockPool
from agentservesim.model import to_s
from agentservesim.policies.protocols import Preempted

running_order = attrgetter("place")


class Running:
    """Requests of one instance, its block pool, and what the running ones do in a step.

    `now_ps` is when something happened here last; `last_end_ps` is when the step before the one to decide
    ends, and `in_flight` are the steps that have not. Without an `order` requests are served first come,
    first served. `cached_tokens(request)` are those that a waiting one would find in HBM now.
    `on_admit(request, hit_tokens)` and `on_preempt(request)` are called as those happen, and
    `on_step(step)` when a step is decided and not yet priced, if set.
    """

    def __init__(
        self, config: EngineConfig, num_gpu_blocks: int, step_time: StepTime, order: Order | None = None
    ) -> None:
        rules = rules_of(config)
        self.config = config
        self.pool = BlockPool(
            num_gpu_blocks,
            config.block_size,
            caching=config.enable_prefix_caching,
            blanks_first=rules.blanks_first,
        )
        self.running: list[Request] = []
        self._cohorts = [
            DecodeRows(step_time.knots, config.block_size, step_time.longest)
            for _ in range(config.pipeline_parallel_size)
        ]
        self.rows = self._cohorts[0]
        self.preemptions = 0
        self.now_ps = 0
        self.last_end_ps = 0
        self.in_flight: Sequence[Step] = ()
        self.memory: Memory | None = None
        self.on_admit: Callable[[Request, int], None] | None = None
        self.on_preempt: Callable[[Request], None] | None = None
        self.on_step: Callable[[Step], None] | None = None
        self._order = order
        self._caps = order is not None and order.caps
        self._step_time = step_time
        self._lone_uncapped = rules.lone_uncapped
        self._room = Room(config, self.pool, self.running, rationed=self._caps)
        self.cached_tokens = self._room.cached_tokens
        self.waiting: ArrivalQueue | KeyQueue = (
            ArrivalQueue() if order is None else KeyQueue(order, self._room.forget)
        )
        # A generated token's block is hashed when the token is known: with asynchronous scheduling
        # that is one step later, unless the request was left out of the step before.
        self._lag = 1 if config.async_scheduling else 0
        self._budget = config.max_num_batched_tokens
        self._priced = (-1, 0)
        self._prefills: list[Request] = []
        self._left_out: set[Request] = set()
        self._last_place = 0
        self._last_row_place = 0

    @property
    def running_tokens(self) -> int:
        """Context of the running requests, once the step scheduled last has run."""
        decoding = sum([sum(rows.contexts()) for rows in self._cohorts])
        return decoding + sum([request.computed for request in self.running if request.rows is None])

    # ---- micro-batches ------------------------------------------------------------------------

    def _choose_rows(self) -> None:
        """Pick the rows that the next step of a pipeline may advance.

        Rows whose tokens are still on their way through the stages must wait for them, so each of the steps
        in flight has rows of its own: a micro-batch. A request joins that of the step which ends its prefill.
        """
        busy = [step.rows for step in self.in_flight[1 - len(self._cohorts) :]]
        free = [rows for rows in self._cohorts if not any(rows is other for other in busy)]
        self.rows = max(free, key=lambda rows: rows.count > 0)

    # ---- all at once --------------------------------------------------------------------------

    def _go_at_once(self, budget: int, wanted: Sequence[int]) -> bool:
        """Whether the running requests can be taken at once instead of one by one; `wanted` are the tokens of
        the prefills.

        Where decode rows alone are short of blocks, pins give way to all of them as they would one by one.
        """
        rows, prefills, pool = self.rows, self._prefills, self.pool
        if rows.count > budget or pool.contended or self._left_out:
            return False
        if prefills and prefills[0].place < self._last_row_place:
            # Whoever stands behind a prefill may find the budget or the pool used up by it.
            # Rationed prompts stand there for long, and leave enough for all.
            if not self._caps or rows.count + sum(wanted) > budget:
                return False
            # Of two that write the same content in one step, the order matters.
            if any(map(self._shares, [r for r in prefills if r.holding.catch_up is None])):
                return False
        blocks = rows.next_blocks()
        if blocks + self._room.to_come <= pool.free:
            return True
        if pool.is_watched:
            return False
        if prefills:
            return blocks + sum(map(self._blocks_for, prefills, wanted)) <= pool.free
        return self.memory is not None and self.memory.reclaim(blocks - pool.free, running=True)

    def _blocks_for(self, request: Request, tokens: int) -> int:
        """Blocks that a prefill needs for its next tokens."""
        size = self.config.block_size
        return -(-(request.computed + tokens) // size) + -request.computed // size

    def _shares(self, request: Request) -> bool:
        """Whether somebody writes what is left of a prefill's content as well."""
        return self.pool.is_shared_writing(request.holding, request.computed)

    def _compute(
        self,
        step: Step,
        requests: Sequence[Request],
        wanted: Sequence[int],
        budget: int,
        joining: list[Request],
    ) -> int:
        """Put the next chunks of prompts into the step, blocks being at hand; returns what is left of the
        budget. Who watches what is evicted is asked for each of them."""
        pool, size = self.pool, self.config.block_size
        chunks, prefills = step.chunks, step.prefills
        watched, blocks, taken = len(requests) > 1 and pool.is_watched, 0, 0
        for request, new in zip(requests, wanted, strict=True):
            if new > budget:
                if budget == 0:
                    break
                new = budget
            start = request.computed
            chunks.append((new, start))
            prefills.append(request)
            computed = request.computed = start + new
            blocks += -(-computed // size) + (-start // size)
            eager = request.holding.catch_up is None
            if eager or watched:
                pool.take(blocks)
                taken, blocks = taken + blocks, 0
            if eager:
                self._catch_up(request)
            if computed == request.known:
                joining.append(request)
            budget -= new
        if blocks:
            pool.take(blocks)
        self._room.to_come -= taken + blocks
        return budget

    def _wanted(self, cap: int) -> list[int]:
        """Tokens that each prefill would compute in this step if only the caps on it counted; no cap is 0."""
        wanted = [request.known - request.computed for request in self._prefills]
        if wanted and (cap or self._caps):
            return list(map(min, wanted, self._rationed(self._prefills, cap)))
        return wanted

    def _rationed(self, requests: Sequence[Request], cap: int) -> list[int]:
        """The cap on each request in this step: the engine's, or less if the policy says so."""
        if not self._caps or self._order is None:
            return [cap] * len(requests)
        own = self._order.budgets([request.seen for request in requests], to_s(self.now_ps))
        return [min(tokens, cap) for tokens in own] if cap else own

    def _begin_prefill(self, request: Request) -> None:
        """More chunks follow the first one. They are hashed when somebody looks, if nobody else writes them;
        else in each step, as the order matters."""
        self._prefills.append(request)
        if not self._shares(request):
            self.pool.begin_writing(request.holding, request.computed, lambda: self._catch_up(request))

    def _end_prefill(self, request: Request) -> None:
        """What a request has computed of its prompt is hashed."""
        if request.holding.catch_up is not None:
            self._catch_up(request)
            self.pool.end_writing(request.holding)

    def _drop_prefill(self, request: Request) -> None:
        """A request computes no more of its prompt."""
        self._prefills.remove(request)
        self._room.to_come -= self._blocks_for(request, request.known - request.computed)
        self._end_prefill(request)

    def _join(self, step: Step, joining: list[Request]) -> None:
        """After pricing: rows that were left out come back, finished prefills become rows."""
        if self._left_out:
            for request in self.running:
                if request in self._left_out:
                    self.pool.store(request.holding, request.computed // self.config.block_size)
                    self._become_row(request)
        if not joining:
            return
        step.first = [request for request in joining if request.known == request.prompt_tokens]
        ending = [request for request in joining if request.computed == request.total - 1]
        if ending:
            step.ending = sorted([*step.ending, *ending], key=running_order)
        for request in joining:
            self._end_prefill(request)
            if request.computed < request.total - 1:
                self._become_row(request)
        if self._prefills:
            self._prefills = [r for r in self._prefills if r.computed < r.known]

    def _become_row(self, request: Request) -> None:
        self.rows.add(request)
        self.pool.begin_writing(request.holding, request.computed, lambda: self._catch_up(request, self._lag))
        if request.place > self._last_row_place:
            self._last_row_place = request.place

    def _ended(self) -> Requests:
        """Rows that took their last token with the step just scheduled, as they stand then."""
        if self.rows.end > self.rows.clock:
            return ()
        ended = self.rows.pop_ended()
        for request in ended:
            self._leave_rows(request)
        if not (self.rows.count or any(rows.count for rows in self._cohorts)):
            self._last_row_place = 0
        return ended

    def _leave_rows(self, request: Request) -> None:
        """A request that was taken out of the rows is up to date again."""
        self._catch_up(request, self._lag)
        self.pool.end_writing(request.holding)

    def _catch_up(self, request: Request, lag: int = 0) -> None:
        """Bring the holding of a running request up to date: all but the last `lag` tokens are hashed."""
        computed = request.in_cache
        holding, size = request.holding, self.config.block_size
        blocks = -(-computed // size)
        if blocks > holding.blocks:
            holding.blocks = blocks
        self.pool.store(holding, (computed - lag) // size)

    # ---- running requests one by one ----------------------------------------------------------

    def _run_each(
        self, step: Step, now: int, budget: int, wanted: Sequence[int], joining: list[Request]
    ) -> tuple[int, bool]:
        """Schedule the running requests in order, preempting where blocks run out.

        Returns the budget that is left, and whether anybody was preempted.
        """
        rows, running, size = self.rows, self.running, self.config.block_size
        wants = dict(zip(self._prefills, wanted, strict=True))
        granted: dict[Request, int] = {}
        preempted = False
        index = 0
        while index < len(running) and budget > 0:
            request = running[index]
            if request.holding.catch_up is not None:
                request.holding.catch_up()
            if request.in_rows:
                computed, new = request.in_cache, int(request.rows is rows)
            else:
                computed, new = request.computed, min(wants.get(request, 0), budget)
            if new <= 0:
                index += 1
                continue
            need = -(-(computed + new) // size) - request.holding.blocks
            while need > self.pool.free:
                if self.memory is not None and self.memory.reclaim(need - self.pool.free, running=True):
                    continue
                if self.memory is not None and len(running) == 1 and self.memory.open_valve():
                    continue
                victim = self.waiting.victim(running, now)
                place = running.index(victim)
                del running[place]
                if place < index:
                    index -= 1
                budget += granted.pop(victim, 0)
                self._preempt(victim, now)
                preempted = True
                if victim is request:
                    break
            if not request.running:
                break
            self.pool.take(need)
            request.holding.blocks += need
            hashed = computed + new
            if request.in_rows and request not in self._left_out:
                hashed -= self._lag
            self.pool.store(request.holding, hashed // size)
            granted[request] = new
            budget -= new
            index += 1
        self._grant(step, granted, joining)
        return budget, preempted

    def _grant(self, step: Step, granted: dict[Request, int], joining: list[Request]) -> None:
        """Put the granted tokens into the step: all rows move on, except those without a grant."""
        rows = self.rows
        self._left_out = {r for r in self.running if r.rows is rows and r not in granted}
        for request in self.running if self._left_out else ():
            if request in self._left_out:
                rows.remove(request)
                self._leave_rows(request)
        if rows.count:
            rows.advance(1)
        for request, new in granted.items():
            if not request.in_rows:
                step.chunks.append((new, request.computed))
                step.prefills.append(request)
                self._room.to_come -= self._blocks_for(request, new)
                request.computed += new
                if request.computed == request.known:
                    joining.append(request)

    def _preempt(self, request: Request, now: int) -> None:
        """Drop a request's blocks and put it back into the queue; it will compute them again."""
        if request.rows is not None:
            request.rows.remove(request)
            self._leave_rows(request)
            request.known = request.computed + 1
        elif request in self._prefills:
            self._drop_prefill(request)
        else:
            request.known = request.computed + 1
        self.pool.release(request.holding)
        request.recomputed_tokens += request.computed
        request.reached = max(request.reached, request.computed)
        request.computed = 0
        request.running = False
        request.preemptions += 1
        # The step before this one may still be at work for it.
        request.since_ps = max(now, self.last_end_ps)
        self.preemptions += 1
        if self._order is not None:
            self._order.tell(Preempted(seen_of(request)))
        self.waiting.put_back(request, now)
        if self.on_preempt is not None:
            self.on_preempt(request)

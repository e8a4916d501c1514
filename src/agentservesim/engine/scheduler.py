"""vLLM V1's scheduler, decision for decision.

`Scheduler.schedule` makes the decisions of one step. Running requests come first, in running order;
then waiting ones are admitted. `_run_each` takes the running ones request by request, as vLLM does,
and is the reference. Where no row can be short of budget or blocks, and no two requests write the same
content, all decode rows are advanced at once instead. The tests hold the two equal, and both equal to
vLLM.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter

from agentservesim.cost.base import Batch, StepTime
from agentservesim.engine.config import EngineConfig, rules_of
from agentservesim.engine.memory import Memory
from agentservesim.engine.order import Order
from agentservesim.engine.request import Request
from agentservesim.engine.room import Room
from agentservesim.engine.rows import DecodeRows
from agentservesim.engine.seen import Seen
from agentservesim.engine.step import Requests, Step
from agentservesim.engine.waiting import ArrivalQueue, KeyQueue
from agentservesim.kv.pool import BlockPool

running_order = attrgetter("place")


class Scheduler:
    """Requests of one instance, its block pool, and the decisions of each step.

    `now_ps` is when something happened here last; `last_end_ps` is when the step before the one to decide
    ends. Without an `order` requests are served first come, first served.
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
        self.waiting: ArrivalQueue | KeyQueue = ArrivalQueue() if order is None else KeyQueue(order)
        self.running: list[Request] = []
        self.rows = DecodeRows(step_time.knots, config.block_size)
        self.preemptions = 0
        self.now_ps = 0
        self.last_end_ps = 0
        self.memory: Memory | None = None
        self.on_admit: Callable[[Request, int], None] | None = None
        self.on_preempt: Callable[[Request], None] | None = None
        self.on_step: Callable[[Step], None] | None = None
        self._order = order
        self._step_time = step_time
        self._lone_uncapped = rules.lone_uncapped
        self._room = Room(config, self.pool, self.running)
        # A generated token's block is hashed when the token is known: with asynchronous scheduling
        # that is one step later, unless the request was left out of the step before.
        self._lag = 1 if config.async_scheduling else 0
        self._budget = config.max_num_batched_tokens
        self._priced = (-1, 0)
        self._prefills: list[Request] = []
        self._left_out: set[Request] = set()
        self._last_place = 0
        self._last_row_place = 0

    # ---- one step -----------------------------------------------------------------------------

    def schedule(self, now: int, one_by_one: bool) -> Step | None:
        """Decide the next step at time `now`; None if nothing can be scheduled.

        A step that only preempts has no rows and takes no time.
        """
        self.now_ps = now
        budget = self._budget
        # Who watches what is evicted is asked once for all rows, however they are taken.
        one_by_one = one_by_one and not self.pool.is_watched
        if not (one_by_one or self._prefills or self.waiting.queue) and self._rows_are_safe(budget):
            return self._decode() if self.rows.count else None
        if self.waiting.queue:
            self.waiting.refresh(now)
        step = Step()
        step.chunks, step.prefills = [], []
        self._priced = (-1, 0)
        cap = self.config.long_prefill_token_threshold
        if cap and self._lone_uncapped and len(self.running) + len(self.waiting) <= 1:
            cap = 0
        joining: list[Request] = []
        rows = self.rows
        preempted = False
        if one_by_one or not self._rows_are_safe(budget):
            budget, preempted = self._run_each(step, now, budget, cap, joining)
        else:
            if rows.count:
                self.pool.take(rows.next_blocks())
                budget -= rows.count
                rows.advance(1)
            for request in self._prefills:
                budget = self._prefill(step, request, budget, cap, joining)
        step.decode_rows = rows.count
        if self.waiting.queue and not preempted:
            self._admit(step, now, budget, cap, joining)
        if not step.chunks and not step.decode_rows and not preempted:
            return None
        if self.on_step is not None:
            self.on_step(step)
        if step.chunks or step.decode_rows:
            sampled = step.decode_rows + len(joining)
            batch = Batch(step.chunks, rows.count, rows.counts, rows.contexts(), sampled)
            step.duration_ps = self._step_time.step_ps(batch)
        step.ending = self._ended()
        if joining or self._left_out:
            self._join(step, joining)
        return step

    def _decode(self) -> Step:
        """A step of nothing but decode rows, blocks being at hand."""
        rows = self.rows
        blocks = rows.next_blocks()
        if blocks:
            self.pool.take(blocks)
        rows.advance(1)
        step = Step(rows.count)
        if self.on_step is not None:
            self.on_step(step)
        batch = Batch((), rows.count, rows.counts, rows.contexts(), rows.count)
        step.duration_ps = self._step_time.step_ps(batch)
        self._priced = rows.version, step.duration_ps
        if rows.end <= rows.clock:
            step.ending = self._ended()
        return step

    def _rows_are_safe(self, budget: int) -> bool:
        """Whether the running requests can be taken at once instead of one by one."""
        rows = self.rows
        if rows.count > budget or self.pool.contended or self._left_out:
            return False
        blocks = rows.next_blocks()
        if self._prefills:
            # Whoever stands behind a prefill may find the budget or the pool used up by it.
            if self._prefills[0].place < self._last_row_place:
                return False
            size = self.config.block_size
            for request in self._prefills:
                blocks += -(-request.known // size) - request.holding.blocks
        return blocks <= self.pool.free

    def _prefill(self, step: Step, request: Request, budget: int, cap: int, joining: list[Request]) -> int:
        """Compute the next chunk of a running prefill, blocks being at hand."""
        if budget <= 0:
            return budget
        new = request.known - request.computed
        cap = self._capped(request, cap)
        if 0 < cap < new:
            new = cap
        if new > budget:
            new = budget
        if new > 0:
            self._compute_chunk(step, request, new, joining)
        return budget - new

    def _compute_chunk(self, step: Step, request: Request, new: int, joining: list[Request]) -> None:
        """Give blocks to `new` tokens of a prefill and put them into the step."""
        step.chunks.append((new, request.computed))
        step.prefills.append(request)
        computed = request.computed = request.computed + new
        holding, size = request.holding, self.config.block_size
        need = -(-computed // size) - holding.blocks
        if need:
            self.pool.take(need)
            holding.blocks += need
        self.pool.store(holding, computed // size)
        if computed == request.known:
            joining.append(request)

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
            if request.computed < request.total - 1:
                self._become_row(request)
        if self._prefills:
            self._prefills = [r for r in self._prefills if r.computed < r.known]

    def _become_row(self, request: Request) -> None:
        self.rows.add(request)
        self.pool.begin_writing(request.holding, request.computed, lambda: self._catch_up(request))
        if request.place > self._last_row_place:
            self._last_row_place = request.place

    def _ended(self) -> Requests:
        """Rows that took their last token with the step just scheduled, as they stand then."""
        if self.rows.end > self.rows.clock:
            return ()
        ended = self.rows.pop_ended()
        for request in ended:
            self._leave_rows(request)
        if self.rows.count == 0:
            self._last_row_place = 0
        return ended

    def _leave_rows(self, request: Request) -> None:
        """A request that was taken out of the rows is up to date again."""
        self._catch_up(request)
        self.pool.end_writing(request.holding)

    def _catch_up(self, request: Request) -> None:
        """Bring the holding of a decoding request up to date with what the rows did."""
        computed = request.base + self.rows.clock if request.in_rows else request.computed
        holding, size = request.holding, self.config.block_size
        blocks = -(-computed // size)
        if blocks > holding.blocks:
            holding.blocks = blocks
        self.pool.store(holding, (computed - self._lag) // size)

    # ---- running requests one by one ----------------------------------------------------------

    def _run_each(
        self, step: Step, now: int, budget: int, cap: int, joining: list[Request]
    ) -> tuple[int, bool]:
        """Schedule the running requests in order, preempting where blocks run out.

        Returns the budget that is left, and whether anybody was preempted.
        """
        rows, running, size = self.rows, self.running, self.config.block_size
        granted: dict[Request, int] = {}
        preempted = False
        index = 0
        while index < len(running) and budget > 0:
            request = running[index]
            if request.in_rows:
                self._catch_up(request)
                computed, new = rows.computed(request), 1
            else:
                computed, new = request.computed, request.known - request.computed
                most = self._capped(request, cap) if new > 0 else cap
                if 0 < most < new:
                    new = most
                new = min(new, budget)
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
        self._left_out = {r for r in self.running if r.in_rows and r not in granted}
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
                request.computed += new
                if request.computed == request.known:
                    joining.append(request)

    def _preempt(self, request: Request, now: int) -> None:
        """Drop a request's blocks and put it back into the queue; it will compute them again."""
        if request.in_rows:
            self.rows.remove(request)
            self._leave_rows(request)
            request.known = request.computed + 1
        elif request in self._prefills:
            self._prefills.remove(request)
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
        self.waiting.put_back(request, now)
        if self._order is not None:
            self._order.tell(Preempted(seen_of(request)), request.session[0])
        if self.on_preempt is not None:
            self.on_preempt(request)

    # ---- waiting requests ---------------------------------------------------------------------

    def _admit(self, step: Step, now: int, budget: int, cap: int, joining: list[Request]) -> None:
        """Admit waiting requests in order until one does not fit."""
        waiting, running, memory = self.waiting, self.running, self.memory
        while waiting.queue and budget > 0 and len(running) < self.config.max_num_seqs:
            request = waiting.head()
            hit = self._room.hit(request)
            most = self._capped(request, cap)
            load = 0
            if memory is not None and self._room.may_fit(request, hit, budget, most):
                load = memory.loadable(request, hit)
            new = self._room.admissible(request, hit, load, budget, most)
            if new == 0:
                if memory is not None and memory.reclaim(self._room.missing(request, hit), running=False):
                    continue
                break
            waiting.pop()
            if request.holding.blocks == 0:
                self.pool.acquire(request.holding, hit)
            if load and memory is not None and self._load(memory, step, request, load, now):
                continue
            self._start(request, request.holding.blocks * self.config.block_size, now)
            self._compute_chunk(step, request, new, joining)
            if request.computed < request.known:
                self._prefills.append(request)
            budget -= new

    def _load(self, memory: Memory, step: Step, request: Request, blocks: int, now: int) -> bool:
        """Start to bring up blocks for a request that leaves the queue; True if it waits for them."""
        if memory.layerwise and not memory.comes_up(request):
            took_ps, first_layer_ps = memory.stream(request, blocks)
            step.load_ps = max(step.load_ps, now + took_ps)
            step.first_layer_ps = max(step.first_layer_ps, first_layer_ps)
            return False
        request.waited(now)
        if memory.comes_up(request):
            memory.join(request, self._loaded)
        else:
            memory.load(request, blocks, self._loaded)
        return True

    def _loaded(self, request: Request, took_ps: int) -> None:
        """A request's KV has come up: it is the first to be admitted."""
        request.since_ps += took_ps
        self.now_ps = request.since_ps
        self.waiting.put_back(request, self.now_ps)

    def _start(self, request: Request, hit_tokens: int, now: int) -> None:
        request.computed = hit_tokens
        request.running = True
        self._last_place += 1
        request.place = self._last_place
        self.running.append(request)
        wait_ps = request.waited(now)
        if self.memory is not None:
            self.memory.admitted(request, wait_ps, hit_tokens)
        if request.scheduled_ps < 0:
            request.scheduled_ps = now
            request.cached_tokens = hit_tokens
        else:
            # Others may have computed what this request had not come to.
            never_computed = max(hit_tokens - request.reached, 0)
            request.cached_tokens += never_computed
            request.recomputed_tokens -= hit_tokens - never_computed
        if self.on_admit is not None:
            self.on_admit(request, hit_tokens)

    def _head_is_stuck(self) -> bool:
        """Whether no waiting request can be admitted for as long as only decode steps run.

        Blocks only get fewer meanwhile, so it is enough that the head cannot be admitted now and
        that nobody is writing the content it would hit next.
        """
        if not self.waiting.queue or len(self.running) >= self.config.max_num_seqs:
            return True
        budget = self._budget - self.rows.count
        if budget == 0:
            return True
        request = self.waiting.head()
        hit = self._room.hit(request)
        cap = self.config.long_prefill_token_threshold
        if self.memory is not None:
            # What is below, and how busy the links are, may change on the way; and what a policy gives
            # up is evicted from any place in a chain, so that the rest is no hit and no loss any more.
            least = hit if self._room.reserve_full else hit._replace(free=0)
            admissible = self._room.may_fit(request, least, budget, cap) or self.memory.may_reclaim
        else:
            admissible = self._room.admissible(request, hit, 0, budget, cap) > 0
        if admissible:
            return False
        return not self.pool.is_being_written(hit.dead_end)

    def open_valve(self) -> bool:
        """Nothing runs: make room for the head of the queue by force; False if there is no way to."""
        head = self.waiting.head() if self.waiting.queue else None
        return head is not None and self.memory is not None and self.memory.open_valve(head)

    # ---- many steps at once -------------------------------------------------------------------

    def steps_ahead(self) -> int:
        """How many decode steps of the present rows are certain to come next, whatever ends with
        the last of them, if no request arrives."""
        rows = self.rows
        if not rows.count or self._prefills or self._left_out or self.pool.contended:
            return 0
        if rows.count > self._budget:
            return 0
        most = min(rows.end, rows.next_border() - 1) - rows.clock
        steps = rows.steps_that_fit(self.pool.ready, most) if most > 0 else 0
        return steps if steps and self._head_is_stuck() else 0

    def ends_after(self, steps: int) -> bool:
        """Whether a request ends with the last of so many decode steps."""
        return self.rows.end == self.rows.clock + steps

    def is_plain(self, steps: int) -> bool:
        """Whether the step behind so many decode steps asks nothing of pins and lower tiers."""
        if self.memory is None:
            return True
        return not self.waiting.queue and self.rows.blocks_for(steps + 1) <= self.pool.ready

    def cost_ahead(self) -> tuple[int, int]:
        """Duration of the first of the `steps_ahead`, and its growth from each to the next."""
        rows = self.rows
        batch = Batch((), rows.count, rows.counts, rows.contexts(ahead=1), rows.count)
        growth = self._step_time.growth_ps(batch)
        version, duration = self._priced
        if version == rows.version:
            return duration + growth, growth
        return self._step_time.step_ps(batch), growth

    def leap(self, steps: int) -> Requests:
        """Take some of the `steps_ahead`; returns the requests that end with the last one taken."""
        rows = self.rows
        self.pool.take(rows.blocks_for(steps))
        rows.advance(steps)
        self._priced = (-1, 0)
        return self._ended()

    # ---- ends ---------------------------------------------------------------------------------

    def add(self, request: Request, now: int) -> None:
        """A request arrives at the waiting queue."""
        self.now_ps = now
        if self._order is not None:
            request.seen = Seen(request, self)
        self.waiting.add(request, now)
        if self._order is not None:
            self._order.tell(TurnArrived(seen_of(request)), request.session[0])

    def finish(self, request: Request) -> None:
        """The last token is out: free the request's blocks, tail first."""
        if request.running:
            self.pool.store(request.holding, (request.total - 1) // self.config.block_size)
            self.pool.release(request.holding)
            self.running.remove(request)
            request.running = False
            self.waiting.left()
        else:
            # Preempted while its last step was under way: nothing is computed again.
            request.recomputed_tokens -= request.total - 1
            self.waiting.discard(request)

"""vLLM V1's scheduler, decision for decision.

`Scheduler.schedule` makes the decisions of one step. Running requests come first, in running order
(`agentservesim.engine.running`); then waiting ones are admitted.
"""

from __future__ import annotations

from agentservesim.engine.memory import Memory
from agentservesim.engine.request import Request
from agentservesim.engine.running import Running
from agentservesim.engine.seen import Seen
from agentservesim.engine.step import Requests, Step
from agentservesim.engine.waiting import KeyQueue
from agentservesim.kv.copies import NOWHERE, Sources
from agentservesim.kv.pool import Hit
from agentservesim.kv.sessions import Chain
from agentservesim.policies.protocols import TurnArrived


class Scheduler(Running):
    """Requests of one instance, its block pool, and the decisions of each step."""

    # ---- one step -----------------------------------------------------------------------------

    def schedule(self, now: int, one_by_one: bool) -> Step | None:
        """Decide the next step at time `now`; None if nothing can be scheduled.

        A step that only preempts has no rows and takes no time.
        """
        self.now_ps = now
        if len(self._cohorts) > 1:
            self._choose_rows()
        budget = self._budget
        # Who watches what is evicted is asked once for all rows, however they are taken.
        one_by_one = one_by_one and not self.pool.is_watched
        if not (one_by_one or self._prefills or self.waiting.queue) and self._go_at_once(budget, ()):
            return self._decode() if self.rows.count else None
        if self.waiting.queue and self.waiting.refresh(now) and self.waiting.preempts:
            self._give_way(now)
        step = Step()
        step.rows = self.rows
        step.chunks, step.prefills = [], []
        self._priced = (-1, 0)
        cap = self.config.long_prefill_token_threshold
        if cap and self._lone_uncapped and len(self.running) + len(self.waiting) <= 1:
            cap = 0
        wanted = self._wanted(cap)
        joining: list[Request] = []
        rows = self.rows
        preempted = False
        if one_by_one or not self._go_at_once(budget, wanted):
            budget, preempted = self._run_each(step, now, budget, wanted, joining)
        else:
            if rows.count:
                self.pool.take(rows.next_blocks())
                budget -= rows.count
                rows.advance(1)
            budget = self._compute(step, self._prefills, wanted, budget, joining)
        step.decode_rows = rows.count
        if self.waiting.queue and not preempted:
            self._admit(step, now, budget, cap, joining)
        if not step.chunks and not step.decode_rows and not preempted:
            return None
        if self.on_step is not None:
            self.on_step(step)
        if step.chunks or step.decode_rows:
            step.duration_ps = self._step_time.step_ps(rows.batch(step.chunks, len(joining)))
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
        step.rows = rows
        if self.on_step is not None:
            self.on_step(step)
        step.duration_ps = self._step_time.step_ps(rows.batch())
        self._priced = rows.version, step.duration_ps
        if rows.end <= rows.clock:
            step.ending = self._ended()
        return step

    # ---- waiting requests ---------------------------------------------------------------------

    def _give_way(self, now: int) -> None:
        """Preempt one running request if there is no room for a better one that waits."""
        head, running = self.waiting.head(), self.running
        if not running or not self.waiting.outranks(head, worst := self.waiting.victim(running, now), now):
            return
        crowded = len(running) >= self.config.max_num_seqs
        if crowded or not self._room.may_fit(head, self._room.hit(head), self._budget, 0):
            running.remove(worst)
            self._preempt(worst, now)

    def _admit(self, step: Step, now: int, budget: int, cap: int, joining: list[Request]) -> None:
        """Admit waiting requests in order until one does not fit."""
        waiting, running, memory = self.waiting, self.running, self.memory
        while waiting.queue and budget > 0 and len(running) < self.config.max_num_seqs:
            request = waiting.head()
            hit = self._room.hit(request)
            new, load, sources = self._first_chunk(request, hit, budget, cap)
            if new == 0:
                if memory is not None and memory.reclaim(self._room.missing(request, hit), running=False):
                    continue
                waiting.settle()
                break
            waiting.pop()
            if request.holding.blocks == 0:
                self.pool.acquire(request.holding, hit)
            if load and memory is not None and self._load(memory, step, request, sources, now):
                continue
            self._start(request, request.holding.blocks * self.config.block_size, now)
            budget = self._compute(step, (request,), (new,), budget, joining)
            if request.computed < request.known:
                self._begin_prefill(request)

    def _first_chunk(self, request: Request, hit: Hit, budget: int, cap: int) -> tuple[int, int, Sources]:
        """Tokens that a waiting request may compute in its first step, 0 if it must wait on; the blocks that
        it loads before, and where they are. A policy is asked for its ration only where there is room."""
        room, memory = self._room, self.memory
        most = cap
        if self._caps:
            if not room.may_fit(request, hit, budget, 1):
                return 0, 0, NOWHERE
            (most,) = self._rationed((request,), cap)
        new = room.admissible(request, hit, 0, budget, most)
        if memory is not None and (new or room.may_fit(request, hit, budget, most)):
            load, sources = memory.loadable(request, hit)
            if load:
                return room.admissible(request, hit, load, budget, most), load, sources
        return new, 0, NOWHERE

    def _load(self, memory: Memory, step: Step, request: Request, sources: Sources, now: int) -> bool:
        """Start to bring up what a request that leaves the queue lacks; True if it waits for that."""
        if memory.layerwise and not memory.comes_up(request):
            took_ps, first_layer_ps = memory.stream(request, sources)
            step.load_ps = max(step.load_ps, now + took_ps)
            step.first_layer_ps = max(step.first_layer_ps, first_layer_ps)
            return False
        request.waited(now)
        if memory.comes_up(request):
            memory.join(request, self._loaded)
        else:
            memory.load(request, sources, self._loaded)
        return True

    def _loaded(self, request: Request, took_ps: int) -> None:
        """A request's KV has come up: it is the first to be admitted."""
        request.since_ps += took_ps
        self.now_ps = request.since_ps
        self.waiting.put_back(request, self.now_ps)

    def _start(self, request: Request, hit_tokens: int, now: int) -> None:
        request.computed = hit_tokens
        request.running = True
        self._room.to_come += self._blocks_for(request, request.known - hit_tokens)
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
        if not self.waiting.queue:
            return True
        if self.waiting.stale:
            return False
        if len(self.running) >= self.config.max_num_seqs:
            return True
        budget = self._budget - self.rows.count
        if budget == 0:
            return True
        request = self.waiting.head()
        hit = self._room.hit(request)
        # A policy may cap a prompt as it likes from one step to the next.
        cap = 1 if self._caps else self.config.long_prefill_token_threshold
        if self.memory is not None:
            # What is below, and how busy the links are, may change on the way; and what a policy gives
            # up is evicted from any place in a chain, so that the rest is no hit and no loss any more.
            least = hit if self._room.reserve_full else hit._replace(free=0)
            admissible = self._room.may_fit(request, least, budget, cap)
            admissible = admissible or self.memory.may_reclaim(self._room.missing(request, hit))
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
        if (
            len(self._cohorts) > 1
            or not rows.count
            or self._prefills
            or self._left_out
            or self.pool.contended
        ):
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
        """Whether the step behind so many decode steps asks nothing of pins, lower tiers and the policy."""
        if self.memory is None and self._order is None:
            return True
        if self.waiting.queue and (self.memory is not None or self.waiting.asks):
            return False
        # Where blocks are short, who gives way waits again, and his key is asked for.
        return self.rows.fit(steps + 1, self.pool.ready)

    def decides_again_ps(self) -> int | None:
        """When the order of the waiting requests may change by itself, which ends a leap; None for never."""
        return self.waiting.changes_at() if self.waiting.queue else None

    def cost_ahead(self) -> tuple[int, int]:
        """Duration of the first of the `steps_ahead`, and its growth from each to the next."""
        rows = self.rows
        batch = rows.batch(ahead=1)
        growth = self._step_time.growth_ps(batch)
        version, duration = self._priced
        if version == rows.version:
            return duration + growth, growth
        return self._step_time.step_ps(batch), growth

    def leap(self, steps: int, at: int) -> Requests:
        """Take some of the `steps_ahead`, the last of which is decided at a time.

        Returns the requests that end with it.
        """
        rows = self.rows
        self.pool.take(rows.blocks_for(steps))
        rows.advance(steps)
        self._priced = (-1, 0)
        if self.waiting.queue:
            self.waiting.passed(at)
            if rows.count < self._budget and len(self.running) < self.config.max_num_seqs:
                self.waiting.settle()
        return self._ended()

    # ---- ends ---------------------------------------------------------------------------------

    def add(self, request: Request, now: int) -> None:
        """A request arrives at the waiting queue, maybe from that of another instance."""
        self.now_ps = now
        if request.seen is not None:
            request.seen.moved(self)
        elif self._order is not None:
            request.seen = Seen(request, self)
            self._order.tell(TurnArrived(request.seen))
        self.waiting.add(request, now)

    def awaits(self, program_id: str) -> bool:
        """Whether requests of a program wait here whose keys may change."""
        return isinstance(self.waiting, KeyQueue) and self.waiting.has(program_id)

    def rekey(self, program_id: str, now: int) -> bool:
        """Ask for the keys of a program's waiting requests anew; True if that changes who is first."""
        self.now_ps = now
        return isinstance(self.waiting, KeyQueue) and self.waiting.rekey(program_id, now)

    def unpinned(self, chain: Chain) -> None:
        """A pin was broken whose turn may wait here."""
        if self.awaits(chain.session[0]):
            self.rekey(chain.session[0], self.now_ps)

    def finish(self, request: Request) -> None:
        """The last token is out: free the request's blocks, tail first."""
        if request.running:
            if request.computed != request.total - 1:
                # Preempted while its last step was under way in a pipeline, and admitted again meanwhile.
                request.recomputed_tokens -= request.total - 1 - request.computed
                if request in self._prefills:
                    self._drop_prefill(request)
            self.pool.store(
                request.holding, (min(request.computed, request.total - 1)) // self.config.block_size
            )
            self.pool.release(request.holding)
            self.running.remove(request)
            request.running = False
            self.waiting.left()
        else:
            # Preempted while its last step was under way: nothing is computed again.
            request.recomputed_tokens -= request.total - 1
            self.waiting.discard(request)

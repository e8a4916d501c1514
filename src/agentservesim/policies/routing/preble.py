"""Preble's E2: exploit a long match, explore by cost otherwise."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from agentservesim.policies.bounds import at_least
from agentservesim.policies.protocols import Choice, InstanceView, Replied, RouterEvent, TurnView
from agentservesim.policies.routing.choosing import lowest
from agentservesim.policies.routing.prefixes import PrefixIndex


@dataclass
class Preble:
    """Preble's E2: the holder of a match longer than the rest of the prompt, else the lowest L + M + P.

    Source: by notes of others on the paper, with the released code's constants. Among the holders of the
    longest match the least loaded is taken, unless its load exceeds `rebalance_at` times the lowest: then the
    turn goes to the least loaded instance. L: load of the last `window_s` seconds, the prefill of missed
    tokens plus the share of decode steps that a mean reply takes; M: time to compute again what the turn
    would evict, times the share of prompt tokens that are hits there; P: prefill of the tokens missed.
    """

    window_s: float = 180.0
    rebalance_at: float = 1.5

    def __post_init__(self) -> None:
        at_least(self, 0, "window_s", "rebalance_at")

    def begin(self, instances: int, seed: int) -> None:
        """Nothing is known yet."""
        self._index: PrefixIndex | None = None
        self._work: deque[tuple[float, int, float, int, int]] = deque()
        self._load_s, self._hits, self._prompts = [0.0] * instances, [0] * instances, [0] * instances
        self._replies, self._reply_tokens = 0, 0

    def observe(self, event: RouterEvent) -> None:
        """Learn how long replies are."""
        if isinstance(event, Replied):
            self._replies += 1
            self._reply_tokens += event.reply_tokens

    def route(self, turn: TurnView, instances: Sequence[InstanceView], now_s: float) -> Choice:
        """Exploit or explore."""
        while self._work and self._work[0][0] < now_s - self.window_s:
            _, index, work_s, hits, prompt = self._work.popleft()
            self._note(index, -work_s, -hits, -prompt)
        if self._index is None:
            largest = max(instance.num_blocks * instance.block_size for instance in instances)
            self._index = PrefixIndex(len(instances), capacity=largest)
        known, load_s = self._index, self._load_s
        matches = known.match(turn.path, now_s)
        best = max(matches)
        missed_s, costs = list[float](), list[float]()
        for instance, match, held, busy_s in zip(instances, matches, known.tokens, load_s, strict=True):
            new = turn.prompt_tokens - match
            missed_s.append(instance.prefill_s(new, match))
            costs.append(busy_s + self._eviction_s(instance, new, held) + missed_s[-1])
        index = lowest(costs).index
        if best > turn.prompt_tokens - best:
            holder = min((i for i, match in enumerate(matches) if match == best), key=load_s.__getitem__)
            lightest = load_s.index(min(load_s))
            index = lightest if load_s[holder] > self.rebalance_at * load_s[lightest] else holder
        steps_s = instances[index].step_s / max(instances[index].running, 1)
        work_s = missed_s[index] + steps_s * self._reply_tokens / max(self._replies, 1)
        self._work.append((now_s, index, work_s, matches[index], turn.prompt_tokens))
        self._note(index, work_s, matches[index], turn.prompt_tokens)
        known.insert(index, turn.path, now_s)
        known.evict(index)
        return Choice(index, costs)

    def _eviction_s(self, instance: InstanceView, new_tokens: int, held: int) -> float:
        i = instance.index
        evicted = min(max(held + new_tokens - instance.num_blocks * instance.block_size, 0), new_tokens)
        if not evicted or not self._prompts[i]:
            return 0.0
        return instance.prefill_s(evicted) * self._hits[i] / self._prompts[i]

    def _note(self, index: int, work_s: float, hits: int, prompt: int) -> None:
        self._load_s[index] += work_s
        self._hits[index] += hits
        self._prompts[index] += prompt

"""A residency policy as the mechanics ask it: what it answers is checked, what it raises is told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from math import isfinite
from numbers import Real
from operator import index
from typing import Any

from agentservesim.kv.config import HBM, WORDS
from agentservesim.lookup import near_or_all
from agentservesim.model import InputError
from agentservesim.policies.asking import FAULTS, attribute, fault_of, tick_ps
from agentservesim.policies.protocols import ChainView, Event, GapEnded, OraclePolicy, Placement, ServerView

FARTHEST_S = 1e6 * 86400
SOON_S = 1e-4
MOST_SOON = 10_000


class Advice:
    """Asks `policy`. Raises InputError that names policy, call and program where it fails."""

    def __init__(self, policy: Any, tiers: Sequence[str]) -> None:
        self.oracle = policy if isinstance(policy, OraclePolicy) else None
        self._policy = policy
        self._name = f"residency {type(policy).__name__}"
        self.ranks = self._part("rank") is not None
        self.ranks_gaps = bool(self._part("ranks_gaps"))
        self.resumes = self._part("resume") is not None
        self.observes = self._part("observe") is not None
        self._known = (HBM, *WORDS, *tiers)
        self._tiers = tuple(tiers)
        self._check_named("needs", tiers)
        if tiers:
            self._check_named("uses", tiers)
        spill = self._part("spill") or {}
        self.spill = self._spill(spill, (HBM, *tiers)) if tiers else {}
        self.min_hits = self._whole("min_hits")
        self.tick_ps = tick_ps(policy, self._name)
        self.names_ticks = self.tick_ps > 0 and self._part("next_tick_s") is not None

    def place(self, chain: ChainView, server: ServerView) -> Placement:
        """Where a session's KV is to be."""
        try:
            placement = self._policy.place(chain, server)
        except FAULTS as error:
            raise self._failed("place", chain.program_id, error) from error
        return self._checked("place", chain, placement)

    def hasty(self, chain: ChainView) -> InputError:
        """What to raise where a policy wants to be asked again at once, and so without end."""
        return InputError(
            f"{self._name}: place() of program '{chain.program_id}' asked to be asked again within "
            f"{SOON_S:g} s, {MOST_SOON} times in a row; until_s must let time pass"
        )

    def tick(self, chains: Sequence[ChainView], server: ServerView) -> list[tuple[ChainView, Placement]]:
        """Placements for some of the sessions in their gaps."""
        pairs = self._listed("tick", "(chain, placement) pairs", chains, server)
        for pair in pairs:
            if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[0], ChainView):
                raise InputError(f"{self._name}: tick() named {pair!r}, which is no (chain, placement) pair")
        return [(chain, self._checked("tick", chain, placement)) for chain, placement in pairs]

    def next_tick_s(self, instance: int) -> float | None:
        """When the policy may have something to say at `tick`; None for never."""
        try:
            next_s = self._policy.next_tick_s(instance)
        except FAULTS as error:
            raise self._failed("next_tick_s", "", error) from error
        if next_s is None or (isinstance(next_s, (int, float)) and abs(next_s) < FARTHEST_S):
            return next_s
        raise InputError(
            f"{self._name}: next_tick_s() returned {next_s!r}; it must be a time in seconds, or None"
        )

    def rank(self, tier: str, chains: list[ChainView], server: ServerView) -> list[ChainView]:
        """Chains in the order in which a tier should evict them."""
        order = self._listed("rank", "chains in order", tier, chains, server)
        for chain in order:
            if not isinstance(chain, ChainView):
                raise InputError(f"{self._name}: rank() named {chain!r}, which is no chain")
        return order

    def resume(self, chain: ChainView, hits: Mapping[str, int], server: ServerView) -> int:
        """Tokens to load for a turn that is back."""
        try:
            tokens = self._policy.resume(chain, hits, server)
        except FAULTS as error:
            raise self._failed("resume", chain.program_id, error) from error
        if not isinstance(tokens, Real) or not isfinite(tokens):
            raise InputError(
                f"{self._name}: resume() of program '{chain.program_id}' returned {tokens!r}; "
                "it must be a number of tokens"
            )
        return int(float(tokens))

    def observe(self, event: Event) -> None:
        """Tell the policy what happened."""
        try:
            self._policy.observe(event)
        except FAULTS as error:
            program = event.chain.program_id if isinstance(event, GapEnded) else event.program_id
            raise self._failed("observe", program, error) from error

    def _listed(self, name: str, must: str, *arguments: object) -> list[Any]:
        try:
            answer = getattr(self._policy, name)(*arguments)
            if isinstance(answer, Iterable):
                return list(answer)
        except FAULTS as error:
            raise self._failed(name, "", error) from error
        raise InputError(f"{self._name}: {name}() returned {answer!r}; it must be {must}")

    def _failed(self, name: str, program: str, error: BaseException) -> InputError:
        whose = f" of program '{program}'" if program else ""
        return fault_of(f"{self._name}: {name}(){whose}", error)

    def _checked(self, call: str, chain: ChainView, placement: object) -> Placement:
        if not isinstance(placement, Placement) or placement.tier not in self._known:
            must = f"{placement!r}; it must be a Placement on one of {', '.join(self._known)}"
        elif not (isinstance(placement.hard, bool) and isinstance(placement.copy, bool)):
            must = f"{placement!r}; hard and copy must be True or False"
        elif placement.then and not self._lead_down(placement):
            below = ", ".join(self._tiers) or "none"
            must = f"{placement!r}; `then` goes from a lower tier to others: {below}"
        elif not (placement.budget_tokens is None or _is_whole(placement.budget_tokens)):
            must = f"budget_tokens {placement.budget_tokens!r}; it must be a whole number, 0 or more, or None"
        else:
            until = placement.until_s
            if until is None or (isinstance(until, (int, float)) and abs(until) < FARTHEST_S):
                budget = placement.budget_tokens
                return placement if budget is None else placement._replace(budget_tokens=index(budget))
            must = f"until_s {until!r}; it must be a time in seconds, or None"
        raise InputError(f"{self._name}: {call}() of program '{chain.program_id}' returned {must}")

    def _lead_down(self, placement: Placement) -> bool:
        """Whether the tiers of a placement are all below HBM."""
        if not isinstance(placement.then, tuple):
            return False
        return all(tier in self._tiers for tier in (placement.tier, *placement.then))

    def _part(self, name: str) -> Any:
        return attribute(self._policy, name, self._name)

    def _check_named(self, part: str, tiers: Sequence[str]) -> None:
        """The tiers that a policy names must be there."""
        named = self._part(part) or ()
        if not isinstance(named, (tuple, list, Set)) or not all(isinstance(name, str) for name in named):
            raise InputError(f"{self._name}: {part} is {named!r}; it must be a tuple of names of tiers")
        for name in named:
            if name not in tiers:
                there_are = near_or_all(name, tiers) if tiers else "; there are none"
                raise InputError(f"{self._name} {part} tier '{name}', which is no tier here{there_are}")

    def _spill(self, spill: object, names: tuple[str, ...]) -> dict[str, str]:
        """Checked: each tier spills to one that is slower."""
        if not isinstance(spill, Mapping):
            raise InputError(f"{self._name}: spill is {spill!r}; it must map tiers to slower ones")
        for above, below in spill.items():
            if above not in names or below not in names or names.index(above) >= names.index(below):
                raise InputError(
                    f"{self._name}: spill from '{above}' to '{below}': it must lead to a slower one of "
                    + ", ".join(names)
                )
        return dict(spill)

    def _whole(self, name: str) -> int:
        value = self._part(name) or 0
        if not _is_whole(value):
            raise InputError(f"{self._name}: {name} is {value!r}; it must be a whole number, 0 or more")
        return int(value)


def _is_whole(value: object) -> bool:
    try:
        return index(value) >= 0  # type: ignore[arg-type]
    except TypeError:
        return False

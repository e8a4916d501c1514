"""Places prompts of which a trace says only how many leading tokens were seen before.

Where those tokens come from:

1. a turn that follows another one in its session: that turn (its prompt, then its reply);
2. the first turn of a sub-agent whose figure is exactly the prompt, or prompt and reply, of the turn
   that started it: that turn (a fork of the context);
3. a program's own `shared_prefix_tokens`: one content for each group, or where no group is given, for
   each combination of model, kind and size;
4. otherwise the first prompt that is long enough of the latest session that has one: of the same program
   and role (root or sub-agent), then of the same group, role and model, then of the same role, then of any.

A turn that follows another and says nothing begins with all of that prompt if it is no shorter and is
not marked as a reset, and with its shared prefix otherwise.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass

from agentservesim.workload.content import ROOT, ContentTree, Placed, Recent, Spot, cut


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a prompt may find content: its predecessor, its shared prefix, and pools in order of trial.

    `session` names the session that the prompt itself belongs to.
    """

    session: Hashable
    previous: Placed | None = None
    follows: bool = False
    exact: bool = False
    shared_key: Hashable = None
    shared: int = 0
    pools: tuple[Hashable, ...] = ()


class PrefixRules:
    """Places prompts by their prefix figures. `unheld`: tokens said to be seen that no earlier turn has."""

    def __init__(self, tree: ContentTree, reuse_output: bool) -> None:
        self._tree = tree
        self._reuse = reuse_output
        self._shared: dict[Hashable, Spot] = {}
        self._sessions: defaultdict[Hashable, list[Placed]] = defaultdict(list)
        self._recent: defaultdict[Hashable, Recent] = defaultdict(Recent)
        self.unheld = 0

    def place(self, prompt: int, output: int, prefix: int | None, origin: Origin) -> Placed:
        """Place a prompt, of which the first `prefix` tokens were seen before (None: not stated)."""
        placed = Placed(self._tree.grow(self._start(prompt, prefix, origin), prompt), prompt + output)
        self.note(placed, origin)
        return placed

    def note(self, placed: Placed, origin: Origin) -> None:
        """Let later prompts find this one."""
        session = self._sessions[origin.session]
        session.append(placed)
        for pool in origin.pools:
            self._recent[pool].add(session)

    def _start(self, prompt: int, prefix: int | None, origin: Origin) -> Spot:
        previous = origin.previous
        if previous is not None and origin.follows:
            return self._after(prompt, prefix, previous, origin)
        if previous is not None and prefix in (previous.prompt, previous.total):
            return self._tree.at(previous, prefix)
        shared = self._shared_prefix(origin)
        if prefix is None or prefix <= shared[1]:
            return shared
        return self._search(prefix, origin.pools, shared)

    def _after(self, prompt: int, prefix: int | None, previous: Placed, origin: Origin) -> Spot:
        if prefix is None:
            if prompt < previous.prompt:
                return self._shared_prefix(origin)
            prefix = previous.prompt
        if self._reuse and not origin.exact and prefix >= previous.prompt and prompt >= previous.total:
            prefix = max(prefix, previous.total)
        if prefix <= previous.total:
            return self._tree.at(previous, prefix)
        return self._search(prefix, origin.pools[:1], self._tree.at(previous, previous.total))

    def _search(self, prefix: int, pools: tuple[Hashable, ...], fallback: Spot) -> Spot:
        for pool in pools:
            found = self._recent[pool].find(prefix)
            if found is not None:
                return cut(found.spot, prefix)
        self.unheld += prefix - fallback[1]
        return fallback

    def _shared_prefix(self, origin: Origin) -> Spot:
        if not origin.shared:
            return ROOT
        longest = self._shared.get(origin.shared_key, ROOT)
        if longest[1] < origin.shared:
            longest = self._shared[origin.shared_key] = self._tree.grow(longest, origin.shared)
        return cut(longest, origin.shared)

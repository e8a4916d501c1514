"""From drafts to a workload: resolve names, order turns, set the clock, place what is not placed yet."""

from __future__ import annotations

from collections import Counter
from heapq import heapify, heappop, heappush

from agentservesim.lookup import did_you_mean
from agentservesim.model import (
    PS_PER_S,
    Dependency,
    InputError,
    Path,
    Program,
    Relation,
    Turn,
    Workload,
    to_s,
)
from agentservesim.workload.content import ContentTree, Placed
from agentservesim.workload.drafts import Draft, Link
from agentservesim.workload.prefixes import Origin, PrefixRules
from agentservesim.workload.rows import fault

CLOCK_PS = 86_400 * PS_PER_S
"""A trace whose first program arrives later than this gives times of day: its clock is set to 0 there."""


def assemble(
    drafts: list[Draft],
    file: str,
    tree: ContentTree,
    *,
    reuse_output: bool,
    synthetic: bool = False,
    notes: tuple[str, ...] = (),
) -> Workload:
    """Programs in order of arrival, turns in an order in which dependencies point backwards.

    Raises InputError for duplicate ids, and for dependencies that dangle, leave the program or form a cycle.
    """
    known = _by_id(drafts, file)
    groups: dict[str, list[Draft]] = {}
    for draft in drafts:
        groups.setdefault(draft.program, []).append(draft)
    ordered = [(_arrival(group), _ordered(group, known, file)) for group in groups.values()]
    ordered.sort(key=lambda entry: (entry[0], entry[1][0].line))
    origin_ps = ordered[0][0] if ordered[0][0] > CLOCK_PS else 0
    if origin_ps:
        notes += (f"the clock was shifted by {to_s(origin_ps):.0f} s so that the first program arrives at 0",)
    rules = PrefixRules(tree, reuse_output)
    for _, turns in ordered:
        _place(turns, rules)
    if rules.unheld:
        notes += (f"{rules.unheld} tokens are stated as seen before, but no earlier turn has them",)
    programs = tuple(_program(turns, arrival, origin_ps, tree) for arrival, turns in ordered)
    return Workload(programs, source=file, synthetic=synthetic, notes=notes)


def _by_id(drafts: list[Draft], file: str) -> dict[str, Draft]:
    known: dict[str, Draft] = {}
    for draft in drafts:
        first = known.setdefault(draft.id, draft)
        if first is not draft:
            raise fault(file, draft.line, f"id '{draft.id}' is already used in line {first.line}")
    return known


def _arrival(group: list[Draft]) -> int:
    stated = [draft.arrival_ps for draft in group if draft.arrival_ps is not None]
    roots = [draft.start_ps for draft in group if not draft.links and draft.start_ps is not None]
    return min(stated or roots, default=0)


def _ordered(group: list[Draft], known: dict[str, Draft], file: str) -> list[Draft]:
    """Topological order, by place in the file among those that could be next."""
    place = {draft.id: number for number, draft in enumerate(group)}
    missing: Counter[int] = Counter()
    waiters: dict[int, list[int]] = {}
    for number, draft in enumerate(group):
        for link in draft.links:
            before = place.get(link.target)
            if before is None:
                raise _dangling(draft, link, known, file)
            waiters.setdefault(before, []).append(number)
            missing[number] += 1
    ready = [number for number in range(len(group)) if not missing[number]]
    heapify(ready)
    order: list[Draft] = []
    while ready:
        number = heappop(ready)
        order.append(group[number])
        for waiter in waiters.get(number, ()):
            missing[waiter] -= 1
            if not missing[waiter]:
                heappush(ready, waiter)
    if len(order) < len(group):
        raise _cycle(group, place, {number for number in missing if missing[number]}, file)
    return order


def _dangling(draft: Draft, link: Link, known: dict[str, Draft], file: str) -> InputError:
    what = f"turn '{draft.id}' waits for '{link.target}', which"
    other = known.get(link.target)
    if other is None:
        hint = did_you_mean(link.target, list(known)[:10_000], 0.8)
        return fault(file, draft.line, f"{what} is not in the trace{hint}")
    own = f"(its own is '{draft.program}')"
    return fault(file, draft.line, f"{what} belongs to another program, '{other.program}' {own}")


def _cycle(group: list[Draft], place: dict[str, int], stuck: set[int], file: str) -> InputError:
    number, seen = min(stuck), list[int]()
    while number not in seen:
        seen.append(number)
        number = next(n for link in group[number].links if (n := place[link.target]) in stuck)
    loop = [*seen[seen.index(number) :], number]
    if len(loop) > 7:
        loop = [*loop[:5], loop[-1]]
    names = " <- ".join(group[n].id for n in loop)
    return fault(file, group[number].line, f"turns wait for each other in a circle: {names}")


def _place(turns: list[Draft], rules: PrefixRules) -> None:
    """Place the content of a program's turns that no reader has placed."""
    if all(draft.placed is not None or draft.path is not None for draft in turns):
        return
    done: dict[str, Draft] = {}
    last: dict[str, Draft] = {}
    for draft in turns:
        origin = _origin(draft, done, last)
        if draft.placed is None:
            draft.placed = rules.place(draft.prompt, draft.output, draft.prefix, origin)
        else:
            rules.note(draft.placed, origin)
        done[draft.id] = last[draft.session] = draft


def _origin(draft: Draft, done: dict[str, Draft], last: dict[str, Draft]) -> Origin:
    before = [done[link.target] for link in draft.links if done[link.target].session == draft.session]
    previous = before[-1] if before else last.get(draft.session)
    follows = previous is not None and not (draft.reset and draft.prefix is None)
    if previous is None and draft.links:
        previous = done[draft.links[0].target]
    placed: Placed | None = previous.placed if previous is not None else None
    shared_key = (draft.model, draft.kind, draft.child, draft.shared) if draft.group is None else draft.group
    return Origin(
        session=(draft.program, draft.session),
        previous=placed,
        follows=follows,
        exact=draft.exact,
        shared_key=shared_key,
        shared=draft.shared,
        pools=(
            (draft.program, draft.child),
            (draft.group, draft.child, draft.model),
            draft.child,
            None,
        ),
    )


def _program(turns: list[Draft], arrival: int, origin_ps: int, tree: ContentTree) -> Program:
    place = {draft.id: number for number, draft in enumerate(turns)}
    sessions = [draft.session for draft in turns]
    done = tuple(
        Turn(
            id=draft.id,
            index=number,
            session_id=draft.session,
            prompt_tokens=draft.prompt,
            output_tokens=draft.output,
            path=_path(draft, tree),
            dependencies=tuple(_dependencies(draft, place, sessions)),
            not_before_ps=max(0, draft.start_ps - arrival) if draft.start_ps is not None else 0,
            tools=draft.tools,
            trigger=draft.trigger,
            priority=draft.priority,
            prefix_tokens=draft.prefix,
            hints=draft.hints,
        )
        for number, draft in enumerate(turns)
    )
    first = turns[0]
    return Program(first.program, arrival - origin_ps, done, first.kind, first.tenant)


def _path(draft: Draft, tree: ContentTree) -> Path:
    if draft.path is not None:
        return draft.path
    assert draft.placed is not None
    return tree.path(draft.placed)


def _dependencies(draft: Draft, place: dict[str, int], sessions: list[str]) -> list[Dependency]:
    numbers = [place[link.target] for link in draft.links]
    follows = any(sessions[number] == draft.session for number in numbers)
    return [
        Dependency(
            number,
            link.trigger,
            link.delay_ps,
            link.tools_ps,
            link.relation or _relation(sessions[number] == draft.session, follows),
        )
        for number, link in zip(numbers, draft.links, strict=True)
    ]


def _relation(same_session: bool, follows: bool) -> Relation:
    if same_session:
        return "sequence"
    return "join" if follows else "spawn"

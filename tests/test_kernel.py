"""The kernel runs events in one total order: (time, priority, order of asking)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentservesim.kernel import Event, Kernel

TIMES = st.integers(0, 6)
PRIORITIES = st.integers(-2, 2)
EVENTS = st.lists(st.tuples(TIMES, PRIORITIES), max_size=40)


def test_time_goes_before_priority_and_priority_before_order_of_asking() -> None:
    kernel, ran = Kernel(), list[str]()
    kernel.at(2, ran.append, "late but urgent", priority=-9)
    kernel.at(1, ran.append, "second of equals")
    kernel.at(1, ran.append, "third of equals")
    kernel.at(1, ran.append, "urgent", priority=-1)
    kernel.at(1, ran.append, "not urgent", priority=1)
    kernel.run()
    assert ran == ["urgent", "second of equals", "third of equals", "not urgent", "late but urgent"]
    assert kernel.now == 2


def test_an_event_asked_for_meanwhile_runs_in_its_place() -> None:
    kernel, ran = Kernel(), list[str]()

    def first(_: object) -> None:
        ran.append("first")
        kernel.after(0, ran.append, "same time, urgent", priority=-5)
        kernel.after(0, ran.append, "same time, behind those that were asked for")
        kernel.after(1, ran.append, "next")

    kernel.at(3, first)
    kernel.at(3, ran.append, "asked for before")
    kernel.run()
    assert ran == [
        "first",
        "same time, urgent",
        "asked for before",
        "same time, behind those that were asked for",
        "next",
    ]


def test_the_past_is_refused_and_nothing_is_left_of_the_attempt() -> None:
    kernel = Kernel()
    kernel.at(5, lambda _: None)
    kernel.run()
    with pytest.raises(ValueError, match="cannot schedule at 4: the clock is at 5"):
        kernel.at(4, lambda _: None)
    with pytest.raises(ValueError, match="cannot schedule at 3"):
        kernel.after(-2, lambda _: None)
    assert kernel.pending == 0
    kernel.at(5, lambda _: None)
    assert kernel.pending == 1


def test_a_cancelled_event_does_not_run_and_does_not_move_the_clock() -> None:
    kernel, ran = Kernel(), list[str]()
    kept = kernel.at(1, ran.append, "kept")
    gone = kernel.at(9, ran.append, "gone")
    assert (kernel.pending, kernel.peek()) == (2, 1)
    kernel.cancel(gone)
    kernel.cancel(gone)
    assert (kernel.pending, kernel.peek()) == (1, 1)
    kernel.run()
    kernel.cancel(kept)
    assert (ran, kernel.now, kernel.pending, kernel.peek()) == (["kept"], 1, 0, None)


def test_an_event_may_cancel_another_of_the_same_time() -> None:
    kernel, ran = Kernel(), list[str]()
    victim: list[Event] = []
    kernel.at(1, lambda _: kernel.cancel(victim[0]))
    victim.append(kernel.at(1, ran.append, "victim"))
    kernel.at(1, ran.append, "bystander")
    kernel.run()
    assert ran == ["bystander"]


def test_step_runs_one_event_and_says_whether_there_was_one() -> None:
    kernel, ran = Kernel(), list[int]()
    kernel.cancel(kernel.at(0, ran.append, 0))
    kernel.at(1, ran.append, 1)
    kernel.at(1, ran.append, 2)
    assert kernel.step()
    assert ran == [1]
    assert kernel.step()
    assert not kernel.step()
    assert ran == [1, 2]


def test_run_until_includes_its_border_and_takes_the_clock_there() -> None:
    kernel, ran = Kernel(), list[int]()
    for time in (1, 4, 4, 5):
        kernel.at(time, ran.append, time)
    kernel.run(until=4)
    assert (ran, kernel.now, kernel.pending) == ([1, 4, 4], 4, 1)
    kernel.run(until=2)
    assert kernel.now == 4, "the clock never goes back"
    kernel.run(until=20)
    assert (ran, kernel.now) == ([1, 4, 4, 5], 20)


@given(EVENTS, st.data())
def test_any_set_of_events_runs_as_a_sorted_list_would(
    events: list[tuple[int, int]], data: st.DataObject
) -> None:
    kernel, ran = Kernel(), list[tuple[int, int, int]]()
    cancelled = data.draw(st.sets(st.integers(0, len(events) - 1))) if events else set()
    asked = []
    for number, (time, priority) in enumerate(events):
        key = (time, priority, number)
        asked.append(kernel.at(time, ran.append, key, priority))
    for number in cancelled:
        kernel.cancel(asked[number])
    expected = sorted((t, p, i) for i, (t, p) in enumerate(events) if i not in cancelled)
    until = data.draw(TIMES)
    kernel.run(until=until)
    assert ran == [key for key in expected if key[0] <= until]
    assert kernel.peek() == next((key[0] for key in expected if key[0] > until), None)
    kernel.run()
    assert ran == expected
    assert kernel.pending == 0


@given(EVENTS, st.lists(st.tuples(st.integers(0, 3), PRIORITIES), max_size=40))
def test_events_that_ask_for_events_keep_the_order_and_the_clock_never_goes_back(
    roots: list[tuple[int, int]], offspring: list[tuple[int, int]]
) -> None:
    """Checked against a plain list that is sorted anew before every event."""

    def through_the_kernel() -> list[tuple[int, int]]:
        kernel, left, ran = Kernel(), list(offspring), list[tuple[int, int]]()

        def action(name: int) -> None:
            ran.append((kernel.now, name))
            if left:
                delay, priority = left.pop()
                kernel.after(delay, action, 1000 + len(left), priority)

        for name, (time, priority) in enumerate(roots):
            kernel.at(time, action, name, priority)
        kernel.run()
        return ran

    def through_a_list() -> list[tuple[int, int]]:
        left, ran = list(offspring), list[tuple[int, int]]()
        agenda = [(time, priority, name, name) for name, (time, priority) in enumerate(roots)]
        asked = len(agenda)
        while agenda:
            agenda.sort()
            now, _, _, name = agenda.pop(0)
            ran.append((now, name))
            if left:
                delay, priority = left.pop()
                agenda.append((now + delay, priority, asked, 1000 + len(left)))
                asked += 1
        return ran

    ran = through_the_kernel()
    assert ran == through_a_list()
    assert [time for time, _ in ran] == sorted(time for time, _ in ran)


def test_ticks_last_as_long_as_anything_else_is_pending() -> None:
    kernel, ran = Kernel(), list[tuple[str, int]]()
    kernel.every(3, lambda: ran.append(("a", kernel.now)))
    kernel.every(2, lambda: ran.append(("b", kernel.now)))
    kernel.at(7, lambda _: kernel.cancel(kernel.at(50, ran.append, ("never", 50))))
    kernel.cancel(kernel.at(60, ran.append, ("never", 60)))
    kernel.run()
    assert ran == [("b", 2), ("a", 3), ("b", 4), ("a", 6), ("b", 6)]
    assert kernel.now == 7
    assert not kernel.step()


def test_ticks_go_on_while_they_are_wanted() -> None:
    kernel, ran = Kernel(), list[int]()
    kernel.every(2, lambda: ran.append(kernel.now), wanted=lambda: kernel.now < 7)
    kernel.run()
    assert ran == [2, 4, 6, 8]


def test_a_tick_can_see_whether_anything_else_is_pending() -> None:
    kernel, seen = Kernel(), list[bool]()
    kernel.every(3, lambda: None, wanted=lambda: kernel.now < 6)
    kernel.every(2, lambda: seen.append(kernel.idle))
    kernel.at(3, lambda _: None)
    kernel.run()
    assert seen == [False, True]

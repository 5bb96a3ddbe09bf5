"""Timers of a run: called in time, and nothing is kept of those that were taken back."""

from __future__ import annotations

import gc
import weakref

from flowdeck.engine.running.run_process.timers import Timers


class Thing:
    """Something that a callback holds."""

    def call(self) -> None:
        """Nothing."""


def test_what_is_taken_back_is_not_kept() -> None:
    """A timer for an hour that is not needed any more holds neither its callback nor room, however many there were."""
    timers = Timers(lambda: None)
    things = [Thing() for _ in range(10_000)]
    seen = weakref.WeakSet(things)
    kept = [timers.after(3600, things[0].call) for _ in range(3)]
    for thing in things[1:]:
        timers.after(3600, thing.call).cancel()
    del things, thing
    gc.collect()
    assert len(seen) == 1
    assert timers.pending < 200
    for timer in kept:
        timer.cancel()
        timer.cancel()  # again: nothing
    assert timers.take_due() == []


def test_due_ones_come_in_order_but_for_those_taken_back() -> None:
    """The earliest first; one that was called cannot be taken back."""
    timers, called = Timers(lambda: None), []
    given = [timers.after(seconds, lambda n=n: called.append(n)) for n, seconds in enumerate([0, -1, -2, 3600])]
    given[1].cancel()
    for callback in timers.take_due():
        callback()
    given[0].cancel()
    assert called == [2, 0]
    assert timers.pending == 1


def test_only_one_that_comes_before_the_next_tick_wakes_the_watcher() -> None:
    """A timeout of each task must not wake a thread each time."""
    woken = []
    timers = Timers(lambda: woken.append(1))
    timers.after(60, lambda: None)
    assert not woken
    timers.after(0.001, lambda: None)
    assert woken

"""Limits of flows, kept by the daemon; the slots of runs that die; ``Control`` on limits."""

from __future__ import annotations

import os
import signal

import pytest
from flowdeck import flow
from flowdeck.engine.control.control import Control
from flowdeck.engine.errors import NotAllowed, NotFound, UsageError
from flowdeck.store.tables import limits

ONE_AT_A_TIME = """
    @flow(concurrency_limit=1{options})
    def one(name="x"):
        effect(f"{{name}} begins")
        wait_for(f"go-{{name}}")
        effect(f"{{name}} ends")
"""


def test_runs_above_the_limit_wait_in_line_and_say_where(box):
    """ENQUEUE is the default: AwaitingSlot with the place and the holder, then one after the other."""
    box.write("one.py", ONE_AT_A_TIME.format(options=""))
    box.daemon()
    first, second, third = (box.submit("one", name=name) for name in "abc")
    box.wait_state(second, "AwaitingSlot")
    row = box.wait_state(third, "AwaitingSlot")
    assert row.state_type == "SCHEDULED"
    assert row.cause == f"waiting for slot flow:one, position 2, held by #{first}"
    box.wait_effects("a begins")
    assert box.effects() == ["a begins"]
    box.touch("go-a")
    box.wait_effects("b begins")
    box.wait(lambda: box.reader.run(third).cause == f"waiting for slot flow:one, position 1, held by #{second}")
    box.touch("go-b")
    box.touch("go-c")
    box.wait_state(third, "Completed")
    assert box.effects() == ["a begins", "a ends", "b begins", "b ends", "c begins", "c ends"]


def test_cancel_new_cancels_with_words(box):
    """The run that comes too late is Cancelled and says which run has the slot."""
    box.write("one.py", ONE_AT_A_TIME.format(options=', collision_strategy="CANCEL_NEW"'))
    box.daemon()
    first = box.submit("one", name="a")
    box.wait_effects("a begins")
    second = box.submit("one", name="b")
    row = box.wait_state(second, "Cancelled")
    assert row.cause == (f"cancelled: the limit of 1 for one was reached (#{first})"
                         ", and its collision strategy is CANCEL_NEW")
    box.touch("go-a")
    box.wait_state(first, "Completed")
    box.touch("go-c")
    box.wait_state(box.submit("one", name="c"), "Completed")


def test_a_killed_run_frees_its_slot_and_goes_on_later(box):
    """The next run starts when the process is dead; the one that crashed waits for the slot like any other."""
    box.write("one.py", ONE_AT_A_TIME.format(options=""))
    box.daemon()
    first = box.submit("one", name="a")
    box.wait_effects("a begins")
    second = box.submit("one", name="b")
    box.wait_state(second, "AwaitingSlot")
    os.killpg(box.reader.lease_of(first).pid, signal.SIGKILL)
    box.wait_effects("b begins")
    box.touch("go-b")
    box.touch("go-a")
    box.wait_state(second, "Completed")
    box.wait_state(first, "Completed")
    assert box.effects()[-2:] == ["a begins", "a ends"]


def test_a_limit_set_by_a_person_goes_before_and_acts_at_once(box):
    """``flow:NAME`` raises, shuts and pauses what the flow's own option says."""
    box.write("one.py", ONE_AT_A_TIME.format(options=""))
    box.daemon()
    first, second = box.submit("one", name="a"), box.submit("one", name="b")
    box.wait_state(second, "AwaitingSlot")
    box.control.set_limit("flow:one", 2)
    box.wait_effects("a begins", "b begins")
    box.control.set_limit("flow:one", 0)
    third = box.submit("one", name="c")
    box.wait_state(third, "AwaitingSlot")
    box.control.pause_limit("flow:one")
    box.wait_effects("c begins")
    for name in "abc":
        box.touch(f"go-{name}")
    for run_id in (first, second, third):
        box.wait_state(run_id, "Completed")


def test_scheduled_runs_keep_the_limit_and_scripts_count(box):
    """Ticks with overlap="allow" wait for the slot; a script starts at once, and takes it."""
    path = box.write("one.py", """
        @flow(concurrency_limit=1, schedule=Interval(0.3, overlap="allow"))
        def one():
            effect(f"in {os.getpid()}")
            wait_for("go")
        if __name__ == "__main__":
            one()
    """)
    box.script(path)
    box.wait(lambda: len(box.effects()) == 1)
    box.daemon()
    box.wait(lambda: sum(run.state_name == "AwaitingSlot" for run in box.reader.runs()) >= 2)
    assert len(box.effects()) == 1
    box.touch("go")
    box.wait(lambda: sum(run.state_name == "Completed" for run in box.reader.runs()) >= 3)


def test_other_flows_are_not_held_up(box):
    """A long line before one flow costs the others nothing."""
    box.write("one.py", ONE_AT_A_TIME.format(options=""))
    box.write("free.py", """
        @flow
        def free():
            effect("free")
    """)
    box.daemon()
    for name in "abcdef":
        box.submit("one", name=name)
    box.wait_effects("a begins")
    box.wait_state(box.submit("free"), "Completed")
    for name in "abcdef":
        box.touch(f"go-{name}")


def test_the_slots_of_a_run_that_dies_come_free_with_its_death(box):
    """The daemon gives them on: the next run's task has them although its own process cannot see the dead one."""
    box.write("slots.py", """
        from flowdeck import concurrency
        @flow
        def holder(name="x"):
            with concurrency("db"):
                effect(f"{name} in")
                wait_for(f"go-{name}")
    """)
    box.control.set_limit("db", 1)
    box.daemon()
    first = box.submit("holder", name="a")
    box.wait_effects("a in")
    box.wait(lambda: box.update(lambda conn: limits.queue(conn, "db").holders))
    os.killpg(box.reader.lease_of(first).pid, signal.SIGKILL)
    box.wait(lambda: not box.update(lambda conn: limits.queue(conn, "db").holders))
    box.touch("go-a")
    box.touch("go-b")
    box.wait_state(box.submit("holder", name="b"), "Completed")


def test_options_that_make_no_sense_are_refused():
    """At the decorator, in words."""
    with pytest.raises(UsageError, match="whole number from 1, not 0"):
        flow(concurrency_limit=0)(lambda: None)
    with pytest.raises(UsageError, match="'ENQUEUE' or 'CANCEL_NEW', not 'wait'"):
        flow(concurrency_limit=1, collision_strategy="wait")(lambda: None)
    with pytest.raises(UsageError, match="needs a concurrency_limit"):
        flow(collision_strategy="ENQUEUE")(lambda: None)


def test_control_on_limits(store, reader):
    """Set, pause, resume, remove; each with an event naming who did it; read-only refuses."""
    control = Control(store, actor="tester@here via test")
    control.set_limit("db", 3, 0.5)
    control.pause_limit("db")
    assert not control.limit("db").active
    control.resume_limit("db")
    assert control.limit("db")[:4] == ("db", 3, 0.5, True)
    control.remove_limit("db")
    with pytest.raises(NotFound, match="no limit 'db'"):
        control.limit("db")
    for slots, decay in ((-1, None), (True, None), (1, 0), (1, float("inf"))):
        with pytest.raises(UsageError):
            control.set_limit("db", slots, decay)
    control.close()
    said = [(event.kind, event.actor, event.message) for event in reader.events()]
    assert said == [("limit", "tester@here via test", text) for text in (
        "limit db: 3 slots, 0.5 a second come back", "limit db: 3 slots, 0.5 a second come back, paused",
        "limit db: 3 slots, 0.5 a second come back", "limit db removed")]
    refused = Control(store, actor="x", read_only=True)
    with pytest.raises(NotAllowed):
        refused.set_limit("db", 1)
    refused.close()

"""Whoever comes late to a death does nothing to what lives since: neither to processes nor to output nor to records."""

from __future__ import annotations

import os
import signal
from contextlib import closing

from flowdeck.engine.control import reaping
from flowdeck.engine.states import exits
from flowdeck.engine.system.clock import now_us
from flowdeck.store import judging
from flowdeck.store.connection import connect


def test_who_settles_a_death_late_leaves_the_next_attempt_alone(box):
    """Its child processes live on, what it writes is stored, and the record of how it ended stays."""
    box.write("long.py", """
        import logging
        @flow
        def long():
            logging.getLogger().warning("before")
            child = subprocess.Popen(["sleep", "600"])
            effect(f"child {child.pid}")
            wait_for("go")
            logging.getLogger().warning("after")
            effect(f"ended {child.poll()}")
            child.kill()
    """)
    box.daemon()
    run_id = box.submit("long")
    box.wait(lambda: len(box.effects()) == 1)
    first = box.reader.lease_of(run_id)
    os.kill(first.pid, signal.SIGKILL)
    box.wait(lambda: len(box.effects()) == 2)
    second = box.reader.lease_of(run_id)
    assert second.pid != first.pid
    exits.write_exit(str(box.folder), 2, exits.from_wait_status(
        run_id, second.pid, 9, max_rss_bytes=None, out_of_memory=False, ended_at_us=1))
    with closing(connect(box.folder, "state")) as state, closing(connect(box.folder, "telemetry")) as telemetry:
        assert reaping.reap(state, telemetry, str(box.folder), first, now_us()) is None
    assert exits.read_exit(str(box.folder), run_id, second.pid) is not None
    assert judging.process_identity(int(box.effects()[1].split()[1])) is not None
    box.touch("go")
    box.wait_state(run_id, "Completed")
    assert box.effects()[-1] == "ended None"
    box.wait(lambda: "after" in [line.message for line in box.reader.logs(run_id)])


def test_records_of_later_attempts_are_not_forgotten(tmp_path):
    """What is done with are the attempts so far."""
    for attempt in (1, 2, 3):
        exits.write_exit(str(tmp_path), attempt, exits.from_wait_status(
            7, 100 + attempt, 9, max_rss_bytes=None, out_of_memory=False, ended_at_us=1))
    (tmp_path / "spool" / "7.torn.exit").write_text("{}")
    exits.forget_exits(str(tmp_path), 7, 2)
    assert exits.read_exit(str(tmp_path), 7, 102) is None
    assert exits.read_exit(str(tmp_path), 7, 103) is not None

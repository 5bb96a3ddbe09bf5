"""Runs that another run had a deployment make (``run_deployment``): whose they are, and that they end with who waits.

Such a run has a process and a root of its own; its row names the run that asked for it and, as long as that waits for
it, the place where (``parent_seq``: a task's number, 0 for the flow's own code). Who waits and is cancelled takes it
along, in the transaction of the request, so that it holds whatever becomes of the process of the one that waits.
"""

from __future__ import annotations

from pathlib import Path

from ...store.connection import Connection
from ...store.tables import leases, runs, supervision
from ..states.allowed import allowed
from ..states.transitions import move_run
from ..system.clock import now_us
from .answering import cancel_parts

ACTOR = "engine"


def begin(conn: Connection, run_id: int, parent_run_id: int, seq: int | None, folder: Path) -> None:
    """This run was asked for by a run, which waits at ``seq`` (None: it does not), or was told to end meanwhile."""
    runs.set_parent(conn, run_id, parent_run_id, seq)
    parent = runs.get(conn, parent_run_id)
    root = runs.get(conn, parent.root_id) if parent is not None and parent.root_id is not None else parent
    if seq is not None and root is not None and (
        root.intent == "cancel" or root.state_type in ("CANCELLING", "CANCELLED")
    ):
        end(conn, run_id, _with(root.id), folder)


def let_go(conn: Connection, run_id: int, parent_run_id: int) -> None:
    """Nobody waits for it any more: it goes on by itself."""
    runs.set_parent(conn, run_id, parent_run_id, None)


def end_all(conn: Connection, run_id: int, at_once: bool, folder: Path) -> None:
    """What this run and the subflows in its process wait for ends, too, and what that waits for."""
    for part in (run_id, *(child.id for child in runs.of_root(conn, run_id))):
        for child in runs.asked_for(conn, part):
            if child.parent_seq is not None and allowed("cancel", child.state_type, child.state_name):
                end(conn, child.id, _with(run_id), folder, at_once=at_once)


def _with(run_id: int) -> str:
    return f"cancelled with run #{run_id}, which waits for it"


def end(conn: Connection, run_id: int, why: str, folder: Path, *, at_once: bool = False) -> None:
    """End one of them, for this reason, as ``asking.cancel`` does."""
    run = runs.get(conn, run_id)
    if run is None or not allowed("cancel", run.state_type, run.state_name):
        return
    at_us = now_us()
    lease = leases.of_run(conn, run_id)
    if lease is None or leases.judge(lease, folder).is_gone or (lease.attempt or run.attempt) < run.attempt:
        cancel_parts(conn, run, at_us, ACTOR)
        move_run(conn, run, "cancel", at_us=at_us, actor=ACTOR, cause=why, intent="none")
    else:
        if at_once:
            runs.set_intent(conn, run_id, "cancel", at_us=at_us, actor=ACTOR, message=supervision.AT_ONCE)
        runs.set_intent(conn, run_id, "cancel", at_us=at_us, actor=ACTOR, message=why)
    end_all(conn, run_id, at_once, folder)

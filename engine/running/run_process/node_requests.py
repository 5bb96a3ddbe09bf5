"""Requests to parts of a running tree: what was told to end or decided, and how its code hears of it.

Requests to nodes are events of the root run (``store.tables.nodes``). The session's background thread brings new ones
here; the process of a later attempt first reads all since the last retry, so that a request made while nothing of the
run lived is honoured. What was told to end stays so until somebody retries it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ....store.connection import Connection
from ....store.tables import nodes
from ....store.tables.nodes import Node
from ...settings import cancel_grace_seconds
from ...states.asked import done_by
from ...states.state import Cancelled
from ..calls.task_call import TaskCall

if TYPE_CHECKING:
    from ...control.decisions import Decision
    from ..calls.flow_run import FlowRun
    from ..effects.host import Owner, Subject
    from .session import Session


class CancelledNodes:
    """The nodes of one run tree that were told to end, each with who asked. Written by one thread, read by all."""

    def __init__(self) -> None:
        self._runs: dict[int, str] = {}
        self._tasks: dict[tuple[int, int | None], str] = {}
        self._groups: dict[tuple[int, int, str, int], str] = {}

    def add(self, node: Node, reason: str) -> None:
        """This node is to end."""
        if node.seq is not None:
            self._tasks[node.run_id, node.seq] = reason
        elif node.key is not None and node.scope_seq is not None and node.map_group is not None:
            self._groups[node.run_id, node.scope_seq, node.key, node.map_group] = reason
        else:
            self._runs[node.run_id] = reason

    def reason(self, subject: Subject) -> str | None:
        """Why a call or a run is to end: it, what called it, or a run around it was told to; None when none was."""
        return self._of_run(subject.run) if subject.seq is None else self._of_call(subject)

    def _of_call(self, call: Subject) -> str | None:
        run = call.run
        found = self._tasks.get((run.id, call.seq))
        if found is None and isinstance(call, TaskCall) and call.map_group is not None:
            found = self._groups.get((run.id, call.scope_seq, call.key, call.map_group))
            if found is not None:
                # What it calls knows it by its number alone.
                self._tasks[run.id, call.seq] = found
        scope = call.scope_seq
        while found is None and scope:
            found = self._tasks.get((run.id, scope))
            scope = run.callers.get(scope, 0)
        return found if found is not None else self._of_run(run)

    def _of_run(self, run: FlowRun) -> str | None:
        found = self._runs.get(run.id)
        return found if found is not None or run.parent is None else self._of_call(run.parent)

    def check(self, subject: Owner) -> None:
        """Raise Cancelled in what was told to end."""
        reason = self.reason(subject)
        if reason is not None:
            subject.tell_to_end(reason)
            raise Cancelled(reason)


class NodeRequests:
    """What was asked of the nodes of one root run: read, remembered, and made known to the code that it is about."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._cursor = 0
        self.told: CancelledNodes | None = None
        """What of the tree was told to end by itself; None until something was."""
        self.decided: dict[tuple[int, int], Decision] = {}
        """What a person decided for calls that wait for one, by run and seq."""
        self.waiting: dict[Owner, Callable[[], None]] = {}
        """Calls and runs that wait in the engine for a time or the gate, and what wakes them."""

    def is_told_to_end(self, subject: Subject | None) -> bool:
        """Whether this call or run, or one around it, was cancelled by itself."""
        told = self.told
        return told is not None and subject is not None and told.reason(subject) is not None

    def has_word_for(self, subject: Owner | None) -> bool:
        """Whether what waits need not wait on: it is to end, or waits for a person and its end was decided."""
        if subject is None:
            return False
        if self.is_told_to_end(subject):
            return True
        return bool(self.decided) and subject.state_type == "PAUSED" and (subject.run.id, subject.seq) in self.decided

    def check(self, subject: Owner | None) -> None:
        """Raise Cancelled in a call or run that was told to end."""
        if self.told is not None and subject is not None:
            self.told.check(subject)

    def recall(self, connection: Connection) -> None:
        """Before code of a later attempt runs: what was asked since the last retry still holds."""
        self._cursor = nodes.last_retry(connection, self._session.root_id)
        for node, word in self._new(connection):
            self._take(node, word)

    def look(self, connection: Connection) -> None:
        """On the background thread, after the store changed."""
        asked = list(self._new(connection))
        if not asked or self._session.root is None:
            return
        for node, word in asked:
            self._take(node, word)
        if self.told is not None and any(isinstance(word, str) for _, word in asked):
            self._end(self.told)
        for subject, wake in list(self.waiting.items()):
            if self.has_word_for(subject):
                wake()

    def _new(self, connection: Connection) -> Iterator[tuple[Node, str | Decision]]:
        """Nodes with why they are to end, or with what was decided for them."""
        for event_id, actor, data in nodes.requests(connection, self._session.root_id, self._cursor):
            self._cursor = event_id
            asked = json.loads(data)
            for value in asked.get("cancel", ()):
                yield nodes.from_json(value), done_by("cancel", actor)
            for value in asked.get("set", ()):
                from ...control.decisions import Decision

                yield nodes.from_json(value), Decision(asked["state"], json.loads(asked["result"]), actor)

    def _take(self, node: Node, word: str | Decision) -> None:
        if isinstance(word, str):
            if self.told is None:
                self.told = CancelledNodes()
            self.told.add(node, word)
        elif node.seq is not None:
            self.decided[node.run_id, node.seq] = word

    def _end(self, told: CancelledNodes) -> None:
        """Interrupt what runs, settle what waits, wake what sleeps; what does not listen is left after the grace."""
        session = self._session
        fresh = [run for run in list(session.live_runs.values()) if run.told_to_end is None and told.reason(run)]
        for run in fresh:
            reason = str(told.reason(run))
            run.tell_to_end(reason)
            session.requests.move_run(run, ("RUNNING", "PAUSED", "PENDING"), "begin_cancel", reason)
        interrupted = []
        for slot, owner in session.activations.running():
            if owner in fresh or (owner.told_to_end is None and told.reason(owner) is not None):
                reason = str(told.reason(owner))
                owner.tell_to_end(reason)
                slot.interrupt(Cancelled(reason))
                interrupted.append(owner)
        session.pool.end_waiting(told.reason)
        if interrupted:
            session.timers.after(cancel_grace_seconds(), lambda: self._leave_behind(interrupted))

    def _leave_behind(self, owners: list[Owner]) -> None:
        """Code that still has not ended: calls are recorded and what they return is dropped; runs are waited for."""
        session, seconds = self._session, cancel_grace_seconds()
        running = {id(owner) for _, owner in session.activations.running()}
        for owner in (owner for owner in owners if id(owner) in running):
            if not isinstance(owner, TaskCall):
                text = f"#{owner.run.id} was told to end {seconds:g} s ago; its code still runs"
                session.log.run(owner.run, 30, text)
                continue
            cause = f"{owner.told_to_end}; its code did not end within {seconds:g} s and what it returns is dropped"
            owner.left_behind = cause
            session.log.task(owner, 30, f"{owner.name} {cause}")
            session.pool.leave_behind(owner, cause)

"""One run of a flow in this process: its journal, its numbering of calls, and its state as the store has it.

The flow function runs again on retry, resume or crash recovery; finished calls then return what the journal holds.
What happens when is decided by the steps (``lifecycle.flow_steps``); nothing here runs user code.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ....store.tables import results, runs, tasks
from ...authoring.task_runners import place_of
from ...context import current_tags
from ...encoding.fingerprint import Inputs, fingerprint
from ...states.machine import next_run_state
from ...states.state import Cancelled, State, describe_exception
from ...states.transitions import record_run_move
from ...system.clock import now_us
from .journal import Journal, Recorded
from .outstanding import Outstanding
from .replay import again

if TYPE_CHECKING:
    from ....store.connection import Connection
    from ....store.rows import TaskRow
    from ...authoring.flows import Flow
    from ...authoring.task_runners import ProcessPoolTaskRunner
    from ..run_process.session import Session
    from .subflow_call import SubflowCall
    from .task_call import TaskCall

_RECORDED_SECONDS = 0.25
"""How long a run's code waits for the record that it begins."""
RESULT_SEQ = 0
"""Where a run keeps its own result among its journalled results."""


class FlowRun:
    """A flow run this process owns."""

    def __init__(
        self,
        session: Session,
        flow: Flow[Any, Any],
        run_id: int,
        attempt: int,
        parameters: dict[str, Any],
        *,
        state: tuple[str, str],
        parent: SubflowCall | None = None,
    ) -> None:
        self.session = session
        self.flow = flow
        self.id = run_id
        self.attempt = attempt
        self.parameters = parameters
        self.parent = parent
        self.attempt_began_at_us = now_us()
        self.is_recovered = False
        """Whether what a process that is gone had begun to roll back was looked for."""
        self.name = f"{flow.name}-{run_id}"
        self.lineage = session.lineage
        self.interruption: BaseException | None = None
        self.is_partial = False
        """Its body yielded to a caller who stopped early: what it yielded is no result."""
        self.stop_reason: str | None = parent.run.stop_reason if parent is not None else None
        """Why nothing of this run begins any more, although its process goes on: a flow around it timed out, or it
        was cancelled by itself."""
        self.told_to_end: str | None = None
        """Who cancelled it, or what it is part of, by itself."""
        self.wake_at_us: int | None = None
        """When its first attempt in this process begins: it had waited for it when its parent was interrupted."""
        self.callers: dict[int, int] = {}
        """Of tasks that call others and were called by one themselves: which one."""
        self.timeout_seconds = flow.timeout_seconds
        runner = flow.task_runner
        self.process_runner: ProcessPoolTaskRunner | None = place_of(runner).processes if runner is not None else None
        """Whose worker processes run what is submitted; a flow that names no runner has its caller's."""
        if runner is None and parent is not None:
            self.process_runner = parent.run.process_runner
        self.state_type, self.state_name = state
        self.outstanding = Outstanding()
        self.retries_made: int | None = 0 if attempt == 1 else None
        """Retries of the present set, also of earlier processes; None when the store has not been asked yet."""
        self.decided: State | None = None
        """How it ends without its code having begun."""
        self.parameter_problem: str | None = None
        """Why the stored parameters cannot be given to the flow; the run then fails with these words."""
        self.state_lock = threading.RLock()
        """Held from a change of state until its write is queued, so that both have the same order."""
        self._lock = threading.Lock()
        self._journal: Journal | None = None
        self._call_counts: dict[int, dict[str, int]] = {}
        self._seqs = itertools.count(1)
        self._begun = time.monotonic()

    # -- identity ------------------------------------------------------------------------------------------------

    @property
    def run(self) -> FlowRun:
        """Itself: what a call says of the run it belongs to."""
        return self

    @property
    def seq(self) -> None:
        """A run has none; calls have one."""
        return None

    @property
    def scope_seq(self) -> int:
        """No task of it called it."""
        return 0

    def load_journal(self) -> None:
        """Read what earlier attempts recorded; call before user code of a later attempt runs."""
        journal = Journal(self.session, self.id)
        highest = journal.load()
        with self._lock:
            self._journal = journal
            self._call_counts.clear()
            self._seqs = itertools.count(highest + 1)

    def next_call_index(self, scope_seq: int, key: str) -> int:
        """How many calls of ``key`` this scope made before this one."""
        with self._lock:
            counts = self._call_counts.setdefault(scope_seq, {})
            count = counts.get(key, 0)
            counts[key] = count + 1
            return count

    @property
    def has_journal(self) -> bool:
        """Whether calls were recorded before this attempt."""
        return self._journal is not None and not self._journal.is_empty

    def has_scope(self, seq: int) -> bool:
        """Whether an earlier attempt of this task, in this process, called tasks itself."""
        return seq in self._call_counts

    def calls_made(self, seq: int) -> dict[str, int]:
        """How many calls of each key a task has made."""
        with self._lock:
            return dict(self._call_counts.get(seq, {}))

    def reopen_scope(self, seq: int, counts: dict[str, int] | None = None) -> None:
        """A task is tried again: its calls count anew (or on from ``counts``), and find what was recorded before."""
        with self._lock:
            journal = self._journal = self._journal or Journal(self.session, self.id)
        journal.reopen(seq)
        with self._lock:
            self._call_counts.pop(seq, None)
            if counts:
                self._call_counts[seq] = dict(counts)

    def place_of(self, scope_seq: int, key: str, call_index: int) -> tuple[int, bool]:
        """The number of a call, and whether an earlier attempt may have made it: then ``settle`` makes it final."""
        journal = self._journal
        if journal is None or not journal.has_calls(scope_seq, key):
            return next(self._seqs), False
        return journal.seq(scope_seq, key, call_index) or next(self._seqs), True

    def journalled(self, call: TaskCall | SubflowCall) -> TaskRow | None:
        """What earlier attempts recorded of this call."""
        recorded = self.recorded(call)
        return recorded.row if recorded is not None else None

    def recorded(self, call: TaskCall | SubflowCall) -> Recorded | None:
        """As ``journalled``, with its result if that stands in its row."""
        return self._journal.get(call.seq) if self._journal is not None and call.is_replay else None

    def settle(self, call: TaskCall | SubflowCall, values: dict[str, Any]) -> Recorded | None:
        """Its inputs are known: so is which recorded call it is, if it is one; once and for all.

        Returns what is recorded of it, when it is found here.
        """
        if call.inputs_hash is not None:
            return None
        if call.has_waited and self._journal is not None:
            call.note_upstream()  # it waited for calls whose numbers were not final
        receiver = self.lineage.receiver(call.fn)
        if not call.is_replay and receiver is None:
            call.inputs_hash = fingerprint(values, self.lineage.name_of)
            return None
        inputs = Inputs(values, self.lineage.names(), receiver)
        call.inputs_hash = inputs.text
        if not call.is_replay:
            return None
        recorded = self._take(call, inputs)
        if recorded is not None and (before := recorded.row.inputs_hash) is not None and inputs.may_be(before):
            call.inputs_hash = before
        return recorded

    def settle_by_place(self, call: TaskCall) -> None:
        """Its inputs will not be known: which recorded call it is, its place says."""
        if call.is_replay and call.inputs_hash is None and not call.is_placed:
            self._take(call, None)

    def _take(self, call: TaskCall | SubflowCall, inputs: Inputs | None) -> Recorded | None:
        """Have the call be the recorded one that it is, or a new one."""
        journal = self._journal
        assert journal is not None  # it made the call a replay
        scope_seq, key, index = call.scope_seq, call.key, call.call_index
        found = journal.take(
            scope_seq, key, index, inputs, may_become=call.may_become,
            new_seq=lambda: call.seq if journal.seq(scope_seq, key, index) is None else next(self._seqs),
        )  # fmt: skip
        call.be_placed(found)
        if found.came_from is not None:
            attempt = self.attempt
            self.session.writer.soon(
                lambda conn: tasks.move_scope(conn, self.id, found.seq, scope_seq, found.call_index, attempt)
            )
        before = found.before.row if found.before is not None else None
        if before is not None and before.state_type == "COMPLETED" and inputs is not None:
            self._say_changed(call, before, inputs.text)
        return found.recorded

    def _say_changed(self, call: TaskCall | SubflowCall, before: TaskRow, inputs_hash: str) -> None:
        """A finished call of other inputs stands where this one is made: say what changed, and record it."""
        why, level = again(before, inputs_hash, None)
        if why is None:
            return
        self.session.log.task(call, level, f"{call.name} runs again: {why}")
        row = call.begun_anew(why)
        if row is not None:
            self.session.writer.soon(lambda conn: tasks.begin(conn, row, now_us(), "engine", why))

    def recall_at_once(self, call: TaskCall, found: Recorded | None) -> State | None:
        """As ``recall`` where the recorded outcome counts; else None, and nothing has been recorded or said."""
        recorded = found or self.recorded(call)
        if recorded is None or recorded.row.state_type != "COMPLETED":
            return None
        if again(recorded.row, call.inputs_hash, call.task.code_hash, keeps_result=call.task.persist_result)[0]:
            return None
        state = self._stored_state(call, recorded)
        return state if isinstance(state, State) else None

    def recall(self, call: TaskCall) -> State | None:
        """The journalled outcome of a finished call; None when it has to run (the log then says why)."""
        recorded = self.recorded(call)
        if recorded is None:
            return None
        row = recorded.row
        if row.state_type == "CANCELLED" and self.session.nodes.is_told_to_end(call):
            text = row.cause or "cancelled"
            return State("CANCELLED", None, text, error=Cancelled(f"task {call.name} ({call.reference}): {text}"))
        decision = self.session.nodes.decided.get((self.id, call.seq)) if self.session.nodes.decided else None
        if decision is not None and row.state_type != "COMPLETED":
            self.session.writer.soon(lambda conn: decision.write(conn, row, self.attempt))
            return decision.state()
        why, level = again(row, call.inputs_hash, call.task.code_hash, keeps_result=call.task.persist_result)
        if why is None:
            state = self._stored_state(call, recorded)
            if isinstance(state, State):
                return state
            why, level = state, 30
        if level:
            self.session.log.task(call, level, f"{call.name} runs again: {why}")
        self._run_again(call, recorded, why)
        return None

    def forget(self, call: TaskCall) -> None:
        """A call that an earlier attempt recorded cannot begin in this one: its record is begun anew all the same."""
        self.settle_by_place(call)
        recorded = self.recorded(call)
        if recorded is not None:
            self._run_again(call, recorded, "its upstream did not complete this time")

    def recall_subflow(self, call: SubflowCall) -> State | None:
        """As ``recall``, for a flow called within this run."""
        recorded = self.recorded(call)
        if recorded is None:
            return None
        why, level = again(recorded.row, call.inputs_hash, call.code_hash)
        if why is None:
            state = self._stored_state(call, recorded)
            if isinstance(state, State):
                return state
            why, level = state, 30
        call.why_again = why
        if level:
            self.session.log.task(call, level, f"{call.name} runs again: {why}")
        return None

    def _stored_state(self, call: TaskCall | SubflowCall, recorded: Recorded) -> State | str:
        """The recorded outcome, or why it cannot be used. It was committed before this attempt began."""
        stored = recorded.result or self.session.peek(lambda conn: results.get(conn, self.id, call.seq))
        if stored is None or stored.codec == "none":
            return "its result could not be journalled"
        try:
            value = self.session.results.value(stored)
        except Exception as error:  # noqa: BLE001 - a user class that no longer unpickles
            return f"its recorded result cannot be read: {describe_exception(error)}"
        self.lineage.track(value, (self.id, call.seq))
        return State("COMPLETED", recorded.row.state_name, recorded.row.cause, data=value)

    def _run_again(self, call: TaskCall, recorded: Recorded, why: str) -> None:
        """Record that an earlier attempt's call is made anew, and why."""
        at_us, attempt, row = now_us(), self.attempt, recorded.row
        if self._journal is not None:
            self._journal.keep(recorded)
        call.go_on_from(row)
        pending = call.row()._replace(attempt=row.attempt, run_attempt=attempt)
        from_ = (row.state_type, row.state_name)
        if from_ == ("PENDING", "Pending") and row.run_attempt == attempt:
            return  # a retry has said so already
        self.session.writer.soon(lambda conn: tasks.begin(conn, pending, at_us, "engine", why, from_=from_))

    # -- records -------------------------------------------------------------------------------------------------

    def transition(
        self, event: str, *, cause: str | None = None, actor: str = "engine", **more: Any
    ) -> Callable[[Connection], None]:
        """Move by the table and return the write that records it, guarded by state and attempt."""
        before = self.state_type
        target = next_run_state(self.state_type, event)
        self.state_type, self.state_name = target
        run_id, attempt, at_us = self.id, self.attempt, now_us()
        name = more.pop("name", None)
        to = (target.state_type, name or target.state_name)
        self.state_name = to[1]

        def write(conn: Connection) -> None:
            record_run_move(
                conn, run_id, attempt=attempt, from_type=before, to=to, at_us=at_us, actor=actor, cause=cause, **more
            )

        return write

    def start(self) -> None:
        """Say that the user's code begins; with the first attempt of this process only.

        A root run's code begins once that is recorded: it may be C code that lets no other thread record anything. A
        store that cannot be written at this moment keeps it for a moment only.
        """
        with self.state_lock:
            begins = self.state_type == "PENDING"
            if begins:
                again = self.attempt > 1 and self.session.read(lambda conn: runs.is_tried_again(conn, self.id))
                name = "Retrying" if again else None
                self.session.writer.soon(self.transition("start", started=True, name=name))
        if begins and self.is_root:
            self.session.writer.flush(_RECORDED_SECONDS)

    @property
    def duration_us(self) -> int:
        """Time since this process took the run."""
        return int((time.monotonic() - self._begun) * 1e6)

    def is_within(self, other: FlowRun) -> bool:
        """Whether this run is the other, or a subflow of it at any depth."""
        run: FlowRun = self
        while run is not other and run.parent is not None:
            run = run.parent.run
        return run is other

    def tell_to_end(self, reason: str) -> None:
        """It was cancelled by itself: remember why it ends; nothing of it begins any more."""
        self.told_to_end = reason
        self.stop_reason = self.stop_reason or reason

    def check_stopped(self) -> None:
        """Raise Cancelled when nothing of this run may begin any more."""
        if self.stop_reason is not None:
            raise Cancelled(self.stop_reason)

    @property
    def is_root(self) -> bool:
        """Whether the process belongs to this run."""
        return self.parent is None


def tags_of(flow: Flow[Any, Any]) -> str:
    """The tags of a new run of ``flow``, its own and those of the block around its call, as JSON."""
    return json.dumps(sorted(set(flow.tags) | current_tags.get()), ensure_ascii=False)

"""The steps of a task call: its attempts from the gate to its durable end.

The steps are the only path a task takes, whether called, submitted or mapped, sync or async. A task's value leaves
here only after its record is durable.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from resource import RUSAGE_SELF, getrusage
from typing import TYPE_CHECKING, Any

from ....store.tables import edges, results, staged, tasks
from ...context import current_transaction
from ...encoding import codec
from ...encoding.fingerprint import fingerprint
from ...errors import RunTimedOut, Suspended, WorkerDied
from ...secrets import masking
from ...states.machine import next_task_state
from ...states.state import Cancelled, State, as_state, describe_exception, exit_call
from ...system.clock import now_us
from ..calls.frame import Frame
from ..calls.hooks import RunHooks
from ..calls.task_call import NO_TAGS, Beginning, TaskCall, cancelled_state
from ..effects.effects import Call, Durable, Pass, Steps
from ..effects.interrupts import is_coroutine_cancelled
from ..slots.steps import task_slot_steps
from .attempts import go_on, is_left_waiting, next_attempt
from .repeats import recall_turn

if TYPE_CHECKING:
    from ....store.connection import Connection
    from ....store.rows import ResultRow, StagedRow, TaskRow
    from ...authoring.transaction import Transaction
    from ..slots.requests import Ask


_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
_FRESH_US = 1000
_peak = (0, 0)
"""Until when, in nanoseconds, the peak of memory last asked for is fresh, and that peak."""


def task_steps(call: TaskCall) -> Steps:
    """The life of one call; returns its final ``State``. Raises Cancelled only for a call that left no record."""
    run, session = call.run, call.run.session
    values, refused = call.resolve_inputs() if call.task.rules is None else (yield from call.task.rules.admission(call))
    if refused is not None:
        run.forget(call)
        yield Durable(session, _end_operation(call, _event_of_refusal(refused), refused, None, None))
        return refused
    call.inputs_hash = fingerprint(values, run.lineage.name_of)
    if call.task.task_run_name is not None:
        call.rename(values)
    recalled = run.recall(call) if call.is_replay else None
    if recalled is not None:
        if current_transaction.get() is not None or call.task.hooks["on_commit"]:
            yield from _settle_transaction(call, recalled, values, recalled=True)
        return recalled if call.task.keeps_value else _stored_state(call, recalled)
    if call.is_replay:
        recall_turn(call)
    is_looked_up = False
    while True:
        started = cpu = 0
        try:
            if call.wake_at_us is not None:
                yield from go_on(call)
            if not session.gate.is_open() or session.gate.is_cancelled:
                yield Pass(session, call)
            run.check_stopped()
            if call.told_to_end is not None:
                raise Cancelled(call.told_to_end)
            if not is_looked_up and call.task.caching is not None:
                from ..transactions.caching import look_up

                is_looked_up = True
                cached = yield from look_up(call, call.task.caching, values)
                if cached is not None:
                    return (yield from _ended(call, cached, values))
            if call.tags != NO_TAGS:
                yield from task_slot_steps(call)
            if session.nodes.told is not None:
                session.nodes.told.check(call)
            _begin(call)
            if hooks := call.task.hooks["on_running"]:
                yield RunHooks(hooks, call.task, call, State("RUNNING", call.state_name))
            cpu = time.thread_time_ns()
            started = time.perf_counter_ns()
            call.interruption = None
            value = yield _user_call(call, values)
        except (GeneratorExit, Suspended):
            raise
        except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
            session.gate.check_left(error)
            event, state = _judge(call, error)
        else:
            event, state = _judge_value(value)
        if call.left_behind is not None:
            return cancelled_state(call, call.left_behind)
        if not started:
            started, cpu = time.perf_counter_ns(), time.thread_time_ns()
            never_began = call.attempt == 0 and call.state_type == "PENDING" and event == "cancel"
            if never_began and call.future is None and not call.is_replay:
                _let_go(call)
                raise state.error or Cancelled(state.message)
        duration_us = (time.perf_counter_ns() - started) // 1000
        if event != "complete":
            end = yield from next_attempt(call, event, state)
            if end is None:
                continue
            event, state = end
            if event == "decided":
                run.lineage.track(state.data, (run.id, call.seq))
                return state
            if event == "cancel" and is_left_waiting(call):
                return state
        cpu_us = None if call.task.is_async else max(0, time.thread_time_ns() - cpu) // 1000
        if call.usage is not None:
            cpu_us = call.usage.cpu_us
        yield Durable(session, _end_operation(call, event, state, duration_us, cpu_us))
        if call.cache is not None:
            _clear_garbage(call)
        return (yield from _ended(call, state, values))


def recall_at_once(call: TaskCall) -> State | None:
    """The recorded outcome of a call of which nothing else is to be done; None: its steps say what is, and why."""
    task = call.task
    if (
        task.task_run_name is not None or task.hooks["on_commit"] or not task.keeps_value
        or current_transaction.get() is not None or (task.rules is not None and not task.rules.admits_at_once(call))
    ):  # fmt: skip
        return None
    values, refused = call.resolve_inputs()
    if refused is not None:
        return None
    call.inputs_hash = fingerprint(values, call.run.lineage.name_of)
    return call.run.recall_at_once(call)


def _ended(call: TaskCall, state: State, values: dict[str, Any]) -> Steps:
    """What follows a durable end."""
    call.run.lineage.track(state.data, (call.run.id, call.seq))
    if current_transaction.get() is not None or call.task.hooks["on_commit"]:
        yield from _settle_transaction(call, state, values, recalled=False)
    if not call.task.keeps_value and state.is_completed():
        state = _stored_state(call, state)
    if hooks := call.task.hooks_for(state):
        yield RunHooks(hooks, call.task, call, state)
    return state


def _begin(call: TaskCall) -> None:
    """Count the attempt. The store hears of it with its ending, or at the next tick when that takes longer."""
    call.attempt += 1
    at_us = now_us()
    call.started_at_us = call.started_at_us or at_us
    if call.state_name != "Looped":
        call.move("start" if call.attempt == 1 else "retry_now")
    call.beginning = Beginning(call, at_us, call.reason)
    call.run.session.beginnings.note(call)


def _user_call(call: TaskCall, values: dict[str, Any]) -> Call:
    args, kwargs = call.task.call_arguments(values)
    fn = call.task.fn
    if call.task.is_generator:
        from .generators import collecting

        fn = collecting(fn)
    if call.task.rules is not None:
        fn = call.task.rules.around(fn, call)
    plain = Call(fn, args, kwargs, Frame(call.run, call), call, call.task.is_async)
    if call.task.isolation is not None or (call.future is not None and call.run.process_runner is not None):
        from ..runners.processes import process_call

        return process_call(call, plain)
    return plain


def _judge(call: TaskCall, error: BaseException) -> tuple[str, State]:
    """Which event an exception out of the user's code is, and the state it leads to."""
    if call.told_to_end is not None:
        return "cancel", _told_to_end(call, error)
    if isinstance(error, Cancelled):
        return "cancel", State("CANCELLED", None, _cancel_text(call, error), error=error)
    if isinstance(error, RunTimedOut) and call.interruption is not None:
        text = f"took longer than {call.timeout_seconds:g} s"
        if call.interruption.__dict__:
            text += call.run.session.timeouts.how_late(call.interruption)
        return "time_out", State("FAILED", "TimedOut", text, error=RunTimedOut(f"{call.name} {text}"))
    if isinstance(error, WorkerDied):
        call.run.session.log.task(call, 40, str(error))
        return "crash", State("CRASHED", None, str(error), error=error)
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        call.run.session.ending.note_exit(error)
        if isinstance(error, KeyboardInterrupt):
            return "cancel", State("CANCELLED", None, "interrupted from the keyboard", error=error)
        return "crash", State("CRASHED", None, f"the task called {exit_call(error)}", error=error)
    if is_coroutine_cancelled(error):
        return "cancel", State("CANCELLED", None, "its coroutine was cancelled", error=error)
    if hasattr(type(error), "flowdeck_ending"):  # one of Prefect 1's signals
        asked: tuple[str, State] = error.flowdeck_ending()  # type: ignore[attr-defined]
        return asked
    call.run.session.log.task_exception(call, error)
    return "fail", State("FAILED", None, describe_exception(error), error=error)


def _told_to_end(call: TaskCall, error: BaseException) -> State:
    """It was cancelled by itself: whatever its code then raised, and who waits for it hears which call it was."""
    text = str(call.told_to_end)
    if not isinstance(error, Cancelled) and not is_coroutine_cancelled(error):
        call.run.session.log.task_exception(call, error)
        text = f"{text}; ending, its code raised {describe_exception(error)}"
    return cancelled_state(call, text)


def _cancel_text(call: TaskCall, error: Cancelled) -> str:
    """Why; an exception raised in a worker thread from outside has no text of its own."""
    return str(error) or call.run.session.requests.cancel_reason or call.run.stop_reason or "cancelled"


_REFUSALS = {"NotReady": "not_ready", "TriggerFailed": "trigger_fail", "Skipped": "skip"}
_REFUSAL_TYPES = {"FAILED": "fail", "CANCELLED": "cancel", "CRASHED": "crash", "COMPLETED": "use_cached"}


def _event_of_refusal(state: State) -> str:
    """How a call ends that does not begin."""
    return _REFUSALS.get(state.name) or _REFUSAL_TYPES.get(state.type, "fail")


def _judge_value(value: Any) -> tuple[str, State]:
    if issubclass(type(value), (State, Cancelled)):  # not isinstance: it asks a proxy for its class, which may raise
        value = as_state(value)
        events = {"COMPLETED": "complete", "FAILED": "fail", "CANCELLED": "cancel", "CRASHED": "crash"}
        value = value.plain()
        if value.type in events:
            return events[value.type], value
        return "fail", State("FAILED", None, f"the task returned the state {value!r}, which is not final")
    return "complete", State("COMPLETED", data=value)


def _end_operation(
    call: TaskCall, event: str, state: State, duration_us: int | None, cpu_us: int | None
) -> Callable[[Any], None]:
    """The write that ends the call: rows, events, edges and the journalled result in one transaction."""
    beginning = call.beginning or Beginning(call, call.created_at_us)
    call.attempt = call.attempt or 1
    _, to = call.move(event)
    if state.type == to[0]:
        call.state_name = state.name
    keeps = event == "complete" and call.task.persist_result and not call.is_partial
    stored = _store(call, state.data) if keeps else None
    at_us = now_us()
    peak_rss_bytes = _peak_rss_bytes(duration_us) if duration_us is not None else None
    if call.usage is not None:
        peak_rss_bytes = call.usage.peak_rss_bytes
    ended = call.row(
        (call.state_type, call.state_name), state.message, call.attempt, at_us, duration_us, cpu_us, peak_rss_bytes
    )
    upstream, slots = call.upstream, call.slots
    if slots is not None:
        slots.is_given_back = True
    call.beginning = None
    block = current_transaction.get()
    stage = _staging(call, block) if event == "complete" and block is not None else None
    end_cache = _end_of_cache_use(call, stored) if call.cache is not None else None

    in_row = None
    if stored is not None and results.stands_in_row(stored):
        in_row = (stored.codec, stored.checksum, stored.data, stored.preview)
    # Called in place and new: it has no row yet unless it outlived a tick.
    is_new = call.future is None and not call.is_replay and (stored is None or in_row is not None)

    return _Ending(beginning, ended, stored, in_row, is_new, upstream, slots, end_cache, stage)


def _peak_rss_bytes(duration_us: int) -> int:
    """The process's peak so far; in a row of short calls one that is a millisecond old at the most."""
    global _peak
    at_ns = time.perf_counter_ns()
    if duration_us >= _FRESH_US or at_ns >= _peak[0]:
        _peak = (at_ns + _FRESH_US * 1000, getrusage(RUSAGE_SELF).ru_maxrss * _RSS_UNIT)
    return _peak[1]


class _Ending:
    """The write. One object, where a function would be a dozen: thousands of them wait to be written at a time."""

    __slots__ = ("_beginning", "_end_cache", "_ended", "_in_row", "_is_new", "_slots", "_stage", "_stored", "_upstream")

    def __init__(
        self, beginning: Beginning, ended: TaskRow, stored: ResultRow | None,
        in_row: tuple[str, str, bytes | None, str] | None, is_new: bool, upstream: Sequence[tuple[int, int, str]],
        slots: Ask | None, end_cache: Callable[[Any], None] | None, stage: StagedRow | None,
    ) -> None:  # fmt: skip
        self._beginning = beginning
        self._ended = ended
        self._stored = stored
        self._in_row = in_row
        self._is_new = is_new
        self._upstream = upstream
        self._slots = slots
        self._end_cache = end_cache
        self._stage = stage

    def __call__(self, conn: Connection) -> None:
        ended, middle, began_at_us = self._ended, self._beginning.state, self._beginning.at_us
        at_us = ended.ended_at_us or 0
        if not self._is_new or not tasks.record_new(
            conn, middle, ended, self._in_row, started_at_us=began_at_us, ended_at_us=at_us, actor="engine"
        ):
            is_stored = tasks.record_end(
                conn, middle, ended, self._in_row, started_at_us=began_at_us, ended_at_us=at_us, actor="engine"
            )
            if self._stored is not None and not is_stored:
                results.put(conn, self._stored)
        if self._upstream:
            edges.add(conn, ended.run_id, ended.seq, self._upstream)
        if self._slots is not None:
            self._slots.give_back(conn)
        if self._end_cache is not None:
            self._end_cache(conn)
        if self._stage is not None:
            staged.put(conn, self._stage)


def _stored_state(call: TaskCall, state: State) -> State:
    """The state without its value, if that can be read from the journal again."""
    from ...encoding.stored_state import StoredState

    session = call.run.session
    stored = session.read(lambda conn: results.get(conn, call.run.id, call.seq))
    if stored is None or stored.codec == "none" or not call.task.persist_result:
        return state
    call.run.lineage.forget(state.data)
    return StoredState(state.name, state.message, session.folder, call.run.id, call.seq)


def _settle_transaction(call: TaskCall, state: State, values: dict[str, Any], *, recalled: bool) -> Steps:
    from ..transactions.steps import after_task

    return after_task(call, state, current_transaction.get(), values, recalled=recalled)


def _staging(call: TaskCall, block: Transaction) -> StagedRow | None:
    from ..transactions.steps import staging

    return staging(call, block) if not block.commits_at_once else None


def _end_of_cache_use(call: TaskCall, stored: Any) -> Callable[[Any], None]:
    from ..transactions import caching

    return caching.ending(call, stored)


def _clear_garbage(call: TaskCall) -> None:
    from ..transactions import caching

    caching.clear_garbage(call)


def _let_go(call: TaskCall) -> None:
    if call.cache is not None:
        from ..transactions import caching

        caching.let_go(call)


def _store(call: TaskCall, value: Any) -> ResultRow:
    """The row of the result, whose file, if it has one, is durable."""
    session = call.run.session
    try:
        if call.task.serializer is None and codec.is_large(value) and not masking.is_active():
            return session.results.store_large(call, value)
        encoded = codec.encode(value, call.task.serializer)
    except KeyboardInterrupt as error:  # the task has completed all the same
        session.ending.note_exit(error)
        encoded = codec.Encoded("none", None, "", codec.preview(value), "its writing was interrupted from the keyboard")
    if encoded.codec == "none":
        session.results.tell_not_stored(call, encoded)
    return session.results.store(call.run.id, call.seq, encoded)


def abandon_operation(call: TaskCall, cause: str) -> Callable[[Any], None]:
    """The write that ends a call whose code did not come back; nothing when it did come back meanwhile."""
    beginning = call.beginning or Beginning(call, call.created_at_us)
    call.beginning = None
    _let_go(call)
    at_us = now_us()
    to = next_task_state(beginning.state[0], "cancel")
    ended = call.row((to.state_type, to.state_name), cause, beginning.attempt, at_us)

    def end(conn: Connection) -> None:
        found = tasks.get(conn, ended.run_id, ended.seq)
        if found is None or found.ended_at_us is None:
            tasks.record_end(
                conn, beginning.state, ended, started_at_us=beginning.at_us, ended_at_us=at_us, actor="engine"
            )

    return end

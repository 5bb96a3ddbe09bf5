"""One call of a task within a run: its identity, its inputs, and the steps of its attempts.

The steps are the only path a task takes, whether called, submitted or mapped, sync or async. A task's value leaves
here only after its record is durable.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from resource import RUSAGE_SELF, getrusage
from typing import TYPE_CHECKING, Any, NamedTuple

from ..store import edges, results, tasks
from ..store.rows import TaskRow
from . import codec
from .clock import now_us
from .context import Frame, current_tags
from .effects import Await, Call, Durable, Pass, Sleep, Steps
from .errors import Cancelled, RunTimedOut, UpstreamFailed, UsageError
from .fingerprint import fingerprint
from .futures import Future, FutureList
from .interrupts import is_coroutine_cancelled
from .machine import next_task_state
from .states import State, describe_exception

if TYPE_CHECKING:
    import sqlite3

    from .flow_run import FlowRun
    from .tasks import Task

_SCALARS = frozenset({int, str, float, bool, bytes, type(None)})
_MAX_DEPTH = 6
_MAX_NESTED = 100_000
_EMPTY_TAGS = "[]"
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class Beginning(NamedTuple):
    """An attempt that began: the row then, and when."""

    row: TaskRow
    at_us: int


class TaskCall:
    """A task run in this process. ``seq`` numbers it in its run; key, scope and call index are its identity."""

    __slots__ = (
        "attempt", "beginning", "call_index", "container_origins", "created_at_us", "future", "inputs_hash",
        "interruption", "is_recorded", "is_replay", "key", "map_group", "map_index", "name", "parameters", "run",
        "scope_seq", "seq", "started_at_us", "state_name", "state_type", "tags", "task", "timeout_seconds",
        "upstream", "wait_for",
    )

    def __init__(
        self,
        run: FlowRun,
        task: Task[Any, Any],
        parameters: dict[str, Any],
        scope_seq: int,
        wait_for: Iterable[Any] | None = None,
        map_index: int | None = None,
    ) -> None:
        self.run = run
        self.task = task
        self.key = task.key
        self.parameters = parameters
        self.scope_seq = scope_seq
        self.wait_for = wait_for
        self.call_index = run.next_call_index(scope_seq, self.key)
        self.map_index = map_index
        self.map_group = self.call_index - map_index if map_index is not None else None
        self.seq = run.seq_of(scope_seq, self.key, self.call_index)
        self.attempt = 0
        self.created_at_us = now_us()
        self.started_at_us: int | None = None
        self.upstream: list[tuple[int, int, str]] = []
        self.container_origins: list[tuple[int, int, str]] | tuple[()] = ()
        """Where the collection came from that this call was mapped over."""
        self.inputs_hash: str | None = None
        self.future: Future[Any] | None = None
        self.interruption: BaseException | None = None
        self.is_recorded = False
        """Whether its row stands before those of the calls it makes."""
        self.beginning: Beginning | None = None
        """The attempt under way, as the store is to hear of it; None once it has ended."""
        self.is_replay = run.journalled(self) is not None
        """An earlier attempt of the run recorded this call."""
        tags = task.tags | current_tags.get()
        self.tags = _EMPTY_TAGS if not tags else _json_array(tags)
        self.name = self._first_name()
        self.state_type = "PENDING"
        self.state_name = "Pending"
        self.timeout_seconds = task.timeout_seconds

    @property
    def reference(self) -> str:
        """``run/seq``."""
        return f"{self.run.id}/{self.seq}"

    def _first_name(self) -> str:
        """The name by the arguments as given; a template that needs a future's value has to wait for it."""
        try:
            return self.task.run_name(self, self.parameters)
        except UsageError:
            if not any(isinstance(value, Future) for value in self.parameters.values()):
                raise
            return self.task.default_name(self)

    def rename(self, values: dict[str, Any]) -> None:
        """The name by the arguments as they came to be."""
        if any(isinstance(value, Future) for value in self.parameters.values()):
            try:
                self.name = self.task.run_name(self, values)
            except UsageError as error:
                self.run.session.task_log(self, 30, str(error))

    def dependencies(self) -> list[Future[Any]]:
        """Unfinished futures among the arguments and ``wait_for``; also notes the lineage edges."""
        self.upstream, found = collect_dependencies(self.run, self.parameters, self.wait_for)
        known = {origin[:2] for origin in self.upstream}
        self.upstream += [origin for origin in self.container_origins if origin[:2] not in known]
        return found

    def resolve_inputs(self) -> tuple[dict[str, Any], State | None]:
        """Arguments with futures replaced by values, or the state that keeps the task from starting."""
        values, broken = replace_futures(self.parameters, self.wait_for)
        if broken:
            text = f"upstream {broken[0]}" + (f" and {len(broken) - 1} more" if len(broken) > 1 else "")
            error = UpstreamFailed(f"{self.name} did not start: {text}")
            return values, State("PENDING", "NotReady", text, error=error)
        return values, None

    # -- records -------------------------------------------------------------------------------------------------

    def row(self) -> TaskRow:
        """The row as it stands."""
        return TaskRow(
            self.run.id, self.seq, self.key, self.scope_seq, self.call_index, self.map_group, self.map_index, self.name,
            "task", None, self.state_type, self.state_name, None, max(1, self.attempt), self.run.attempt,
            self.created_at_us, self.started_at_us, None, None, None, None, self.tags, self.inputs_hash, None,
        )

    def move(self, event: str) -> tuple[tuple[str, str], tuple[str, str]]:
        """Apply an event of the table; returns (from, to)."""
        before = (self.state_type, self.state_name)
        target = next_task_state(self.state_type, event)
        self.state_type, self.state_name = target
        return before, (target.state_type, target.state_name)

    def write_pending(self, conn: sqlite3.Connection) -> None:
        """Record a submitted call that has not begun; nothing when it has, or an earlier attempt recorded it."""
        if self.attempt == 0 and self.state_type == "PENDING" and not self.is_replay:
            tasks.begin(conn, self.row(), at_us=self.created_at_us, actor="engine")
            if self.upstream:
                edges.add(conn, self.run.id, self.seq, self.upstream)


def task_steps(call: TaskCall) -> Steps:
    """The life of one call; returns its final ``State``. Raises Cancelled only for a call that left no record."""
    run, session = call.run, call.run.session
    values, not_ready = call.resolve_inputs()
    if not_ready is not None:
        run.forget(call)
        yield Durable(session, _end_operation(call, "not_ready", not_ready, None, None))
        return not_ready
    call.inputs_hash = fingerprint(values, run.lineage.name_of)
    if call.task.task_run_name is not None:
        call.rename(values)
    recalled = run.recall(call)
    if recalled is not None:
        return recalled
    begun = time.monotonic()
    while True:
        try:
            if not session.gate.is_open() or session.gate.is_cancelled:
                yield Pass(session)
            run.check_stopped()
            _begin(call)
            cpu = time.thread_time_ns()
            started = time.perf_counter_ns()
            call.interruption = None
            value = yield _user_call(call, values)
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
            event, state = _judge(call, error)
        else:
            event, state = _judge_value(value)
        if call.attempt == 0:
            call.attempt, started, cpu = 1, time.perf_counter_ns(), time.thread_time_ns()
            if call.future is None and not call.is_replay:
                raise state.error or Cancelled(state.message)
        duration_us = (time.perf_counter_ns() - started) // 1000
        delay = _retry_delay(call, event, state, time.monotonic() - begun)
        if delay is not None:
            _await_retry(call, state, delay)
            try:
                yield Sleep(session, delay)
                if run.has_scope(call.seq):
                    for future in session.pool.submitted_by(run, call.seq):
                        yield Await(session, future)
                    run.reopen_scope(call.seq)
            except Cancelled as error:
                event, state = "cancel", State("CANCELLED", None, str(error), error=error)
            else:
                continue
        cpu_us = None if call.task.is_async else max(0, time.thread_time_ns() - cpu) // 1000
        yield Durable(session, _end_operation(call, event, state, duration_us, cpu_us))
        run.lineage.track(state.data, (run.id, call.seq))
        for hook in call.task.hooks_for(state):
            session.run_hook(hook, call.task, call, state)
        return state


def _begin(call: TaskCall) -> None:
    """Count the attempt. The store hears of it with its ending, or at the next tick when that takes longer."""
    call.attempt += 1
    at_us = now_us()
    call.started_at_us = call.started_at_us or at_us
    call.move("start" if call.attempt == 1 else "retry_now")
    call.beginning = Beginning(call.row(), at_us)
    call.run.session.unrecorded.append(call)


def record_caller(call: TaskCall) -> None:
    """Have the row of a task written before those of the calls it makes: they are found again within it, by its seq."""
    beginning = call.beginning
    if not call.is_recorded and beginning is not None:
        call.is_recorded = True
        call.run.session.writer.soon(
            lambda conn: tasks.record_start(conn, beginning.row, at_us=beginning.at_us, actor="engine")
        )


def write_beginning(conn: sqlite3.Connection, call: TaskCall, beginning: Beginning) -> None:
    """Record that an attempt runs, unless it is known to have ended."""
    if call.beginning is beginning:
        tasks.record_start(conn, beginning.row, at_us=beginning.at_us, actor="engine")
        if call.upstream:
            edges.add(conn, call.run.id, call.seq, call.upstream)


def _await_retry(call: TaskCall, state: State, delay: float) -> None:
    """Record that the attempt failed and when the next one begins."""
    beginning = call.beginning
    assert beginning is not None
    from_, to = call.move("await_retry")
    run_id, seq, run_attempt, attempt, at_us = call.run.id, call.seq, call.run.attempt, call.attempt, now_us()
    wake_at_us = at_us + int(delay * 1e6)
    cause = f"attempt {attempt} failed: {state.message}; next in {delay:g} s"

    def write(conn: sqlite3.Connection) -> None:
        tasks.record_start(conn, beginning.row, at_us=beginning.at_us, actor="engine")
        tasks.transition(
            conn, run_id, seq, run_attempt=run_attempt, from_=from_, to=to, at_us=at_us, actor="engine", cause=cause,
            attempt=attempt, wake_at_us=wake_at_us,
        )

    call.beginning = None
    call.run.session.writer.soon(write)
    call.run.session.task_log(call, 30, f"{call.name} {cause}")


def _user_call(call: TaskCall, values: dict[str, Any]) -> Call:
    args, kwargs = call.task.call_arguments(values)
    return Call(call.task.fn, args, kwargs, Frame(call.run, call), call, call.task.is_async)


def _judge(call: TaskCall, error: BaseException) -> tuple[str, State]:
    """Which event an exception out of the user's code is, and the state it leads to."""
    if isinstance(error, Cancelled):
        return "cancel", State("CANCELLED", None, _cancel_text(call, error), error=error)
    if isinstance(error, RunTimedOut) and call.interruption is not None:
        text = f"took longer than {call.timeout_seconds:g} s"
        return "time_out", State("FAILED", "TimedOut", text, error=RunTimedOut(f"{call.name} {text}"))
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        call.run.session.note_exit(error)
        if isinstance(error, KeyboardInterrupt):
            return "cancel", State("CANCELLED", None, "interrupted from the keyboard", error=error)
        return "crash", State("CRASHED", None, f"the task called sys.exit({error.code!r})", error=error)
    if is_coroutine_cancelled(error):
        return "cancel", State("CANCELLED", None, "its coroutine was cancelled", error=error)
    call.run.session.task_exception(call, error)
    return "fail", State("FAILED", None, describe_exception(error), error=error)


def _cancel_text(call: TaskCall, error: Cancelled) -> str:
    """Why; an exception raised in a worker thread from outside has no text of its own."""
    return str(error) or call.run.session.cancel_reason or call.run.stop_reason or "cancelled"


def _judge_value(value: Any) -> tuple[str, State]:
    if isinstance(value, State):
        events = {"COMPLETED": "complete", "FAILED": "fail", "CANCELLED": "cancel", "CRASHED": "crash"}
        if value.type in events:
            return events[value.type], value
        return "fail", State("FAILED", None, f"the task returned the state {value!r}, which is not final")
    return "complete", State("COMPLETED", data=value)


def _retry_delay(call: TaskCall, event: str, state: State, elapsed_seconds: float) -> float | None:
    policy = call.task.retry_policy
    if not policy.retries or event not in ("fail", "time_out"):
        return None
    error = state.error if isinstance(state.error, Exception) else RuntimeError(state.message or state.name)
    try:
        return policy.next_delay(call.attempt, error, elapsed_seconds, (call.task, call, state))
    except Exception as broken:  # noqa: BLE001 - the user's condition or delay function
        call.run.session.task_log(
            call, 40, f"{call.name} is not retried: its retry condition raised {describe_exception(broken)}"
        )
        return None


def _end_operation(
    call: TaskCall, event: str, state: State, duration_us: int | None, cpu_us: int | None
) -> Callable[[Any], None]:
    """The write that ends the call: rows, events, edges and the journalled result in one transaction."""
    beginning = call.beginning or Beginning(call.row(), call.created_at_us)
    call.attempt = max(1, call.attempt)
    _, to = call.move(event)
    if state.type == to[0]:
        call.state_name = state.name
    encoded = codec.encode(state.data) if event == "complete" and call.task.persist_result else None
    if encoded is not None and encoded.codec == "none":
        call.run.session.task_log(
            call, 30, f"the result of {call.name} is not journalled and runs again after a crash: {encoded.reason}"
        )
    stored = call.run.session.store_result(call.run.id, call.seq, encoded) if encoded is not None else None
    at_us = now_us()
    ended = call.row()._replace(
        cause=state.message, ended_at_us=at_us, duration_us=duration_us, cpu_us=cpu_us,
        peak_rss_bytes=getrusage(RUSAGE_SELF).ru_maxrss * _RSS_UNIT if duration_us is not None else None,
    )
    upstream = call.upstream
    call.beginning = None

    def end(conn: sqlite3.Connection) -> None:
        tasks.record_end(
            conn, beginning.row, ended, started_at_us=beginning.at_us, ended_at_us=at_us, actor="engine"
        )
        if upstream:
            edges.add(conn, ended.run_id, ended.seq, upstream)
        if stored is not None:
            results.put(conn, stored)

    return end


def abandon_operation(call: TaskCall, cause: str) -> Callable[[Any], None]:
    """The write that ends a call whose code did not come back; nothing when it did come back meanwhile."""
    beginning = call.beginning or Beginning(call.row(), call.created_at_us)
    call.beginning = None
    at_us = now_us()
    to = next_task_state(beginning.row.state_type, "cancel")
    ended = beginning.row._replace(
        state_type=to.state_type, state_name=to.state_name, cause=cause, ended_at_us=at_us, wake_at_us=None
    )

    def end(conn: sqlite3.Connection) -> None:
        found = tasks.get(conn, ended.run_id, ended.seq)
        if found is None or found.ended_at_us is None:
            tasks.record_end(
                conn, beginning.row, ended, started_at_us=beginning.at_us, ended_at_us=at_us, actor="engine"
            )

    return end


def collect_dependencies(
    run: FlowRun, parameters: dict[str, Any], wait_for: Any
) -> tuple[list[tuple[int, int, str]], list[Future[Any]]]:
    """Where arguments come from, (run, seq, kind) each, and which futures among them have not ended."""
    collector = _Collector(run)
    for value in parameters.values():
        collector.visit(value, "data", 0)
    if wait_for is not None:
        collector.visit(wait_for if isinstance(wait_for, Future) else list(wait_for), "wait", 0)
    return [(*origin, kind) for origin, kind in collector.origins.items()], collector.waiting


class _Collector:
    """Looks for futures and tracked results in arguments, at bounded cost."""

    def __init__(self, run: FlowRun) -> None:
        self.lineage = run.lineage
        self.origins: dict[tuple[int, int], str] = {}
        self.waiting: list[Future[Any]] = []
        self._left = _MAX_NESTED

    def visit(self, value: Any, edge_kind: str, depth: int) -> None:
        kind = type(value)
        if kind in _SCALARS and kind is not str:
            return
        if isinstance(value, Future):
            if value.outcome is None:
                self.waiting.append(value)
            if value.call is not None:
                self.origins.setdefault((value.call.run.id, value.call.seq), edge_kind)
            return
        origin = self.lineage.origin(value)
        if origin is not None:
            self.origins.setdefault(origin, edge_kind)
        if kind is str or depth >= _MAX_DEPTH or self._left <= 0:
            return
        items = _children(value, kind)
        if items is not None:
            self._left -= len(items) if depth else 0
            for item in items:
                self.visit(item, edge_kind, depth + 1)


def replace_futures(parameters: dict[str, Any], wait_for: Any) -> tuple[dict[str, Any], list[str]]:
    """Arguments with ended futures replaced by their values, and which upstream outcome forbids to start."""
    broken: list[str] = []

    def settle(future: Future[Any], allow_failure: bool) -> Any:
        state = future.outcome
        assert state is not None  # the call was started only once its upstream had ended
        if state.is_completed():
            return state.data
        if allow_failure:
            future.handled = True
            return state.result(raise_on_failure=False)
        future.passed_on = True
        broken.append(f"{future.call.name if future.call else 'a task'} ended {state.name}")
        return None

    values = {name: _replace(value, settle, 0) for name, value in parameters.items()}
    if wait_for is not None:
        _replace(wait_for if isinstance(wait_for, Future) else list(wait_for), settle, 0)
    return values, broken


def _children(value: Any, kind: type) -> Any:
    if kind is list or kind is tuple or kind is FutureList or kind is set or kind is frozenset:
        return value
    if kind is dict:
        return list(value.values())
    wrapped = getattr(kind, "flowdeck_wrapped", None)
    if wrapped is not None:
        return [value.value] if wrapped != "quote" else None
    if hasattr(kind, "__dataclass_fields__"):
        return [getattr(value, name, None) for name in kind.__dataclass_fields__]
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        return value
    return None


def _replace(value: Any, settle: Callable[[Future[Any], bool], Any], depth: int, allow_failure: bool = False) -> Any:
    """``value`` with futures replaced by what they came to; the same object when it holds none."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if isinstance(value, Future):
        return settle(value, allow_failure)
    if isinstance(value, State):
        return value.result(raise_on_failure=False)
    wrapped = getattr(kind, "flowdeck_wrapped", None)
    if wrapped == "quote":
        return value.value
    if wrapped is not None:
        return _replace(value.value, settle, depth, wrapped == "allow_failure" or allow_failure)
    if depth >= _MAX_DEPTH:
        return value
    if kind is FutureList:
        return [settle(future, allow_failure) for future in value]
    if kind is list or kind is tuple or kind is set or kind is frozenset:
        items = [_replace(item, settle, depth + 1, allow_failure) for item in value]
        return value if all(a is b for a, b in zip(items, value, strict=True)) else kind(items)
    if kind is dict:
        mapped = {key: _replace(item, settle, depth + 1, allow_failure) for key, item in value.items()}
        return value if all(mapped[key] is value[key] for key in value) else mapped
    return _replace_in_record(value, kind, settle, depth + 1, allow_failure)


def _replace_in_record(
    value: Any, kind: type, settle: Callable[[Future[Any], bool], Any], depth: int, allow_failure: bool
) -> Any:
    """As ``_replace``, for dataclasses (a copy, when something in it changes) and named tuples."""
    if hasattr(kind, "__dataclass_fields__"):
        old = {name: getattr(value, name, None) for name in kind.__dataclass_fields__}
        new = {name: _replace(item, settle, depth, allow_failure) for name, item in old.items()}
        changed = {name: item for name, item in new.items() if item is not old[name]}
        if changed:
            import copy

            value = copy.copy(value)
            for name, item in changed.items():
                object.__setattr__(value, name, item)  # also where the class is frozen
    elif isinstance(value, tuple) and hasattr(kind, "_fields"):
        items = [_replace(item, settle, depth, allow_failure) for item in value]
        if any(a is not b for a, b in zip(items, value, strict=True)):
            return kind(*items)
    return value


def _json_array(tags: Iterable[str]) -> str:
    import json

    return json.dumps(sorted(tags), ensure_ascii=False)

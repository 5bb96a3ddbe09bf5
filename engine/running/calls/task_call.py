"""One call of a task within a run: its identity, its inputs and its rows.

``seq`` numbers it in its run; the calling scope, the task's key and what it was given are its identity across attempts,
its call index that among equal ones. Nothing here runs user code or waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ....store.connection import Connection
from ....store.rows import TaskRow
from ....store.tables import edges, tasks
from ...context import current_tags
from ...errors import UpstreamFailed, UsageError
from ...states.machine import next_task_state
from ...states.state import Cancelled, State
from ...system.clock import now_us
from ..effects.interrupts import in_body
from .dependencies import NUMBERS, collect_dependencies, replace_futures
from .futures import Future

if TYPE_CHECKING:
    from contextvars import Context

    from ...authoring.tasks import Task
    from ..slots.requests import Ask
    from ..transactions.parts import TaskTransaction
    from .call_parts import Again, CacheUse, Usage
    from .flow_run import FlowRun
    from .journal import Found

NO_TAGS = "[]"


class Beginning:
    """An attempt that began, or a call that ends without one: when, and in which state it was then."""

    __slots__ = ("at_us", "attempt", "call", "cause", "state")

    def __init__(self, call: TaskCall, at_us: int, cause: str | None = None) -> None:
        self.call = call
        self.at_us = at_us
        self.state = (call.state_type, call.state_name)
        self.attempt = call.attempt
        self.cause = cause

    @property
    def row(self) -> TaskRow:
        """The call's row as it stood; most calls end before anybody needs it."""
        return self.call.row(self.state, self.cause, self.attempt)


class TaskCall:
    """A task run in this process. ``seq`` numbers it in its run.

    ``is_replay``: an earlier attempt of the run recorded this call; or may have, until its inputs are known and
    ``FlowRun.settle`` has found out. Its number and call index are final from then on. Longer than most is its making:
    a call among thousands is one object with plain fields, each set once and said what it is.
    """

    __slots__ = (
        "_given",
        "_name",
        "again",
        "attempt",
        "beginning",
        "cache",
        "call_index",
        "container_origins",
        "context",
        "crashes",
        "created_at_us",
        "future",
        "has_waited",
        "in_order",
        "inputs_hash",
        "interruption",
        "is_partial",
        "is_placed",
        "is_recorded",
        "is_replay",
        "is_settled",
        "key",
        "left_behind",
        "map_group",
        "map_index",
        "reason",
        "run",
        "scope_seq",
        "seq",
        "slots",
        "started_at_us",
        "state_name",
        "state_type",
        "tags",
        "task",
        "timeout_seconds",
        "told_to_end",
        "transaction",
        "uncounted",
        "upstream",
        "usage",
        "wait_for",
        "wake_at_us",
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
        self._given: dict[str, Any] | tuple[Any, ...] = parameters
        self.scope_seq = scope_seq
        self.wait_for = wait_for
        self.call_index = run.next_call_index(scope_seq, self.key)
        self.map_index = map_index
        self.map_group = self.call_index - map_index if map_index is not None else None
        self.seq, self.is_replay = run.place_of(scope_seq, self.key, self.call_index)
        self.is_placed = not self.is_replay
        """Whether its number and call index are final."""
        self.in_order = self.is_replay and in_body()
        """Whether nothing but the code that it stands in decides when it is made."""
        self.has_waited = False
        """Whether it had to wait for what it was given."""
        self.attempt = 0
        self.reason: str | None = None
        """Why it is tried again; its row says so while it runs."""
        self.crashes = 0
        """How often it was tried again because its worker process died."""
        self.uncounted = 0
        """Attempts that used up none of its retries: crashes of its worker process, a person's fresh start."""
        self.usage: Usage | None = None
        """What it used, when it ran in a process of its own."""
        self.wake_at_us: int | None = None
        """When the next attempt begins, of a call that was interrupted with its run and has not gone on yet."""
        self.created_at_us = now_us()
        self.started_at_us: int | None = None
        self.upstream: Sequence[tuple[int, int, str]] = ()
        self.container_origins: Sequence[tuple[int, int, str]] = ()
        """Where the collection came from that this call was mapped over."""
        self.inputs_hash: str | None = None
        self.again: Again | None = None
        """Why it runs again without having failed: a turn of its loop, or a person resumed it."""
        self.transaction: TaskTransaction | None = None
        """Its part of a transaction, once there is one."""
        self.cache: CacheUse | None = None
        """What it has to do with the result cache."""
        self.future: Future[Any] | None = None
        self.context: Context | None = None
        """What it runs in a copy of, while it waits for a thread."""
        self.interruption: BaseException | None = None
        self.slots: Ask | None = None
        """What it holds of the limits of its tags."""
        self.is_partial = False
        """Its body yielded to a caller who stopped early: what it yielded is no result."""
        self.told_to_end: str | None = None
        """Who cancelled this call, or what it is part of, by itself."""
        self.left_behind: str | None = None
        """Its code did not end within the grace and it was recorded as cancelled: what it returns is dropped."""
        self.is_settled = False
        """Its arguments are numbers alone: none comes from another task, and none is to be replaced."""
        self.is_recorded = False
        """Whether its row stands before those of the calls it makes."""
        self.beginning: Beginning | None = None
        """The attempt under way, as the store is to hear of it; None once it has ended."""
        tags = task.tags | current_tags.get()
        self.tags = NO_TAGS if not tags else _json_array(tags)
        self._name: str | None = self._first_name() if task.task_run_name is not None else None
        self.state_type = "PENDING"
        self.state_name = "Pending"
        self.timeout_seconds = task.timeout_seconds

    @property
    def reference(self) -> str:
        """``run/seq``."""
        return f"{self.run.id}/{self.seq}"

    @property
    def parameters(self) -> dict[str, Any]:
        """Its arguments as they were given, by name."""
        given = self._given
        if type(given) is tuple:
            given = self._given = dict(zip(given[0], given[1:], strict=True))
        return given  # type: ignore[return-value]

    def pack(self, names: tuple[str, ...]) -> None:
        """Its parameters, which have these names, take less memory until they are asked for."""
        given = self._given
        if type(given) is dict and tuple(given) == names:
            self._given = (names, *given.values())

    @property
    def name(self) -> str:
        """What people read; the usual one is made when it is asked for, and not kept."""
        return self._name if self._name is not None else self.task.default_name(self)

    def tag_names(self) -> list[str]:
        """Its tags, sorted."""
        import json

        names: list[str] = json.loads(self.tags)
        return names

    def values_of_parameters(self) -> dict[str, Any]:
        """Its parameters as the function gets them, defaults too."""
        return self.task.with_defaults(replace_futures(self.parameters, None)[0])

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
                self._name = self.task.run_name(self, values)
            except UsageError as error:
                self.run.session.log.task(self, 30, str(error))

    def dependencies(self) -> list[Future[Any]]:
        """Unfinished futures among the arguments and ``wait_for``; also notes the lineage edges."""
        if self.wait_for is None and all(type(value) in NUMBERS for value in self.parameters.values()):
            self.is_settled = True
            if self.container_origins:
                self.upstream = self.container_origins
            return []
        found = self.note_upstream()
        self.has_waited = bool(found)
        return found

    def note_upstream(self) -> list[Future[Any]]:
        """Note where its arguments come from; the unfinished futures among them."""
        upstream, found = collect_dependencies(self.run, self.parameters, self.wait_for)
        known = {origin[:2] for origin in upstream}
        upstream += [origin for origin in self.container_origins if origin[:2] not in known]
        self.upstream = upstream or ()
        return found

    @property
    def fn(self) -> Callable[..., Any]:
        """What it calls."""
        return self.task.fn

    def may_become(self, row: TaskRow) -> bool:
        """Whether it goes on in the place of this recorded call, whose inputs were others: what finished stays."""
        return self.in_order and row.state_type != "COMPLETED"

    def be_placed(self, found: Found) -> None:
        """It is known which recorded call it is, or that it is a new one, which has the name of its place."""
        if found.recorded is None and self._name is None:
            self._name = self.name
        self.seq, self.call_index, self.is_placed = found.seq, found.call_index, True
        self.is_replay = found.recorded is not None

    def begun_anew(self, why: str) -> TaskRow | None:  # noqa: ARG002 - that of subflows keeps it
        """The row of a new call that is made in place of a recorded one."""
        return self.row()

    def release(self) -> Future[Any]:
        """Its end is recorded: its future, which the user may hold for long, and which holds no more than a name."""
        future = self.future
        assert future is not None
        future.let_go(self)
        self.future = None
        return future

    def resolve_inputs(self) -> tuple[dict[str, Any], State | None]:
        """Arguments with futures replaced by values, or the state that keeps the task from starting."""
        if self.is_settled:
            return self.parameters, None
        values, broken = replace_futures(self.parameters, self.wait_for)
        if broken:
            text = f"upstream {broken[0]}" + (f" and {len(broken) - 1} more" if len(broken) > 1 else "")
            error = UpstreamFailed(f"{self.name} did not start: {text}")
            return values, State("PENDING", "NotReady", text, error=error)
        return values, None

    def go_on_from(self, row: TaskRow) -> None:
        """An earlier process of the run got this far with it: what was interrupted goes on, what failed begins anew."""
        self.created_at_us = row.created_at_us
        if row.state_type in ("CRASHED", "CANCELLED"):
            self.attempt = row.attempt if row.wake_at_us is not None else row.attempt - 1
            self.wake_at_us = row.wake_at_us or 0
            self.started_at_us = row.started_at_us

    def tell_to_end(self, reason: str) -> None:
        """It was cancelled by itself: remember why it ends."""
        self.told_to_end = reason
        if self.scope_seq and self.future is not None:
            self.future.handled = True  # what called it hears of it; the flow's own state does not hang on it

    # -- records -------------------------------------------------------------------------------------------------

    def row(
        self, state: tuple[str, str] | None = None, cause: str | None = None, attempt: int | None = None,
        ended_at_us: int | None = None, duration_us: int | None = None, cpu_us: int | None = None,
        peak_rss_bytes: int | None = None,
    ) -> TaskRow:  # fmt: skip
        """The row as it stands, or in a state."""
        if state is None:
            state, attempt = (self.state_type, self.state_name), self.attempt
        return TaskRow(
            self.run.id, self.seq, self.key, self.scope_seq, self.call_index, self.map_group, self.map_index, self.name,
            "task", None, state[0], state[1], cause, attempt or 1, self.run.attempt,
            self.created_at_us, self.started_at_us, ended_at_us, duration_us, cpu_us, peak_rss_bytes, self.tags,
            self.inputs_hash, None, self.task.code_hash,
        )  # fmt: skip

    def move(self, event: str) -> tuple[tuple[str, str], tuple[str, str]]:
        """Apply an event of the table; returns (from, to)."""
        before = (self.state_type, self.state_name)
        self.state_type, self.state_name = target = next_task_state(self.state_type, event)
        return before, target

    def write_pending(self, conn: Connection) -> None:
        """Record a submitted call that has not begun; nothing when it has, or an earlier attempt recorded it."""
        if self.attempt == 0 and self.state_type == "PENDING" and not self.is_replay:
            tasks.begin(conn, self.row(), at_us=self.created_at_us, actor="engine")
            if self.upstream:
                edges.add(conn, self.run.id, self.seq, self.upstream)


def cancelled_state(call: TaskCall, text: str) -> State:
    """Who waits for it gets ``Cancelled`` and hears which call it was."""
    return State("CANCELLED", None, text, error=Cancelled(f"task {call.name} ({call.reference}): {text}"))


def record_caller(call: TaskCall) -> None:
    """Have the row of a task written before those of the calls it makes: they are found again within it, by its seq."""
    beginning = call.beginning
    if not call.is_recorded and beginning is not None:
        call.is_recorded = True
        if call.scope_seq:
            call.run.callers[call.seq] = call.scope_seq
        call.run.session.writer.soon(
            lambda conn: tasks.record_start(conn, beginning.row, at_us=beginning.at_us, actor="engine")
        )


def write_beginning(conn: Connection, call: TaskCall, beginning: Beginning) -> None:
    """Record that an attempt runs, unless it is known to have ended."""
    if call.beginning is beginning:
        tasks.record_start(conn, beginning.row, at_us=beginning.at_us, actor="engine")
        if call.upstream:
            edges.add(conn, call.run.id, call.seq, call.upstream)


def _json_array(tags: Iterable[str]) -> str:
    import json

    return json.dumps(sorted(tags), ensure_ascii=False)

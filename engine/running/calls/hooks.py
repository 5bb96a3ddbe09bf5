"""Calling users' hooks on states: in order, sync or async, and whatever one of them raises stops nothing.

A hook is ``hook(flow, flow_run, state)`` or ``hook(task, task_run, state)``, as Prefect's; ``run`` is a frozen view
with Prefect's names. Hooks run in the run's own process; after ``kill -9`` a daemon that has the flow's file loaded
calls ``on_crashed`` in another (``crash_hooks``), and none of the others. ``get_run_logger`` works in them.
"""

from __future__ import annotations

import inspect
import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ....store.tables import events, runs
from ...states.state import Recording, State
from ...system.clock import now_us
from ..effects.effects import Effect
from ..effects.interrupts import hearing
from .frame import Frame, current_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...authoring.views import FlowRunView, TaskRunView
    from ..effects.host import Host
    from .flow_run import FlowRun
    from .task_call import TaskCall


class RunHooks(Effect):
    """Call the hooks, one after the other."""

    __slots__ = ("hooks", "run", "state", "subject")

    def __init__(
        self, hooks: Sequence[Callable[..., Any]], subject: Any, run: FlowRun | TaskCall, state: State
    ) -> None:
        self.hooks = hooks
        self.subject = subject
        self.run = run
        self.state = state

    def perform(self, _host: Host) -> None:
        """In this thread; async hooks get an event loop of their own."""
        state = self.state.recorded(Recording(self._recording(now_us())))
        view = self._enter(state)
        token = current_frame.set(self._frame())
        try:
            for hook in self.hooks:
                try:
                    outcome = hook(self.subject, view, state)
                    if inspect.iscoroutine(outcome):
                        _run_coroutine(outcome)
                except Exception as error:  # noqa: BLE001 - the user's hook
                    self._tell(hook, error)
        finally:
            current_frame.reset(token)

    async def perform_async(self, _host: Host) -> None:
        """As ``perform``; async hooks in the running event loop."""
        state = self.state.recorded(Recording(self._recording(now_us())))
        view = self._enter(state)
        token = current_frame.set(self._frame())
        try:
            for hook in self.hooks:
                try:
                    outcome = hook(self.subject, view, state)
                    if inspect.isawaitable(outcome):
                        await outcome
                except Exception as error:  # noqa: BLE001 - the user's hook
                    self._tell(hook, error)
        finally:
            current_frame.reset(token)

    def _enter(self, state: State) -> FlowRunView | TaskRunView:
        subject = self.run
        return flow_run_view(subject, state) if subject.seq is None else task_run_view(subject, state)

    def _recording(self, at_us: int) -> Callable[[], tuple[int | None, int]]:
        """Looks up the event; of a task that has just begun there may be none yet."""
        frame, to_type = self._frame(), self.state.type
        run_id, seq = frame.run.id, frame.task.seq if frame.task is not None else None
        return lambda: frame.run.session.read(
            lambda conn: events.entered(conn, run_id, seq, to_type)
        ) or (None, at_us)

    def _frame(self) -> Frame:
        subject = self.run
        return Frame(subject.run, None if subject.seq is None else subject)

    def _tell(self, hook: Any, error: BaseException) -> None:
        frame = self._frame()
        ids = frame.run.id, frame.task.seq if frame.task is not None else None
        name = getattr(hook, "__name__", repr(hook))
        frame.run.session.log.exception(ids, f"hook {name} failed", error)


def run_to_end(outcome: Any) -> None:
    """What a hook returned: awaited, if it is a coroutine."""
    if inspect.iscoroutine(outcome):
        _run_coroutine(outcome)


def _run_coroutine(outcome: Any) -> None:
    """To its end, also where this thread has an event loop that waits for us."""
    import asyncio
    import contextvars
    import threading

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(outcome)
        return
    failed: list[BaseException] = []
    cancels: list[Callable[[], object]] = []
    context = contextvars.copy_context()

    async def to_end() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        cancels.append(lambda: loop.call_soon_threadsafe(task.cancel))
        await outcome

    def run() -> None:
        try:
            context.run(asyncio.run, to_end())
        except BaseException as error:  # noqa: BLE001 - the user's hook; raised again where it was called
            failed.append(error)

    thread = threading.Thread(target=run, name="flowdeck-hook")
    thread.start()
    try:
        for seconds in hearing():
            thread.join(seconds)
            if not thread.is_alive():
                break
    except BaseException:  # Ctrl-C: what is waited for ends, too
        for cancel in cancels:
            with suppress(RuntimeError):  # it ends just now
                cancel()
        raise
    if failed:
        raise failed[0]


def flow_run_view(run: FlowRun, state: State) -> FlowRunView:
    """What is known of a flow run now."""
    from ...authoring.views import FlowRunView

    row = run.session.read(lambda conn: runs.get(conn, run.id))
    return FlowRunView(
        run.id, row.name if row is not None else run.name, run.flow.name, dict(run.parameters),
        json.loads(row.tags) if row is not None else [], state, run.attempt,
        _time(row.started_at_us) if row is not None else None, _time(row.scheduled_at_us) if row is not None else None,
        run.parent.run.id if run.parent is not None else None, row.deployment if row is not None else None,
    )


def task_run_view(call: TaskCall, state: State) -> TaskRunView:
    """What is known of a task run now."""
    from ...authoring.views import TaskRunView

    return TaskRunView(
        call.reference, call.seq, call.name, call.run.id, call.run.flow.name, call.key, str(call.call_index),
        dict(call.parameters), call.tag_names(), state, call.attempt, _time(call.started_at_us),
    )


def _time(at_us: int | None) -> datetime | None:
    return None if at_us is None else datetime.fromtimestamp(at_us / 1e6, UTC)

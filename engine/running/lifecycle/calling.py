"""Calling, submitting and mapping a task within a run, in the run's own process.

This module plays ``effects.host.Calls`` there, flows included: a task asks the host of the frame it is called in. What
few runs do (call a flow, yield) is loaded by the first that does.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterable
from inspect import Parameter
from typing import TYPE_CHECKING, Any

from ....store.connection import Connection
from ...errors import MappingLengthMismatch, MappingMissingIterable
from ...states.state import State
from ..calls.frame import current_transaction, holding
from ..calls.futures import Future, FutureList
from ..calls.task_call import TaskCall, record_caller
from ..effects.effects import Await, Steps, drive, drive_async
from ..effects.interrupts import engine_code
from .task_steps import call_steps, recall_at_once

if TYPE_CHECKING:
    from ...authoring.flows import Flow
    from ...authoring.tasks import Task
    from ..calls.frame import Frame

_PENDING_BATCH = 256


def call(
    frame: Frame, task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any], return_state: bool, wait_for: Any
) -> Any:
    """Run in this thread; the value once the record is durable."""
    session = frame.run.session
    with session.gate.in_engine():
        if frame.task is not None:
            record_caller(frame.task)
        made = TaskCall(frame.run, task, task.arguments(args, kwargs), frame.scope_seq, wait_for)
        for future in made.dependencies():
            future.wait()
        recorded = recall_at_once(made) if made.is_replay else None
        state: State = recorded if recorded is not None else drive(session, call_steps(made))
    return _kept(made, state) if return_state else state.value_or_error()


async def call_async(
    frame: Frame, task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any], return_state: bool, wait_for: Any
) -> Any:
    """As ``call``, in the running event loop."""
    session = frame.run.session
    _record_caller(frame)
    made = TaskCall(frame.run, task, task.arguments(args, kwargs), frame.scope_seq, wait_for)
    with session.gate.blocked():
        for future in made.dependencies():
            await Await(future).perform_async(session)
        state = await drive_async(session, call_steps(made))
    return _kept(made, state) if return_state else state.value_or_error()


def _context() -> contextvars.Context:
    """For what is submitted: as here, but for slots of limits, which are not held until it has ended."""
    context = contextvars.copy_context()
    if holding.get():
        context.run(holding.set, ())
    return context


def _kept(made: TaskCall, state: State) -> State:
    """A state that user code holds: passing it on draws an edge from its task."""
    made.run.lineage.track(state, (made.run.id, made.seq))
    return state


def iterate(frame: Frame, task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any], wait_for: Any) -> Any:
    """A generator over what the task's body yields, sync or async as the body is."""
    from . import generators

    with engine_code(), frame.run.session.gate.blocked():
        _record_caller(frame)
        made = TaskCall(frame.run, task, task.arguments(args, kwargs), frame.scope_seq, wait_for)
        waiting = made.dependencies()
    if task.is_async:
        return generators.iterate_async(frame.run.session, task.fn, _after(waiting, call_steps(made)))
    return generators.iterate(frame.run.session, task.fn, _after(waiting, call_steps(made)))


def call_flow(frame: Frame, flow: Flow[Any, Any], args: Any, kwargs: Any, return_state: bool, wait_for: Any) -> Any:
    """Run a subflow in this thread."""
    from . import subflows

    return subflows.call_flow(frame, flow, args, kwargs, return_state, wait_for)


async def call_flow_async(
    frame: Frame, flow: Flow[Any, Any], args: Any, kwargs: Any, return_state: bool, wait_for: Any
) -> Any:
    """As ``call_flow``, in the running event loop."""
    from . import subflows

    return await subflows.call_flow_async(frame, flow, args, kwargs, return_state, wait_for)


def iterate_flow(frame: Frame, flow: Flow[Any, Any], args: Any, kwargs: Any, wait_for: Any) -> Any:
    """A generator over what a subflow's body yields, sync or async as the body is."""
    from . import subflows

    return subflows.iterate_flow(frame, flow, args, kwargs, wait_for)


def _after(waiting: list[Future[Any]], steps: Steps[State]) -> Steps[State]:
    """The steps, once the futures they need have ended."""
    for future in waiting:
        yield Await(future)
    return (yield from steps)


def submit(
    frame: Frame, task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any], return_state: bool, wait_for: Any
) -> Any:
    """Start once everything it needs has ended; a future at once."""
    with engine_code():
        _record_caller(frame)
        made = TaskCall(frame.run, task, task.arguments(args, kwargs), frame.scope_seq, wait_for)
        future = _start(frame, made, _context())
        if not made.is_replay:
            frame.run.session.writer.soon(made.write_pending)
    if return_state:
        future.wait()
        return future.state
    return future


def map_over(
    frame: Frame, task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any], return_state: bool, wait_for: Any
) -> Any:
    """One call per element; a list of futures in order."""
    with engine_code():
        _record_caller(frame)
        bound, gather = _spread(task, task.arguments(args, kwargs))
        columns, constants = _columns(task.name, bound)
        containers = origins_of_containers(frame, [bound[name] for name in columns])
        places = range(len(next(iter(columns.values()))))
        rows = (gather({name: column[n] for name, column in columns.items()} | constants) for n in places)
        futures = submit_each(frame, task, ((row, wait_for) for row in rows), containers)
    if return_state:
        futures.wait()
        return [future.state for future in futures]
    return futures


def submit_each(
    frame: Frame, task: Task[Any, Any], rows: Iterable[tuple[dict[str, Any], Any]],
    containers: list[tuple[int, int, str]],
) -> FutureList[Any]:
    """One call for each (arguments, what it waits for), as one mapped group; their futures in order."""
    futures: FutureList[Any] = FutureList()
    batch: list[TaskCall] = []
    context = _context()
    names: tuple[str, ...] = ()
    for index, (parameters, wait_for) in enumerate(rows):
        made = TaskCall(frame.run, task, parameters, frame.scope_seq, wait_for, map_index=index)
        made.container_origins = containers
        futures.append(_start(frame, made, context))
        if made.is_replay:
            continue
        names = names or tuple(parameters)
        made.pack(names)
        batch.append(made)
        if len(batch) == _PENDING_BATCH:
            _record_pending(frame, batch)
            batch = []
    _record_pending(frame, batch)
    return futures


def origins_of_containers(frame: Frame, containers: list[Any]) -> list[tuple[int, int, str]]:
    """The tasks whose whole results are mapped over: each element comes from there, too."""
    origins: list[tuple[int, int, str]] = []
    for value in containers:
        if isinstance(value, Future):
            origins += [(*place, "data")] if (place := value.place) is not None else []
        elif (origin := frame.run.lineage.origin(value)) is not None:
            origins.append((*origin, "data"))
    return origins


def _record_caller(frame: Frame) -> None:
    if frame.task is not None:
        record_caller(frame.task)


def _record_pending(frame: Frame, batch: list[TaskCall]) -> None:
    """Let the store know of calls that wait for a thread or for what they need."""

    def write(conn: Connection) -> None:
        for made in batch:
            made.write_pending(conn)

    if batch:
        frame.run.session.writer.soon(write)


def _start(frame: Frame, made: TaskCall, context: contextvars.Context) -> Future[Any]:
    """Put the call on the pool once its upstream futures have ended."""
    session = frame.run.session
    future: Future[Any] = Future(made)
    made.future = future
    frame.run.outstanding.add(future)
    if (block := current_transaction.get()) is not None:
        block.expect(future)
    waiting = made.dependencies()
    if not waiting:
        if made.is_replay and (recorded := recall_at_once(made)) is not None:
            made.release().resolve(recorded)
        else:
            session.pool.submit(made, context)
        return future
    left = len(waiting)
    lock = session.pool.lock

    def one_ended(_future: Future[Any]) -> None:
        nonlocal left
        with lock:
            left -= 1
            ready = left == 0
        if ready and not future.done():
            session.pool.submit(made, context)

    session.pool.expect(made)
    for upstream in waiting:
        upstream.when_settled(one_ended)
    return future


def _spread(
    task: Task[Any, Any], values: dict[str, Any]
) -> tuple[dict[str, Any], Callable[[dict[str, Any]], dict[str, Any]]]:
    """``*args`` and ``**options`` one by one, since each of them may be mapped over; and the way back."""
    places: dict[str, tuple[str, int | str]] = {}
    spread: dict[str, Any] = {}
    for name, value in values.items():
        kind = task.signature.parameters[name].kind
        if kind is Parameter.VAR_POSITIONAL:
            found: list[tuple[str, int | str, Any]] = [(f"{name}[{n}]", n, item) for n, item in enumerate(value)]
        elif kind is Parameter.VAR_KEYWORD:
            found = [(key, key, item) for key, item in value.items()]
        else:
            spread[name] = value
            continue
        for key, place, item in found:
            places[key], spread[key] = (name, place), item
    if not places:
        return values, lambda row: row

    def gather(row: dict[str, Any]) -> dict[str, Any]:
        whole = {name: row[name] for name in values if name in row and name not in places}
        for key, (name, place) in places.items():
            if isinstance(place, int):
                whole[name] = (*whole.get(name, ()), row[key])
            else:
                whole.setdefault(name, {})[place] = row[key]
        return whole

    return spread, gather


def _is_one(value: Any) -> bool:
    """Whether every call gets this value as it is: a text is one value, as what cannot be gone through is."""
    return isinstance(value, (str, bytes)) or not hasattr(value, "__iter__")


def _columns(name: str, values: dict[str, Any]) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """What is mapped over, and what every call gets."""
    from ...authoring.annotations import allow_failure, quote, unmapped

    columns: dict[str, list[Any]] = {}
    constants: dict[str, Any] = {}
    for key, given in values.items():
        value = given.result() if isinstance(given, State) else given
        if isinstance(value, unmapped):
            constants[key] = value.value
            continue
        kind, inner = (type(value), value.value) if isinstance(value, (allow_failure, quote)) else (None, value)
        items = inner
        if isinstance(inner, Future):
            items = inner.result(raise_on_failure=kind is not allow_failure)
        if isinstance(items, State):
            items = items.result(raise_on_failure=kind is not allow_failure)
        if _is_one(items) or kind is quote:
            constants[key] = value
        else:
            columns[key] = list(items) if kind is None else [kind(item) for item in items]
    if not columns:
        raise MappingMissingIterable(
            f"{name}.map() was given nothing to map over; pass at least one list, or call {name}() instead"
        )
    lengths = {key: len(column) for key, column in columns.items()}
    if len(set(lengths.values())) > 1:
        text = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        raise MappingLengthMismatch(f"{name}.map() was given iterables of different lengths: {text}")
    return columns, constants

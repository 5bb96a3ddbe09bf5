"""The steps of a task call: its attempts from the gate to its durable end.

The steps are the only path a task takes, whether called, submitted or mapped, sync or async. A task's value leaves
here only after its record is durable.
"""

from __future__ import annotations

import time
from typing import Any

from ....store.tables import results
from ...errors import Suspended
from ...states.state import Cancelled, State
from ...system.clock import now_us
from ..calls.frame import Frame, current_transaction
from ..calls.hooks import RunHooks
from ..calls.task_call import NO_TAGS, Beginning, TaskCall, cancelled_state
from ..effects.effects import Call, Durable, Pass, Steps
from .attempts import go_on, is_left_waiting, next_attempt
from .judging import event_of_refusal, judge_task, judge_task_value
from .task_endings import clear_garbage, end_operation, let_go


def call_steps(call: TaskCall) -> Steps[State]:
    """What is to be done of a call; its slots are given back whatever comes."""
    if call.tags == NO_TAGS:
        return task_steps(call)
    from ..slots.steps import with_slots

    return with_slots(call, task_steps(call))


def task_steps(call: TaskCall) -> Steps[State]:
    """The life of one call; returns its final ``State``. Raises Cancelled only for a call that left no record.

    Longer than most: the order of a call's life is read in one place, from top to bottom.
    """
    run, session = call.run, call.run.session
    values, refused = call.resolve_inputs() if call.task.rules is None else (yield from call.task.rules.admission(call))
    if refused is not None:
        run.forget(call)
        yield Durable(end_operation(call, event_of_refusal(refused), refused, None, None))
        return refused
    run.settle(call, values)
    if call.task.task_run_name is not None:
        call.rename(values)
    recalled = run.recall(call) if call.is_replay else None
    if recalled is not None:
        if current_transaction.get() is not None or call.task.hooks["on_commit"]:
            yield from _settle_transaction(call, recalled, values, recalled=True)
        return recalled if call.task.keeps_value else _stored_state(call, recalled)
    if call.is_replay:
        from .repeats import recall_turn

        recall_turn(call)
    is_looked_up, first_started = False, 0
    while True:
        started = cpu = 0
        try:
            if call.wake_at_us is not None:
                yield from go_on(call)
            if not session.gate.is_open() or session.gate.is_cancelled:
                yield Pass(call)
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
                from ..slots.steps import task_slot_steps

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
            event, state = judge_task(call, error)
        else:
            event, state = judge_task_value(call, value)
        if call.left_behind is not None:
            return cancelled_state(call, call.left_behind)
        if not started:
            started, cpu = time.perf_counter_ns(), time.thread_time_ns()
            never_began = call.attempt == 0 and call.state_type == "PENDING" and event == "cancel"
            if never_began and call.future is None and not call.is_replay:
                let_go(call)
                raise state.error or Cancelled(state.message)
        first_started = first_started or started
        duration_us = (time.perf_counter_ns() - started) // 1000
        if event != "complete":
            end = yield from next_attempt(call, event, state, (time.perf_counter_ns() - first_started) / 1e9)
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
        yield Durable(end_operation(call, event, state, duration_us, cpu_us))
        if call.cache is not None:
            clear_garbage(call)
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
    recorded = call.run.settle(call, values)
    return call.run.recall_at_once(call, recorded) if call.is_replay else None


def _ended(call: TaskCall, state: State, values: dict[str, Any]) -> Steps[State]:
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
    call.run.lineage.let_go()
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


def _stored_state(call: TaskCall, state: State) -> State:
    """The state without its value, if that can be read from the journal again."""
    from ...encoding.stored_state import StoredState

    session = call.run.session
    stored = session.read(lambda conn: results.get(conn, call.run.id, call.seq))
    if stored is None or stored.codec == "none" or not call.task.persist_result:
        return state
    call.run.lineage.forget(state.data)
    return StoredState(state.name, state.message, session.folder, call.run.id, call.seq)


def _settle_transaction(call: TaskCall, state: State, values: dict[str, Any], *, recalled: bool) -> Steps[None]:
    from ..transactions.steps import after_task

    return after_task(call, state, current_transaction.get(), values, recalled=recalled)



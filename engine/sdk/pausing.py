"""``pause_flow_run``, ``suspend_flow_run`` and ``resume_flow_run``: Prefect's names and semantics, made durable.

A pause holds the whole run in its process; a suspension ends the process, and the run goes on by replay. Each call
asks once: its answer is part of the run's journal, by its ``key`` or by its place among such calls.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..encoding.json_schema import concealed
from ..encoding.stable_hash import without_secrets
from ..errors import UsageError
from ..running.calls.frame import current_frame, require_frame
from ..running.effects.effects import drive, drive_async
from ..running.effects.interrupts import engine_code
from ..running.lifecycle.asking import Question, ask, ask_now
from ..secrets.masking import mask
from ..states.state import storable
from .in_coroutines import given, is_awaited
from .placing import control_of, run_number

if TYPE_CHECKING:
    from ..running.calls.frame import Frame


def pause_flow_run(
    wait_for_input: Any = None, timeout: float | None = None, poll_interval: float | None = None,
    key: str | None = None,
) -> Any:
    """Hold the run until somebody resumes it; returns the input that was asked for, else None.

    ``wait_for_input`` is a type, a pydantic model or a ``RunInput``. After ``timeout`` seconds ``PauseTimedOut`` is
    raised, which fails the run unless it is caught; by default there is no limit (in Prefect an hour). Nothing polls:
    ``poll_interval`` is Prefect's and ignored. In async code it is awaited.
    """
    del poll_interval
    return _ask(require_frame("pause_flow_run()"), wait_for_input, timeout, key, leaves=False)


def suspend_flow_run(
    wait_for_input: Any = None, timeout: float | None = None, key: str | None = None,
    flow_run_id: int | str | None = None,
) -> Any:
    """As ``pause_flow_run``, but the process ends and the run goes on by replay: finished tasks are not run again.

    With ``flow_run_id`` another run is suspended as soon as its running tasks have ended. A task cannot suspend its
    run, since it would begin anew; in a subflow the whole run is suspended.
    """
    frame = current_frame.get()
    if flow_run_id is not None and (frame is None or run_number(flow_run_id) != frame.run.session.root_id):
        if wait_for_input is not None or timeout is not None or key is not None:
            raise UsageError("suspend_flow_run(flow_run_id=…) of another run takes no wait_for_input, timeout or key: "
                             "only a run's own code can ask for its input")
        with control_of(frame) as control:
            control.suspend(run_number(flow_run_id))
        return given(frame, None)
    frame = require_frame("suspend_flow_run()")
    if _is_in_no_file(frame):
        raise UsageError("suspend_flow_run(): no file holds the flow of this run, so nothing could go on with it; "
                         "use pause_flow_run(), which keeps the process")
    if frame.task is not None:
        raise UsageError(f"suspend_flow_run() in the task {frame.task.name}: a task begins anew after a suspension; "
                         "call it in the flow, or use pause_flow_run() here")
    return _ask(frame, wait_for_input, timeout, key, leaves=True)


def _is_in_no_file(frame: Frame) -> bool:
    from ..running.run_process.claiming import entrypoint_of

    session = frame.run.session
    return session.root is not None and not session.ending.is_resumable and entrypoint_of(session.root.flow) is None


def resume_flow_run(flow_run_id: int | str, run_input: Any = None) -> Any:
    """Let a paused or suspended run go on, with the input it asked for; wrong input raises ``InputError``."""
    frame = current_frame.get()
    with control_of(frame) as control:
        control.resume(run_number(flow_run_id), run_input=plain(run_input))
    return given(frame, None)


def plain(value: Any) -> Any:
    """A pydantic model as the JSON data it stands for; anything else as it is."""
    dump: Callable[..., Any] | None = getattr(value, "model_dump", None)
    return dump(mode="json") if dump is not None else value


def _ask(frame: Frame, wait_for_input: Any, timeout: float | None, key: str | None, *, leaves: bool) -> Any:
    name = "suspend_flow_run" if leaves else "pause_flow_run"
    if timeout is not None and not timeout > 0:
        raise UsageError(f"{name}(timeout={timeout!r}): give a number of seconds above 0, or None for no limit")
    schema = description = None
    decode: Callable[[str | None], Any] = _nothing
    if wait_for_input is not None:
        from .run_inputs import Asked

        asked = Asked(wait_for_input)
        schema, decode = storable(json.dumps(concealed(asked.json_schema, mask))), asked.decode
        description = None if asked.description is None else storable(asked.description)
    place = f"{frame.scope_seq}/{frame.run.next_call_index(frame.scope_seq, 'pause_flow_run()')}"
    named = f"pause:{without_secrets(key)}" if key is not None else f"pause/{place}"
    question = Question(named, schema, description, timeout, leaves, decode)
    with engine_code():
        found = ask_now(frame, question)
        if not is_awaited(frame):
            return drive(frame.run.session, ask(frame, question, found))
    return drive_async(frame.run.session, ask(frame, question, found))


def _nothing(_value: str | None) -> None:
    return None

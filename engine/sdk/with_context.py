"""``with_context``: a function that knows its run in processes that users' code starts by itself. Prefect's name.

    with multiprocessing.Pool() as pool:
        pool.map(with_context(process_item), items)

What it logs and prints there goes to the run's spool under the task's name. In a process that was started anew
(spawned) ``runtime`` knows the run, and metrics and artifacts go to the store; in a forked one nothing may touch the
store, since SQLite does not work across a fork. Tasks and flows cannot be called in either: they belong to the run's
own process.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

from ..context import current_tags
from ..errors import UsageError
from ..running.calls.frame import Frame, current_frame
from ..secrets import masking
from ..states.state import storable

_here: Final[dict[tuple[str, int, int], Any]] = {}
"""In such a process: the stand-in for the run's session, by folder, root run and attempt."""


class _Place(NamedTuple):
    """The run and the task that the code belongs to, as it travels."""

    folder: str
    root_id: int
    root_attempt: int
    log_level: int
    run: dict[str, Any]
    task: dict[str, Any] | None
    concealed: frozenset[str]


class _ForkedSession:
    """Stands for the session where the run's process was forked: output alone still goes its way."""

    is_closed = False

    def __init__(self, who: str, capture: Any, **known: Any) -> None:
        self.__dict__.update(known, capture=capture, _who=who, writers={})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise UsageError(
            f"{self._who} runs in a process forked from the run's: it can log and print; for metrics, artifacts, "
            'variables and `runtime` start the process anew, as multiprocessing.get_context("spawn") does'
        )


class WithContext:
    """A function, and the run it belongs to in whatever process it is called."""

    def __init__(self, fn: Callable[..., Any], frame: Frame | None, tags: frozenset[str]) -> None:
        self._fn = fn
        self._tags = tags
        self._place = _place_of(frame) if frame is not None else None
        self._own: tuple[int, Frame | None] = (os.getpid(), frame)
        """The process of the run; in it the run itself is at hand."""
        self.__name__ = getattr(fn, "__name__", type(fn).__name__)

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_own": (0, None)}
        if not _is_found_by_name(self._fn):
            from ..running.runners import payloads as parcels

            state["_fn"], state["_parcel"] = None, parcels.pack(self._fn)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        parcel = state.pop("_parcel", None)
        self.__dict__.update(state)
        if parcel is not None:
            from ..running.runners import payloads as parcels

            self._fn = parcels.unpack(parcel)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As the function itself."""
        pid, frame = self._own
        if pid != os.getpid():
            frame = _frame_of(self._place, f"{self.__name__}()") if self._place is not None else None
        tokens = current_frame.set(frame), current_tags.set(self._tags)
        try:
            return self._fn(*args, **kwargs)
        finally:
            if frame is not None and pid != os.getpid():
                session: Any = frame.run.session
                session.capture.end_lines(frame)
                for writer in session.writers.values():
                    writer.flush()
            current_frame.reset(tokens[0])
            current_tags.reset(tokens[1])


def with_context(fn: Callable[..., Any]) -> WithContext:
    """``fn`` for a process of one's own: called there, it belongs to the run and the task that called ``with_context``.

    Both ways to start processes do, forked and anew; its arguments travel as ``multiprocessing`` has them travel. Lines
    of a process that is started anew are recorded, and not shown in the terminal.
    """
    return WithContext(fn, current_frame.get(), current_tags.get())


def _is_found_by_name(fn: Any) -> bool:
    """Whether pickle can name it; a lambda, or what a script's task holds in a worker process, travels by value."""
    found: Any = sys.modules.get(getattr(fn, "__module__", None) or "")
    for part in getattr(fn, "__qualname__", "").split("."):
        found = getattr(found, part, None)
    return found is fn or not hasattr(fn, "__code__")


def _place_of(frame: Frame) -> _Place:
    run, call, session = frame.run, frame.task, frame.run.session
    described = {
        "id": run.id, "name": run.name, "attempt": run.attempt, "flow": run.flow.name, "version": run.flow.version,
        "parent_id": run.parent.run.id if run.parent is not None else None,
        "parameters": {name: storable(repr(value))[:200] for name, value in run.parameters.items()},
    }  # fmt: skip
    task = None
    if call is not None:
        task = {"seq": call.seq, "key": call.key, "name": call.name, "attempt": call.attempt, "tags": call.tags}
    return _Place(
        os.path.abspath(session.folder), session.root_id, session.capture.attempt, logging.getLogger().level,
        described, task, masking.known_forms(),
    )  # fmt: skip


def _frame_of(place: _Place, who: str) -> Frame:
    from ..running.runners.worker_main import StandIn

    masking.adopt(place.concealed)
    session, known = _session_of(place, who), place.run
    parent = None if known["parent_id"] is None else SimpleNamespace(run=SimpleNamespace(id=known["parent_id"]))
    run = StandIn(
        who, id=known["id"], name=known["name"], attempt=known["attempt"], parent=parent, session=session,
        parameters=known["parameters"], is_root=parent is None,
        flow=StandIn(who, name=known["flow"], version=known["version"], is_async=False),
    )  # fmt: skip
    call = None
    if place.task is not None:
        call = StandIn(
            who, **place.task, run=run, reference=f"{known['id']}/{place.task['seq']}", values_of_parameters=dict,
            task=StandIn(who, name=place.task["key"], is_async=False),
        )  # fmt: skip
    made: Any = (run, call)
    return Frame._make(made)


def _session_of(place: _Place, who: str) -> Any:
    """Made once in each process: with the capture of the process it was forked from, or with a new one."""
    from ..running.output.capture import inherited
    from ..running.run_process.forks import live_sessions
    from ..running.runners.worker_main import SessionStandIn

    key = place.folder, place.root_id, place.root_attempt
    known = {"root_id": place.root_id, "folder": Path(place.folder), "made_by": os.getpid()}
    if key not in _here or _here[key].made_by != os.getpid():
        left = [one.capture for one in live_sessions() if (os.path.abspath(one.folder), one.root_id) == key[:2]]
        capture = left[0] if left else inherited(place.folder, place.root_id)
        if capture is not None:
            _here[key] = _ForkedSession(who, capture, **known)
        else:
            _here[key] = SessionStandIn(who, capture=_new_capture(place), writers={}, keepers=[], **known)
    return _here[key]


def _new_capture(place: _Place) -> Any:
    """One more onto the run's spool."""
    from ..running.output.capture import Capture
    from ..secrets.secret import conceal_known

    conceal_known()
    capture = Capture(Path(place.folder), place.root_id, place.root_attempt, echo=False)
    capture.start_in_worker(None, place.log_level)
    return capture

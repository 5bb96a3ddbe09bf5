"""What the engine itself says of a run and its tasks in their log, and the tracebacks of the user's code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ...encoding.tracebacks import user_traceback
from ...states.state import describe_exception

if TYPE_CHECKING:
    from ..calls.flow_run import FlowRun
    from ..calls.task_call import TaskCall
    from ..effects.host import Subject
    from .capture import Capture

ENGINE_LOGGER: Final = "flowdeck.engine"
"""The name that the engine's own lines bear."""
_TOLD: Final = "_flowdeck_told_in_run"
"""Marks an exception whose traceback is in the log: on its way up from a task it is not told again in full."""


class RunLog:
    """The engine's own lines in the log of one root run; from any thread."""

    def __init__(self, capture: Capture, root_id: int) -> None:
        self._capture = capture
        self._root_id = root_id

    def line(self, run_id: int, seq: int | None, level: int, text: str) -> None:
        """About a run, or within it about a task, known by its number."""
        self._capture.record(run_id, seq, level, ENGINE_LOGGER, "log", text)

    def task(self, call: Subject, level: int, text: str) -> None:
        """About a task or the call of a subflow."""
        self.line(call.run.id, call.seq, level, text)

    def run(self, run: FlowRun, level: int, text: str) -> None:
        """About a run."""
        self.line(run.id, None, level, text)

    def task_exception(self, call: TaskCall, error: BaseException) -> None:
        """The traceback of a failed attempt, without our frames."""
        self.exception((call.run.id, call.seq), f"{call.name} failed", error)

    def run_exception(self, run: FlowRun, error: BaseException) -> None:
        """As ``task_exception``, for the flow function."""
        self.exception((run.id, None), f"flow {run.flow.name} failed", error)

    def exception(self, ids: tuple[int, int | None], what: str, error: BaseException) -> None:
        """Keep a user's traceback without our frames, in one record; one line when this very error was told before."""
        if error.__dict__.get(_TOLD) == self._root_id:
            self.line(*ids, 40, f"{what}: {describe_exception(error)}")
            return
        error.__dict__[_TOLD] = self._root_id
        self.line(*ids, 40, f"{what}\n{user_traceback(error)}")

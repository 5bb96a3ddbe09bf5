"""What whoever started a run in this process gets of its end: a value, an exception, an exit code, a line of text.

What is raised is shown by the interpreter, if nobody catches it, as the user should see it: without frames of ours.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ....store.errors import StaleState, StoreError
from ...encoding.tracebacks import user_traceback
from ...errors import UsageError
from ...states.state import Cancelled, State
from ..output.echo import for_terminal

if TYPE_CHECKING:
    from .session import Session

class RunSuspended(SystemExit):
    """The run a script started goes on later: ends the script with exit code 75 unless it is caught."""

    def __init__(self, message: str) -> None:
        from ...states.exits import SUSPENDED_EXIT

        super().__init__(SUSPENDED_EXIT)
        self.message = message

    def __str__(self) -> str:
        return self.message


class RunCancelled(SystemExit):
    """The run a script started was cancelled: ends the script with exit code 130 unless it is caught."""

    def __init__(self, message: str) -> None:
        from ...states.exits import CANCELLED_EXIT

        super().__init__(CANCELLED_EXIT)
        self.message = message

    def __str__(self) -> str:
        return self.message


class RunSignalled(SystemExit):
    """A signal told the process of the run a script started to end: exit code 128 + its number, unless it is caught."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(code)
        self.message = message

    def __str__(self) -> str:
        return self.message


def answer(session: Session, state: State, return_state: bool) -> Any:
    """What the call of a flow returns once its session is closed; raises what ended the run."""
    if session.requests.is_fenced:
        raise StaleState(f"run #{session.root_id} was taken over by a newer attempt; this process's work was dropped")
    if return_state:
        return state
    if not state.is_final():
        text = suspended_text(session.root_id, state)
        sys.stderr.write(f"flowdeck: {for_terminal(text)}\n")
        raise RunSuspended(text)
    if state.is_cancelled() and isinstance(state.error, (Cancelled, type(None))):
        text = f"run #{session.root_id} was cancelled: {state.message}"
        sys.stderr.write(f"flowdeck: {for_terminal(text)}\n")
        raise RunCancelled(text)
    code = session.ending.exit_code_by_signal
    if code is not None and state.is_crashed() and isinstance(state.error, Cancelled):
        text = f"run #{session.root_id} ended: {state.message}"
        sys.stderr.write(f"flowdeck: {text}\n")
        raise RunSignalled(text, code)
    if state.error is not None and not state.is_completed():
        explain_uncaught(state.error)
    return state.result()


def suspended_text(run_id: int, state: State) -> str:
    """What a run that goes on later waits for, and how to have it go on."""
    answer = " -i NAME=VALUE" if state.name == "AwaitingInput" else ""
    return (f"run #{run_id} is {state.name}: {state.message}. `flowdeck resume {run_id}{answer}` lets a daemon go on "
            "with it, with --here it goes on in your terminal")


def exit_code(session: Session, state: State) -> int:
    """The exit code that says how a run ended."""
    if state.is_completed():
        return 0
    by_signal = session.ending.exit_code_by_signal
    if by_signal is not None and state.is_crashed():
        return by_signal
    if not state.is_final():
        from ...states.exits import SUSPENDED_EXIT

        return SUSPENDED_EXIT
    if not state.is_cancelled():
        return 1
    from ...states.exits import CANCELLED_EXIT

    return CANCELLED_EXIT


def explain_uncaught(error: BaseException) -> None:
    """If the script does not catch it: a line for a mistake or a broken store, else a traceback without our frames."""
    previous = sys.excepthook
    if previous is not sys.__excepthook__ and not isinstance(previous, _Explain):
        return  # somebody shows exceptions in their own way
    sys.excepthook = _Explain(error)


class _Explain:
    """Shows one exception as its user should see it, any other as Python does."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __call__(self, kind: type[BaseException], value: BaseException, trace: Any) -> None:
        if value is not self._error:
            sys.__excepthook__(kind, value, trace)
        elif isinstance(value, (StoreError, UsageError)):
            sys.stderr.write(f"flowdeck: {for_terminal(str(value))}\n")
        else:
            sys.stderr.write(f"{user_traceback(value)}\n")

"""State objects as users see them: a type, a name, a message and the value or exception behind them.

Prefect's names: ``state.is_completed()``, ``state.result()``, ``Completed(...)``, ``Failed(...)``.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import TYPE_CHECKING, Any

from ...store.states import NAMES, TERMINAL_TYPES, is_terminal
from ..errors import RunCrashed, RunFailed, UpstreamFailed
from ..secrets.masking import mask
from ..system.awaiting import also_awaited

if TYPE_CHECKING:
    from datetime import datetime


class _Unset:
    """No value was given; one and the same object also in a worker process."""

    __module__ = "flowdeck"

    def __reduce__(self) -> str:
        return "_UNSET"


_UNSET: Any = _Unset()


class Recording:
    """As which event a state was recorded, and when; looked up once somebody asks, and then it can travel."""

    __module__ = "flowdeck"

    __slots__ = ("_found", "_look")

    def __init__(
        self, look: Callable[[], tuple[int | None, int]] | None, found: tuple[int | None, int] = (None, 0)
    ) -> None:
        self._look = look
        self._found = found

    def _known(self) -> tuple[int | None, int]:
        if self._look is not None:
            self._found, self._look = self._look(), None
        return self._found

    @property
    def event_id(self) -> int | None:
        """None when it is not recorded yet."""
        return self._known()[0]

    @property
    def at(self) -> datetime:
        """In UTC."""
        from datetime import UTC, datetime

        return datetime.fromtimestamp(self._known()[1] / 1e6, UTC)

    def __reduce__(self) -> tuple[Any, ...]:
        return Recording, (None, self._known())


class State:
    """One state of a flow or task run.

    ``type`` is one of the nine state types, ``name`` what people read, ``message`` the cause in words. ``data`` is
    the value of a completed run, ``error`` the exception of one that failed. What a hook is given also knows as which
    event it was recorded, and when: ``id`` and ``timestamp``.
    """

    __module__ = "flowdeck"

    __slots__ = ("__weakref__", "_data", "_recording", "error", "message", "name", "type")
    _recording: Recording

    def __init__(
        self,
        type: str,  # noqa: A002 - Prefect's name
        name: str | None = None,
        message: str | None = None,
        *,
        data: Any = _UNSET,
        error: BaseException | None = None,
    ) -> None:
        if type not in NAMES:
            raise ValueError(f"no state type {type!r}; the types are {', '.join(NAMES)}")
        self.type = type
        self.name = storable(name) if name else NAMES[type][0]
        self.message = message if message is None else storable(message)
        self._data = data
        self.error = error

    @property
    def id(self) -> int | None:
        """Number of the event that recorded it (``flowdeck events``); None where it is not known."""
        return self._recording.event_id if hasattr(self, "_recording") else None

    @property
    def timestamp(self) -> datetime | None:
        """When it was recorded; None where it is not known."""
        return self._recording.at if hasattr(self, "_recording") else None

    def recorded(self, recording: Recording) -> State:
        """A copy that knows how it was recorded."""
        known = copy(self)
        known._recording = recording
        return known

    @property
    def data(self) -> Any:
        """The value carried, None when there is none."""
        return None if self._data is _UNSET else self._data

    def has_data(self) -> bool:
        """Whether a value was given, be it None."""
        return self._data is not _UNSET

    def is_plain_value(self) -> bool:
        """Whether all there is to say is the value: it completed, under that name, without a message."""
        return (
            type(self) is State and self._data is not _UNSET and self.name == "Completed" and self.message is None
            and self.type == "COMPLETED" and self.error is None
        )  # fmt: skip

    def is_completed(self) -> bool:
        """Ended as it should."""
        return self.type == "COMPLETED"

    def is_failed(self) -> bool:
        """Ended by the user's code."""
        return self.type == "FAILED"

    def is_crashed(self) -> bool:
        """Ended by a signal, lack of memory or a reboot."""
        return self.type == "CRASHED"

    def is_cancelled(self) -> bool:
        """Ended because somebody asked."""
        return self.type == "CANCELLED"

    def is_cancelling(self) -> bool:
        """Told to end; not gone yet."""
        return self.type == "CANCELLING"

    def is_running(self) -> bool:
        """User code runs."""
        return self.type == "RUNNING"

    def is_pending(self) -> bool:
        """Known, not begun."""
        return self.type == "PENDING"

    def is_paused(self) -> bool:
        """Held until a person says so."""
        return self.type == "PAUSED"

    def is_scheduled(self) -> bool:
        """Waits for its time."""
        return self.type == "SCHEDULED"

    def is_final(self) -> bool:
        """Nothing more happens."""
        return self.type in TERMINAL_TYPES or is_terminal(self.type, self.name)

    def plain(self) -> State:
        """The state as the engine keeps it."""
        return self

    @also_awaited
    def result(self, raise_on_failure: bool = True) -> Any:
        """The value of a completed run; raises what ended it otherwise. In coroutines it may be awaited, as in Prefect.

        With ``raise_on_failure=False`` the exception is returned instead of raised.
        """
        return self.value_or_error(raise_on_failure)

    async def aresult(self, raise_on_failure: bool = True) -> Any:
        """Prefect's other name of ``await state.result()``."""
        return self.value_or_error(raise_on_failure)

    def value_or_error(self, raise_on_failure: bool = True) -> Any:
        """As ``result``, which looks at the code that calls it."""
        if self.is_completed():
            return self.data
        error = self.error if self.error is not None else self._as_error()
        if raise_on_failure:
            raise error
        return self._data if self.error is None and self._data is not _UNSET else error

    def _as_error(self) -> BaseException:
        text = self.message or f"the run is {self.name}"
        if self.type == "CRASHED":
            return RunCrashed(text)
        if self.name == "NotReady":
            return UpstreamFailed(text)
        return RunFailed(text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, State) and (self.type, self.name) == (other.type, other.name)

    def __hash__(self) -> int:
        return hash((self.type, self.name))

    def __repr__(self) -> str:
        return f"{self.name}({self.message!r})" if self.message else f"{self.name}()"


def Completed(*, data: Any = _UNSET, message: str | None = None, name: str | None = None) -> State:  # noqa: N802
    """A completed state to return from a flow or task; ``name`` may be any word."""
    return State("COMPLETED", name, message, data=data)


def Failed(*, data: Any = _UNSET, message: str | None = None, name: str | None = None) -> State:  # noqa: N802
    """A failed state to return from a flow or task."""
    error = data if isinstance(data, BaseException) else None
    return State("FAILED", name, message, data=data, error=error)


def Crashed(*, data: Any = _UNSET, message: str | None = None, name: str | None = None) -> State:  # noqa: N802
    """A crashed state to return from a flow or task."""
    return State("CRASHED", name, message, data=data, error=data if isinstance(data, BaseException) else None)


def Pending(*, message: str | None = None, name: str | None = None) -> State:  # noqa: N802
    """A state of something that has not begun; not one to end with."""
    return State("PENDING", name, message)


def Running(*, message: str | None = None, name: str | None = None) -> State:  # noqa: N802
    """A state of something that runs; not one to end with."""
    return State("RUNNING", name, message)


def Scheduled(*, message: str | None = None, name: str | None = None) -> State:  # noqa: N802
    """A state of something that waits for its time; not one to end with."""
    return State("SCHEDULED", name, message)


def Paused(*, message: str | None = None, name: str | None = None) -> State:  # noqa: N802
    """A state of something that is held; not one to end with: see ``pause_flow_run``."""
    return State("PAUSED", name, message)


class Cancelled(BaseException):
    """Raised inside user code when its run is cancelled, so that ``finally`` blocks and hooks run.

    Like ``KeyboardInterrupt`` it is no ``Exception``: ``except Exception`` does not swallow it. Returned from a task or
    flow it is Prefect's state of that name, ``return Cancelled(message="nothing to do")``: the run ends as Cancelled.
    """

    __module__ = "flowdeck"

    def __init__(self, *texts: object, message: str | None = None, name: str | None = None) -> None:
        super().__init__(*(texts or ((message,) if message is not None else ())))
        self.state_name = name

    def __getattr__(self, name: str) -> object:
        if name.startswith("_") or not hasattr(type(as_state(self)), name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(as_state(self), name)


def as_state(value: Any) -> Any:
    """A returned ``Cancelled(...)`` as the state it stands for; anything else as it is."""
    if issubclass(type(value), Cancelled):  # not isinstance: that asks a proxy for its __class__, which may raise
        return State("CANCELLED", value.state_name, str(value) or None)
    return value


def storable(text: Any) -> str:
    """A text as every database takes it: what is no character (a lone surrogate) stands as its number; no secrets."""
    if isinstance(text, BaseException):
        return describe_exception(text)
    plain = mask(str(text))
    return plain if plain.isascii() else plain.encode("utf-8", "backslashreplace").decode("utf-8")


def describe_exception(error: BaseException) -> str:
    """``TypeName: text`` in one line of at most 300 characters, even for an exception that cannot be printed."""
    try:
        text = str(error)
    except BaseException as broken:  # noqa: BLE001 - the user's __str__, be it that it calls sys.exit()
        text = f"<its text cannot be made: {type(broken).__name__}>"
    line = " ".join(storable(mask(text)[:600]).split())
    described = f"{type(error).__name__}: {line}" if line else type(error).__name__
    return described if len(described) <= 300 else described[:299] + "…"


def exit_call(error: SystemExit) -> str:
    """``sys.exit(3)``, whatever it was given."""
    code = error.code
    shown = repr(code) if code is None or isinstance(code, (int, str)) else f"<{type(code).__name__}>"
    return f"sys.exit({storable(shown[:200])})"


def aggregate(states: list[State]) -> State:
    """The state of a flow that returned states or futures: Prefect's rule and Prefect's words.

    Any cancelled makes it Cancelled, else any failed or crashed Failed ("2/3 states failed."), else Completed.
    """
    total = len(states)
    cancelled = sum(1 for s in states if s.type == "CANCELLED" and s.name != "Skipped")
    if cancelled:
        return State("CANCELLED", "Cancelled", f"{cancelled}/{total} states cancelled.", data=states)
    failed = [s for s in states if s.type in ("FAILED", "CRASHED") or s.name == "NotReady"]
    if failed:
        error = next((s.error for s in failed if s.error is not None), None)
        detail = next((s.message for s in failed if s.message), None)
        text = f"{len(failed)}/{total} states failed." + (f" First: {detail}" if detail else "")
        return State("FAILED", "Failed", text, data=states, error=error)
    if any(not s.is_final() for s in states):
        return State("RUNNING", None, "some states are not final.", data=states)
    return State("COMPLETED", None, "All states completed.", data=states)

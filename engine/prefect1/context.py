"""``context``: what the running code may ask about its run, under Prefect 1's names.

``context.today``, ``context.parameters``, ``context.get("task_loop_result", 0)``, ``with context(size=3): …``. Dates
are those the run was made for, so that a run that continues later still works on its own day.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from ..running.calls.frame import current_frame

if TYPE_CHECKING:
    from ..running.calls.frame import Frame

_added: ContextVar[dict[str, Any] | None] = ContextVar("flowdeck_context_values", default=None)
_MISSING: Final = object()


def _date(frame: Frame) -> datetime:
    from ...store.tables import runs

    session = frame.run.session
    row = session.read(lambda connection: runs.get(connection, session.root_id))
    at_us = row.due_at_us or row.scheduled_at_us or row.created_at_us if row is not None else 0
    return datetime.fromtimestamp(at_us / 1e6, UTC)


def _day(offset: int, template: str) -> Callable[[Frame], str]:
    return lambda frame: f"{_date(frame) + timedelta(days=offset):{template}}"


def _of_task(value: Callable[[Any], Any]) -> Callable[[Frame], Any]:
    return lambda frame: value(frame.task) if frame.task is not None else _MISSING


def _of_again(name: str) -> Callable[[Frame], Any]:
    def value(frame: Frame) -> Any:
        again = frame.task.again if frame.task is not None else None
        found = getattr(again, name, None)
        return _MISSING if again is None or found is None or (name == "result" and again.count is None) else found

    return value


_VALUES: Final[dict[str, Callable[[Any], Any]]] = {
    "date": _date,
    "scheduled_start_time": _date,
    "today": _day(0, "%Y-%m-%d"),
    "yesterday": _day(-1, "%Y-%m-%d"),
    "tomorrow": _day(1, "%Y-%m-%d"),
    "today_nodash": _day(0, "%Y%m%d"),
    "yesterday_nodash": _day(-1, "%Y%m%d"),
    "tomorrow_nodash": _day(1, "%Y%m%d"),
    "flow_name": lambda frame: frame.run.flow.name,
    "flow_run_id": lambda frame: frame.run.id,
    "flow_run_name": lambda frame: frame.run.name,
    "flow_run_count": lambda frame: frame.run.attempt,
    "parameters": lambda frame: dict(frame.run.parameters),
    "task_name": _of_task(lambda call: call.task.name),
    "task_slug": _of_task(lambda call: call.task.slug or call.key),
    "task_full_name": _of_task(lambda call: call.name),
    "task_run_name": _of_task(lambda call: call.name),
    "task_run_id": _of_task(lambda call: call.reference),
    "task_tags": _of_task(lambda call: set(call.task.tags)),
    "task_run_count": _of_task(lambda call: call.attempt - call.uncounted),
    "map_index": _of_task(lambda call: call.map_index if call.map_index is not None else _MISSING),
    "task_loop_count": _of_again("count"),
    "task_loop_result": _of_again("result"),
    "resume": _of_again("resumed"),
}


class Context:
    """The values of the run that the calling code belongs to; also read like a dict."""

    def __getattr__(self, name: str) -> Any:
        value = self.get(name, _MISSING)
        if value is _MISSING:
            where = "" if current_frame.get() is not None or name not in _VALUES else " outside a run"
            raise AttributeError(f"the context has no {name!r}{where}")
        return value

    def get(self, name: str, default: Any = None) -> Any:
        """The value of that name, or the default."""
        added = _added.get()
        if added is not None and name in added:
            return added[name]
        if name == "logger":
            return _logger()
        frame = current_frame.get()
        value = _VALUES[name](frame) if frame is not None and name in _VALUES else _MISSING
        return default if value is _MISSING else value

    def __getitem__(self, name: str) -> Any:
        value = self.get(name, _MISSING)
        if value is _MISSING:
            raise KeyError(name)
        return value

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name, _MISSING) is not _MISSING

    def keys(self) -> list[str]:
        """The names that have a value now."""
        return [name for name in dict.fromkeys([*(_added.get() or {}), *_VALUES, "logger"]) if name in self]

    def to_dict(self) -> dict[str, Any]:
        """All values."""
        return {name: self.get(name) for name in self.keys()}

    @contextmanager
    def __call__(self, *values: dict[str, Any], **more: Any) -> Iterator[Context]:
        """While inside, these values stand in the context as well."""
        merged = dict(_added.get() or {})
        for some in values:
            merged.update(some)
        token = _added.set({**merged, **more})
        try:
            yield self
        finally:
            _added.reset(token)

    def __repr__(self) -> str:
        return f"<Context {', '.join(self.keys())}>"


def _logger() -> Any:
    if current_frame.get() is None:
        return logging.getLogger("flowdeck")
    from ..sdk.logs import get_run_logger

    return get_run_logger()


context: Final = Context()
"""What users import."""

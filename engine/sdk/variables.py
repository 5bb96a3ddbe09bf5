"""``Variable``: named JSON values that flows, people and the command line share. Names and meanings are Prefect's.

A ``get`` reads what is there now, also in a run that is replayed: a variable is for what may change between attempts.
Have a task read it where all attempts must see the same. Every change is an event that names who made it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from ...store.connection import connect
from ...store.location import find_store
from ...store.opening import open_store
from ...store.rows import VariableRow
from ...store.tables import variables
from ..errors import NotAllowed, NotFound, UsageError
from ..running.calls.frame import current_frame
from ..running.effects.interrupts import engine_code
from ..secrets.masking import mask
from ..system.awaiting import also_awaited

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}\Z")


class Variable:
    """One variable as it was read. ``Variable.get("name")`` gives the value alone."""

    __module__ = "flowdeck"

    __slots__ = ("name", "tags", "value")

    def __init__(self, name: str, value: Any, tags: Iterable[str] = ()) -> None:
        self.name = name
        self.value = value
        self.tags = list(tags)

    def __repr__(self) -> str:
        return f"Variable({self.name!r}, {self.value!r})"

    @classmethod
    @also_awaited
    def get(cls, name: str, default: Any = None) -> Any:
        """The value now, or ``default`` where there is no such variable."""
        row = _read(name)
        return default if row is None else json.loads(row.value)

    @classmethod
    @also_awaited
    def set(cls, name: str, value: Any, tags: Iterable[str] | None = None, overwrite: bool = False) -> Variable:
        """Make a variable; one that exists is changed only with ``overwrite=True``."""
        listed = [str(tag) for tag in tags or ()]
        _control("set_variable", name, value, tags=listed, overwrite=overwrite)
        return cls(name, value, listed)

    @classmethod
    @also_awaited
    def unset(cls, name: str) -> bool:
        """Remove a variable; says whether there was one."""
        try:
            _control("unset_variable", name)
        except NotFound:
            return False
        return True

    @classmethod
    async def aget(cls, name: str, default: Any = None) -> Any:
        """``get`` to be awaited, for flows written so."""
        return cls.get(name, default)

    @classmethod
    async def aset(cls, name: str, value: Any, tags: Iterable[str] | None = None, overwrite: bool = False) -> Variable:
        """``set`` to be awaited."""
        return cls.set(name, value, tags, overwrite)

    @classmethod
    async def aunset(cls, name: str) -> bool:
        """``unset`` to be awaited."""
        return cls.unset(name)


def checked(name: str, value: Any) -> str:
    """The value as it is stored; raises for a name or a value that cannot be."""
    if not isinstance(name, str) or not _NAME.match(name):
        raise UsageError(f"a variable's name is made of letters, digits, dots, dashes and underscores, not {name!r}")
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"variable {name!r}: the value has no JSON form: {error}") from None
    if mask(text) != text:
        raise NotAllowed(f"variable {name!r}: the value holds a secret, which a variable would show to everybody")
    return text


def _read(name: str) -> VariableRow | None:
    frame = current_frame.get()
    with engine_code():
        if frame is not None:
            row: VariableRow | None = frame.run.session.read(lambda conn: variables.get(conn, name))
            return row
        folder = find_store()
        open_store(folder)
        connection = connect(folder, "state", readonly=True)
        try:
            return variables.get(connection, name)
        finally:
            connection.close()


def _control(what: str, *args: Any, **options: Any) -> None:
    from ..control.control import Control, actor

    frame = current_frame.get()
    with engine_code():
        folder = frame.run.session.folder if frame is not None else find_store()
        open_store(folder)
        control = Control(folder, actor=actor() if frame is None else f"run #{frame.run.id}")
        try:
            getattr(control, what)(*args, **options, run_id=frame.run.id if frame is not None else None)
        finally:
            control.close()

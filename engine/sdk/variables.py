"""``Variable``: named JSON values that flows, people and the command line share. Names and meanings are Prefect's.

A ``get`` reads what is there now, also in a run that is replayed: a variable is for what may change between attempts.
Have a task read it where all attempts must see the same. Every change is an event that names who made it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...store.rows import VariableRow
from ...store.tables import variables
from ..errors import NotFound
from ..running.calls.frame import current_frame
from ..system.actors import actor_name
from ..system.awaiting import also_awaited
from .placing import control_here, read

if TYPE_CHECKING:
    from ..control.control import Control


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
        with _control() as (control, run_id):
            control.set_variable(name, value, tags=listed, overwrite=overwrite, run_id=run_id)
        return cls(name, value, listed)

    @classmethod
    @also_awaited
    def unset(cls, name: str) -> bool:
        """Remove a variable; says whether there was one."""
        try:
            with _control() as (control, run_id):
                control.unset_variable(name, run_id=run_id)
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


def _read(name: str) -> VariableRow | None:
    return read(lambda conn: variables.get(conn, name))


@contextmanager
def _control() -> Iterator[tuple[Control, int | None]]:
    """The door with the number of the run that asks, if one does."""
    frame = current_frame.get()
    with control_here(actor_name("api") if frame is None else f"run #{frame.run.id}", makes_store=True) as control:
        yield control, None if frame is None else frame.run.id

"""What users' code writes, reads and asks wherever it is: by its run's connections, or outside of runs by its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, TypeVar

from ...store.alone import commit_alone, read_alone
from ...store.connection import Connection
from ...store.location import settled_store
from ...store.opening import open_store
from ..errors import NotFound
from ..running.calls.frame import current_frame
from ..running.effects.interrupts import engine_code
from ..secrets.secret import conceal_known
from ..system.actors import actor_name

if TYPE_CHECKING:
    from ..control.control import Control
    from ..running.calls.frame import Frame

T = TypeVar("T")


def know_secrets() -> None:
    """Outside of runs nobody has learnt yet what is to be masked: do so before a text is made storable."""
    if current_frame.get() is None:
        conceal_known()


def commit(work: Callable[[Connection], T]) -> T:
    """Do ``work`` in one transaction, durable on return."""
    frame = current_frame.get()
    with engine_code():
        return commit_alone(work) if frame is None else frame.run.session.writer.commit(work)


def read(query: Callable[[Connection], T]) -> T:
    """What is committed now, in the run's store or the one that is found."""
    frame = current_frame.get()
    with engine_code():
        return read_alone(query) if frame is None else frame.run.session.read(query)


@contextmanager
def control_here(actor: str, *, makes_store: bool = False) -> Iterator[Control]:
    """The one door on behalf of ``actor``, to the run's store or the one that is found; that may be made here."""
    from ..control.control import Control

    frame = current_frame.get()
    with engine_code():
        folder = settled_store() if frame is None else frame.run.session.folder
        if makes_store:
            open_store(folder)
        control = Control(folder, actor=actor)
        try:
            yield control
        finally:
            control.close()


def control_of(frame: Frame | None) -> AbstractContextManager[Control]:
    """The one door for code of a run, or for code outside of runs."""
    return control_here(actor_name("api" if frame is None else f"run #{frame.run.id}"))


def run_number(flow_run_id: int | str) -> int:
    """``42`` of 42, ``"42"`` and ``"#42"``."""
    text = str(flow_run_id).strip().removeprefix("#")
    if not text.isdecimal():
        raise NotFound(f"there is no run {flow_run_id!r}: runs are numbered")
    return int(text)

"""``concurrency`` and ``rate_limit``: a block, or a moment, that only so many may enter at once, over all processes.

Names and meanings are Prefect 3's; one name serves sync and async code. Slots belong to the process: they come free
when it dies, at once. Those who wait go first in, first out. Who would wait for ever, because those it waits for wait
for it, gets ``ConcurrencySlotAcquisitionError`` after some seconds. A limit is made with ``flowdeck limits set`` or the
functions below; a name without a limit limits nothing, unless ``strict``. A task that waits for tasks it submitted
keeps its slots meanwhile: give those it waits for limits of their own.
"""

from __future__ import annotations

import atexit
import sys
import threading
from collections.abc import Awaitable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...store.location import settled_store
from ...store.opening import open_store
from ...store.writer import Writer
from ..errors import UsageError
from ..running.calls.frame import Frame, current_frame, holding
from ..running.effects.effects import drive, drive_async
from ..running.effects.interrupts import engine_code
from ..running.effects.outside import OUTSIDE
from ..running.slots.queue import Keeper
from ..running.slots.requests import Ask
from ..running.slots.steps import take_steps
from ..states.state import storable
from ..system.actors import actor_name
from .placing import control_here

if TYPE_CHECKING:
    from ...store.rows import LimitRow
    from ..control.control import Control
    from ..running.effects.host import Host

_outside: dict[Path, Keeper] = {}
_outside_lock = threading.Lock()


class concurrency:  # noqa: N801 - Prefect's name
    """``with concurrency("db"):`` or ``async with``: inside, slots of every named limit are held.

    ``occupy`` slots of each; ``timeout_seconds`` and ``max_retries`` (seconds of waiting here, 0: do not wait) end the
    wait with ``AcquireConcurrencySlotTimeoutError``; ``strict`` refuses names without a limit. ``lease_duration`` is
    accepted and has nothing to do: slots last as long as their process.
    """

    __module__ = "flowdeck"

    def __init__(
        self,
        names: str | Iterable[str],
        occupy: int = 1,
        timeout_seconds: float | None = None,
        max_retries: int | None = None,
        lease_duration: float = 300,  # noqa: ARG002 - Prefect's; the process's life is the lease
        strict: bool = False,
        raise_on_lease_renewal_failure: bool | None = None,  # noqa: ARG002 - as above
    ) -> None:
        self._names = _listed("concurrency", names, occupy)
        self._occupy = occupy
        waits = [seconds for seconds in (timeout_seconds, max_retries) if seconds is not None]
        self._timeout = min(waits) if waits else None
        self._strict = strict
        self._asked: list[tuple[Keeper, Ask]] = []

    def __enter__(self) -> None:
        keeper, host, ask = self._ask()
        if ask is None:
            return
        try:
            with engine_code():
                ask = drive(host, take_steps(keeper, host, ask))
        except BaseException:
            keeper.give_back(ask)
            raise
        self._holds(keeper, ask)

    def __exit__(self, *_: object) -> None:
        with engine_code():
            self._give_back()

    async def __aenter__(self) -> None:
        keeper, host, ask = self._ask()
        if ask is not None:
            self._holds(keeper, await drive_async(host, take_steps(keeper, host, ask)))

    async def __aexit__(self, *_: object) -> None:
        self._give_back()

    def _holds(self, keeper: Keeper, ask: Ask) -> None:
        self._asked.append((keeper, ask))
        holding.set((*holding.get(), ask))

    def _give_back(self) -> None:
        if self._asked:
            keeper, ask = self._asked.pop()
            holding.set(tuple(held for held in holding.get() if held is not ask))
            keeper.give_back(ask)

    def _ask(self) -> tuple[Keeper, Host, Any]:
        return _request(self._names, self._occupy, "hold", self._timeout, self._strict)


def rate_limit(
    names: str | Iterable[str], occupy: int = 1, timeout_seconds: float | None = None, strict: bool = False
) -> Awaitable[None] | None:
    """Go on once every named limit has let this through: ``slots`` at once, then ``slot_decay_per_second``.

    In an async flow or task write ``await rate_limit(…)``.
    """
    listed = _listed("rate_limit", names, occupy)
    if _is_async_code():
        return _rate_limit_async(listed, occupy, timeout_seconds, strict)
    keeper, host, ask = _request(listed, occupy, "rate", timeout_seconds, strict)
    if ask is not None:
        with engine_code():
            drive(host, take_steps(keeper, host, ask))
    return None


async def _rate_limit_async(names: list[str], occupy: int, timeout: float | None, strict: bool) -> None:
    keeper, host, ask = _request(names, occupy, "rate", timeout, strict)
    if ask is not None:
        await drive_async(host, take_steps(keeper, host, ask))


def _is_async_code() -> bool:
    """Whether an async flow or task calls, or outside of runs a coroutine."""
    frame = current_frame.get()
    if frame is not None and not (frame.task.task if frame.task is not None else frame.run.flow).is_async:
        return False
    asyncio = sys.modules.get("asyncio")  # not loaded: no coroutine runs
    return asyncio is not None and asyncio._get_running_loop() is not None


def _listed(what: str, names: str | Iterable[str], occupy: int) -> list[str]:
    listed = [names] if isinstance(names, str) else list(names or ())
    for name in listed:
        if not isinstance(name, str) or not name or storable(name) != name:
            raise UsageError(f"{what}: a limit's name is a text, not {name!r}")
    if isinstance(occupy, bool) or not isinstance(occupy, int) or occupy < 1:
        raise UsageError(f"{what}: occupy is a whole number from 1, not {occupy!r}")
    return listed


def _request(
    names: list[str], occupy: int, kind: str, timeout: float | None, strict: bool
) -> tuple[Keeper, Host, Ask | None]:
    """Who keeps the slots here, and the request; None when there is nothing to ask for."""
    frame = current_frame.get()
    host: Host = frame.run.session if frame is not None else OUTSIDE
    with engine_code():
        keeper = host.keeper if frame is not None else _keeper_outside()
        if not names or (not strict and not keeper.any_exists(names)):
            return keeper, host, None
    if frame is not None and host.is_in_worker:
        host = OUTSIDE  # nothing of the run is there to pause or lend
    return keeper, host, Ask(names, occupy, kind=kind, timeout_seconds=timeout, strict=strict, who=_who(frame),
                             within=holding.get())


def _who(frame: Frame | None) -> tuple[int | None, int | None, str]:
    if frame is None:
        return None, None, actor_name("script")
    if frame.task is None:
        return frame.run.id, None, frame.run.name
    return frame.run.id, frame.task.seq, frame.task.name


def _keeper_outside() -> Keeper:
    """For code outside of runs: one keeper for each store, ended with the process."""
    folder = settled_store()
    with _outside_lock:
        keeper = _outside.get(folder)
        if keeper is None:
            open_store(folder)
            keeper = _outside[folder] = Keeper(folder, Writer(folder))
            atexit.register(_close, keeper)
        return keeper


def _close(keeper: Keeper) -> None:
    keeper.close()
    keeper.writer.close(timeout_seconds=1.0)


# ------------------------------------------------------------------------------------------------------ limits


def upsert_global_concurrency_limit_by_name(
    name: str, limit: int, slot_decay_per_second: float | None = None, active: bool = True
) -> None:
    """Make or change a limit; it holds at once, for everybody on this store."""
    with _control() as control:
        control.set_limit(name, limit, slot_decay_per_second, active=active)


def read_global_concurrency_limit_by_name(name: str) -> LimitRow:
    """One limit; ``NotFound`` when there is none."""
    with _control() as control:
        return control.limit(name)


def delete_global_concurrency_limit_by_name(name: str) -> None:
    """Remove a limit; who waited for it goes on."""
    with _control() as control:
        control.remove_limit(name)


def create_concurrency_limit(tag: str, concurrency_limit: int) -> None:
    """At most so many tasks with this tag run at once; 0 refuses them."""
    with _control() as control:
        control.set_limit(f"tag:{tag}", concurrency_limit)


def delete_concurrency_limit_by_tag(tag: str) -> None:
    """Tasks with this tag are not limited any more."""
    with _control() as control:
        control.remove_limit(f"tag:{tag}")


def _control() -> AbstractContextManager[Control]:
    return control_here(actor_name("api"), makes_store=True)

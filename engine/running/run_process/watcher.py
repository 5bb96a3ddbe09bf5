"""The background thread of a root run: timers, and what else is to be done every tick, one after another.

Timeouts and requests hang on this thread: whatever happens in one part of a tick, the others and the next tick come.
Nothing here may wait for user code.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from ....store.driver_errors import store_errors
from ....store.errors import StaleState, StoreLocked
from ...states.state import describe_exception
from .timers import Timers

if TYPE_CHECKING:
    from .session import Session

logger = logging.getLogger("flowdeck.engine")


class Watcher:
    """Calls its parts about every 40 ms, and whenever it is woken, until it is closed."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._wake = threading.Event()
        self.timers = Timers(self._wake.set)
        self._parts: tuple[Callable[[], None], ...] = ()
        self._closing = False
        self._trouble: str | None = None
        self._thread = threading.Thread(target=self._watch, name="flowdeck-watcher", daemon=True)

    def start(self, *parts: Callable[[], None]) -> None:
        """Begin to call these, in this order."""
        self._parts = parts
        self._thread.start()

    def wake(self) -> None:
        """Have the next tick come now."""
        self._wake.set()

    def close(self) -> None:
        """End after the tick under way; at once when it was never started."""
        self._closing = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _watch(self) -> None:
        while not self._closing:
            with suppress(BaseException):  # whatever it was is logged: a log handler of the user's may raise
                self._tick(self._call_timers)
                for part in self._parts:
                    self._tick(part)
            self._wake.wait(self.timers.seconds_left())
            self._wake.clear()

    def _call_timers(self) -> None:
        for callback in self.timers.take_due():
            self._tick(callback)

    def _tick(self, part: Callable[[], None]) -> None:
        """One part of a tick; whatever it raises, the thread goes on."""
        try:
            with store_errors(self._session.folder):
                part()
        except StaleState:
            self._session.requests.fence()
        except StoreLocked:
            # A moment's lock or a busy checkpoint; the next tick reads again.
            self._session.requests.look_again()
        except BaseException as error:  # noqa: BLE001 - a service tick: no descriptors left, a disk gone
            self._session.requests.look_again()
            if getattr(error, "errno", None) == errno.EBADF and not self._closing:
                self._session.ending.give_up_without_descriptors()
            if self._trouble != (trouble := describe_exception(error)):
                self._trouble = trouble
                logger.warning("the background thread of run #%d has trouble: %s", self._session.root_id, trouble)

"""Which flow files are being imported, and which come next: no file stands before another.

Twice as many load at once as there are processors: each waits for the daemon in between. One that takes long, or
computes nothing, gives way: others begin beside it. Who waits to hear what the files hold does not wait for such a one;
after a while it is said, and in the end it is ended. Nothing here waits, reads a clock or knows what a load finds.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from ...store.trust import objection_to_flow_file
from ..settings import import_limit_seconds
from ..system.loop import Loop
from .host import Host
from .served import Served

SAID_SECONDS: Final = 10.0
"""A load that takes longer is said, and a visible problem."""
AGAIN_SECONDS: Final = 1.0
"""After the machine could not start a host."""


class Loads:
    """The queue of files whose hosts are to be made."""

    def __init__(self, served: dict[str, Served], start: Callable[[Served], Host], loop: Loop,
                 say: Callable[[str], None]) -> None:
        self._served = served
        self._start = start
        self._loop = loop
        self._say = say
        self._queue: deque[Served] = deque()
        self._background: deque[Served] = deque()
        self._most = 2 * (os.cpu_count() or 1)
        self._limit_seconds = import_limit_seconds()
        self.on_long: Callable[[Served, str | None], None] = lambda *_: None
        """Nobody waits any longer to hear what a file holds; later, in words: its import takes long."""
        self.on_refused: Callable[[Served, str], None] = lambda *_: None
        """A file is not imported, and why."""

    def add(self, served: Served, *, first: bool = False) -> None:
        """Have its host made; ``first``: before those of others, also when it was in a queue already.

        What is known already is only looked at again, when nothing else is to be done.
        """
        if served.queued and first:
            for queue in (self._queue, self._background):
                if served in queue:
                    queue.remove(served)
                    self._queue.appendleft(served)
        elif not served.queued:
            served.queued = True
            if first:
                self._queue.appendleft(served)
            else:
                (self._background if served.is_known and not served.is_loaded else self._queue).append(served)
        self.start()

    def start(self) -> None:
        """Begin as many loads as there is room for."""
        loading = sum(served.loading is not None and not served.loading.gave_way for served in self._served.values())
        while self._queue and loading < self._most:
            if not self._begin(self._queue):
                break
            loading += 1
        if self._background and not loading:
            self._begin(self._background)

    def _begin(self, queue: deque[Served]) -> bool:
        """Start the first of a queue that is still wanted: says whether one was; where none can be, later."""
        while queue:
            served = queue.popleft()
            if self._served.get(served.path) is not served or not served.queued:
                continue
            why_not = why_not_imported(served.path)
            if why_not is not None:
                served.queued = False
                served.error = why_not
                self._loop.post(partial(self.on_refused, served, why_not))
                continue
            try:
                served.loading = self._start(served)
            except OSError as error:
                self._say(f"{served.path}: no code host can be started ({error.strerror}); trying again")
                queue.appendleft(served)
                self._loop.after(AGAIN_SECONDS, self.start)
                return False
            served.queued = False
            return True
        return False

    def look(self, served: Served, host: Host, now: float) -> None:
        """From time to time, at each file that is being imported."""
        was_long = host.is_long
        host.look_at_load(now)
        seconds = now - host.begun_at
        if seconds > self._limit_seconds:
            host.kill(f"{served.path}: its import did not end within {self._limit_seconds:g} s and was ended; "
                      "run the file by hand to see where it stands")
        elif served.again and host.gave_way:
            host.kill()
        if host.is_long and not was_long:
            self.on_long(served, None)
        if seconds > SAID_SECONDS and not host.is_said:
            host.is_said = True
            self.on_long(served, f"{served.path}: its import has not ended after {SAID_SECONDS:g} s; other files do "
                         f"not wait for it, and it is ended after {self._limit_seconds:g} s")


def why_not_imported(path: str) -> str | None:
    """Why a file is not to be run as the daemon's user; None when nobody but trusted users could have written it."""
    found = objection_to_flow_file(path)
    if found is None:
        return None
    what = f"it {found.reason}" if found.path == path else f"{found}"
    return (f"{path}: not imported, for whoever can write it has code run as the daemon's user: {what}. "
            f"{found.remedy}; or, where you trust them, set FLOWDECK_TRUST={os.path.dirname(path)}")

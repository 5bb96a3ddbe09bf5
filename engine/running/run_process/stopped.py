"""A run's process that was stopped in the midst of a transaction: what its guard does, so that nobody is held up.

Ctrl-Z waits for the end of a transaction by itself (``ending``); SIGSTOP, a frozen group or a stop by the terminal in
the background asks nobody. The process goes on for as long as it takes to let go of the store, and is stopped again.
"""

from __future__ import annotations

import signal
import time
from typing import Final

from ....store.connection import DATABASES, database_path
from ....store.lock_holder import lock_holder
from ...system import processes
from .wards import Ward

_LOOK_SECONDS: Final = 0.0005


def go_on_to_end_of_transaction(ward: Ward, longest_seconds: float) -> None:
    """Nothing where it holds no lock of its store."""
    pid = ward.process.pid
    for database in DATABASES:
        path = database_path(ward.folder, database)
        if not _holds(path, pid):
            continue
        ward.say(f"run #{ward.run_id} was stopped while it wrote to the store: it goes on until it has written")
        deadline = time.monotonic() + longest_seconds
        processes.send([pid], signal.SIGCONT)
        while _holds(path, pid) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        processes.send([pid], signal.SIGSTOP)


def _holds(path: str, pid: int) -> bool:
    holder = lock_holder(path)
    return holder is not None and holder.pid == pid

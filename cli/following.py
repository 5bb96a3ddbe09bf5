"""Being there until a run ends: for ``logs -f`` and ``submit --wait``. Its exit code is then that of the command.

Changes nothing of the run: interrupted, the command ends and the run goes on. While no daemon lives, what a dead
process left is settled on the way, so that nobody waits for a run that nobody has any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ..engine.errors import NotFound
from ..store.rows import RunRow
from ..store.states import is_terminal
from . import marks
from .events import POLL_SECONDS
from .formats import duration
from .opening import record_dead_runs
from .output import Output, one_line

if TYPE_CHECKING:
    from pathlib import Path

    from ..store.reader import Reader

_LOOK_FOR_DEATH_SECONDS: Final = 0.5
"""Without a daemon: how often to see whether the run's process still lives."""
_EXIT_CODES: Final = {"COMPLETED": 0, "CANCELLED": 130}


def until_end(
    folder: Path, reader: Reader, run: RunRow, out: Output, on_news: Callable[[], None],
    on_look: Callable[[], None] = lambda: None,
) -> RunRow:  # fmt: skip
    """Wait until the run has ended and its process is gone; returns it as it ended, ``NotFound`` when it was deleted.

    ``on_news`` is called at once and whenever something was written, the last time after the end, ``on_look`` whenever
    nothing was. A run that pauses, is
    suspended or crashes and is resumed has not ended.
    """
    from ..store.changes import ChangeFeed

    with ChangeFeed(folder) as feed:
        looked = time.monotonic()
        while True:
            now = reader.run(run.id)
            if now is None:
                raise NotFound(f"run #{run.id} was deleted while it was followed")
            ended = is_terminal(now.state_type) and reader.lease_of(run.root_id or run.id) is None
            on_news()
            if ended:
                return now
            while not feed.poll():
                out.check_reader()
                on_look()
                time.sleep(POLL_SECONDS)
                if time.monotonic() - looked > _LOOK_FOR_DEATH_SECONDS:
                    looked = time.monotonic()
                    record_dead_runs(folder, reader, out)
                    break


def exit_code(run: RunRow) -> int:
    """What ``flowdeck run`` would have ended with: 0 completed, 1 failed or crashed, 130 cancelled."""
    return _EXIT_CODES.get(run.state_type, 1)


def tell_end(run: RunRow, out: Output, *, here: bool) -> None:
    """How a run ended and what can be done about it, as talk; ``here``: it ran in this process."""
    mark = marks.glyph(run.state_type, run.state_name, unicode=out.unicode)
    span = "" if run.duration_us is None else f" after {duration(run.duration_us)}"
    because = f": {one_line(run.cause)}" if run.cause and run.state_type != "COMPLETED" else ""
    out.say(f"{mark} #{run.id} {one_line(run.flow_name)} {one_line(run.state_name)}{span}{because}",
            marks.style(run.state_type, run.state_name))
    if run.state_type == "PAUSED":
        out.say(f"what it waits for, and the command that answers it: `flowdeck show {run.id}`", "dim")
    if run.state_type in ("FAILED", "CRASHED"):
        retry = f"retry {'--here ' if here else ''}{run.root_id or run.id}"
        out.say(f"its tasks: `flowdeck show {run.id}`; again, from what did not complete: `flowdeck {retry}`", "dim")

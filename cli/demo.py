"""``demo``: the shipped examples under a real daemon, on a store of their own that goes away afterwards.

With a terminal it opens the console on them; ``--headless`` runs them for some seconds and sums up: exit code 0 only
when every flow ended as ``examples.EXPECTED`` says it should.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple

from ..engine.errors import NotAllowed, UsageError
from ..engine.system.dispositions import handle
from ..store.errors import StaleState
from ..store.opening import open_store
from ..store.reader import Reader
from ..store.rows import RunRow
from ..store.states import is_terminal
from . import marks
from .console import has_terminal, open_plain_console
from .daemon import start_daemon, stop_daemon
from .formats import duration, plural
from .listings import state_cell
from .opening import folder_of
from .output import Output
from .table import Cell, Column

DEFAULT_SECONDS: Final = 30.0
_KNOWN_SECONDS: Final = 20.0
"""How long the daemon may take to read the examples."""
_END_SECONDS: Final = 15.0
"""How long cancelled runs may take to end."""
_POLL_SECONDS: Final = 0.05

COLUMNS: Final = (
    Column("FLOW", min_width=8),
    Column("RUNS", "right"),
    Column("TASKS", "right"),
    Column("LAST ENDED"),
    Column("TOOK", "right", drop_order=1),
    Column("EXPECTED"),
    Column("WHY", min_width=12, drop_order=2),
)


class Summary(NamedTuple):
    """What became of one flow in the demo."""

    flow: str
    expected: str
    runs: list[RunRow]
    """Its runs that ended by themselves, newest first."""
    tasks: int

    @property
    def as_expected(self) -> bool:
        """Whether it ended at all, and every time as it should."""
        return bool(self.runs) and all(run.state_type == self.expected for run in self.runs)


def configure(command: str, parser: argparse.ArgumentParser) -> None:  # noqa: ARG001 - the module has one command
    """Define the arguments of ``demo``."""
    parser.add_argument("--headless", action="store_true", help="no console: run for a while, then sum up")
    parser.add_argument("--seconds", metavar="N", type=float, default=None,
                        help=f"how long a headless demo runs ({DEFAULT_SECONDS:.0f})")
    parser.add_argument("--keep", action="store_true", help="keep the demo's store, to look at afterwards")
    parser.set_defaults(handler=demo)


def demo(args: argparse.Namespace, out: Output) -> int:
    """Run the examples."""
    headless = args.headless or not has_terminal()
    if args.seconds is not None and not headless:
        raise UsageError("--seconds is for a demo without the console; add --headless")
    if args.seconds is not None and not 0 < args.seconds < float("inf"):
        raise UsageError(f"--seconds {args.seconds:g}: say how long in seconds, more than none")
    for number in (signal.SIGTERM, signal.SIGHUP):
        handle(number, _end)
    with _store(args, out) as folder, _daemon(folder, out):
        _trigger_each(folder)
        if not headless:
            return open_plain_console(folder, out)
        return _run_headless(folder, args.seconds or DEFAULT_SECONDS, out)


def _end(number: int, _frame: FrameType | None) -> None:
    # An exception, so that the daemon and the store of the demo go away on this way out, too.
    raise SystemExit(128 + number)


@contextmanager
def _store(args: argparse.Namespace, out: Output) -> Iterator[Path]:
    """The store somebody named, or one of its own, which is removed at the end unless it is to be kept."""
    if args.store:
        folder = folder_of(args)
        open_store(folder)
        out.say(f"demo on the store {folder}, which stays", "dim")
        yield folder
        return
    parent = Path(tempfile.mkdtemp(prefix="flowdeck-demo-"))
    folder = parent / "store"
    open_store(folder)
    fate = "it stays" if args.keep else "it goes away with the demo, runs and all"
    out.say(f"demo on a store of its own, {folder}: {fate}", "dim")
    try:
        yield folder
    finally:
        if args.keep:
            out.say(f"look at it again: flowdeck --store {folder}", "dim")
        else:
            shutil.rmtree(parent)


@contextmanager
def _daemon(folder: Path, out: Output) -> Iterator[None]:
    """A daemon on the packaged examples; at the end it and what it started are ended."""
    from .. import examples

    # Examples that keep a database of their own put it into the store's folder.
    os.environ["FLOWDECK_STORE"] = str(folder)
    process = start_daemon(folder, [os.path.dirname(os.path.abspath(examples.__file__))])
    try:
        yield
    finally:
        out.say("the demo ends: stopping its daemon and what still runs", "dim")
        stop_daemon(folder)
        process.wait()
        _cancel_all(folder)


def _cancel_all(folder: Path) -> None:
    """Nothing of a disposable demo outlives it."""
    from ..engine.control.control import Control, actor

    control = Control(folder, actor=actor(via="demo"))
    with Reader(folder) as reader:
        for run in reader.live_runs():
            if run.root_id is None:
                try:
                    control.cancel(run.id)
                except (NotAllowed, StaleState):
                    continue  # it ended meanwhile
        _wait_until(lambda: not any(lease.run_id for lease in reader.leases()), _END_SECONDS)


def _trigger_each(folder: Path) -> None:
    """Start each example at once, whatever its schedule says."""
    from ..engine.control.control import Control, actor
    from ..examples import EXPECTED

    control = Control(folder, actor=actor(via="demo"))
    missing = set(EXPECTED)

    def trigger_known() -> bool:
        for deployment in reader.deployments():
            if deployment.flow_name in missing:
                missing.discard(deployment.flow_name)
                control.trigger(deployment.name, {})
        return not missing

    with Reader(folder) as reader:
        _wait_until(trigger_known, _KNOWN_SECONDS)


def _wait_until(condition: Any, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _run_headless(folder: Path, seconds: float, out: Output) -> int:
    out.say(f"running the examples for {seconds:g} s …")
    last_id = 0
    deadline = time.monotonic() + seconds
    with Reader(folder) as reader:
        while time.monotonic() < deadline:
            last_id = _tell_endings(reader, last_id, out)
            time.sleep(_POLL_SECONDS)
        summaries = _sum_up(reader)
    if out.as_json:
        out.json_array(map(_summary_shape, summaries))
    else:
        out.table(COLUMNS, [_summary_cells(summary, out) for summary in summaries])
    wrong = [summary.flow for summary in summaries if not summary.as_expected]
    if wrong:
        out.complain(f"not as expected: {', '.join(wrong)}; look with --keep, or give --seconds more than {seconds:g}")
        return 1
    out.say(f"all {plural(len(summaries), 'flow')} ended as they should", "green")
    return 0


def _tell_endings(reader: Reader, last_id: int, out: Output) -> int:
    """A line for each run that ended since, so that nobody watches a silent terminal."""
    from ..examples import EXPECTED

    for event in reader.events(after_id=last_id):
        last_id = event.id
        ended = event.task_seq is None and event.to_type is not None and is_terminal(event.to_type)
        run = reader.run(event.run_id) if ended and event.run_id is not None else None
        if run is not None and run.root_id is None:
            mark = marks.glyph(event.to_type or "", event.to_name or "", unicode=out.unicode)
            meant = ", as it should" if EXPECTED.get(run.flow_name) == event.to_type != "COMPLETED" else ""
            out.say(f"{mark} #{run.id} {run.flow_name} {event.to_name}{meant}", marks.style(event.to_type or "", ""))
    return last_id


def _sum_up(reader: Reader) -> list[Summary]:
    from ..examples import EXPECTED

    summaries = []
    for flow, expected in EXPECTED.items():
        ended = [run for run in reader.runs(flow=flow, limit=1000) if is_terminal(run.state_type)]
        summaries.append(Summary(flow, expected, ended, sum(sum(reader.task_counts(run.id).values()) for run in ended)))
    return summaries


def _summary_cells(summary: Summary, out: Output) -> list[Cell]:
    last = summary.runs[0] if summary.runs else None
    return [
        out.cell(summary.flow, "bold"),
        Cell(str(len(summary.runs))),
        Cell(str(summary.tasks)),
        Cell("none yet", "yellow") if last is None else state_cell(last.state_type, last.state_name, out),
        Cell("" if last is None or last.duration_us is None else duration(last.duration_us), "dim"),
        Cell("as expected", "green") if summary.as_expected else Cell(f"expected {summary.expected}", "red"),
        out.cell("" if last is None or last.state_type == "COMPLETED" else last.cause, "dim"),
    ]


def _summary_shape(summary: Summary) -> dict[str, Any]:
    return {
        "flow": summary.flow,
        "runs": len(summary.runs),
        "tasks": summary.tasks,
        "states": [run.state_type for run in summary.runs],
        "expected": summary.expected,
        "as_expected": summary.as_expected,
    }

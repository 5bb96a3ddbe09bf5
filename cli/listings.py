"""``ls``, ``flows`` and ``schedules``: what is in the store, as a table for people or an array for programs."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

from ..engine.errors import UsageError
from ..store.rows import RunRow, ScheduleRow
from ..store.states import NAMES, is_terminal
from ..tui.text.times import ago, moment, with_ago, zone
from ..tui.text.waiting import Daemon, why
from . import marks
from .formats import duration, plural
from .opening import FILL_HINT, daemon_of, disk_trouble, folder_of, open_reader
from .output import Output
from .shapes import deployment_shape, run_shape, schedule_shape
from .table import Cell, Column

if TYPE_CHECKING:
    from ..store.reader import Reader

DEFAULT_LIMIT: Final = 50
_PAGE: Final = 500

RUN_COLUMNS: Final = (
    Column("RUN", "right"),
    Column("FLOW", min_width=10),
    Column("NAME", min_width=8, drop_order=1),
    Column("STATE"),
    Column("WHEN", "right", drop_order=3),
    Column("TOOK", "right"),
    Column("WHY", min_width=12, drop_order=2),
)
FLOW_COLUMNS: Final = (
    Column("FLOW", min_width=10),
    Column("LAST RUN"),
    Column("WHEN", "right"),
    Column("NEXT", "right"),
    Column("SCHEDULE", min_width=10, drop_order=2),
    Column("FILE", min_width=12, drop_order=1),
)
SCHEDULE_COLUMNS: Final = (
    Column("ID", "right"),
    Column("FLOW", min_width=10),
    Column("WHEN", min_width=10),
    Column("ZONE", drop_order=3),
    Column("NEXT", "right"),
    Column("LAST", "right", drop_order=2),
    Column("IF MISSED", drop_order=1),
    Column("IF STILL RUNNING", drop_order=1),
)
_IF_MISSED: Final = {"latest": "run the latest", "all": "run all", "none": "skip"}


def configure(command: str, parser: argparse.ArgumentParser) -> None:
    """Define the arguments of one of the three listings."""
    if command == "ls":
        parser.add_argument("--flow", metavar="NAME", help="runs of this flow only")
        parser.add_argument("--state", metavar="STATE", action="append", default=[],
                            help="a state's type or name, such as running, failed or late; may be repeated")
        parser.add_argument("--search", metavar="TEXT", help="runs whose name or flow holds this text")
        parser.add_argument("--subflows", action="store_true", help="runs inside other runs too")
        parser.add_argument("-n", "--limit", metavar="N", type=count_argument,
                            help=f"at most so many, 0 for all (a table shows {DEFAULT_LIMIT}, --json all)")
        parser.set_defaults(handler=list_runs)
    elif command == "flows":
        parser.set_defaults(handler=list_flows)
    else:
        parser.set_defaults(handler=list_schedules)


def list_runs(args: argparse.Namespace, out: Output) -> int:
    """Runs, newest first."""
    wanted = _wanted_states(args.state)
    reader = open_reader(args, out)
    runs = iter(()) if reader is None else _runs(reader, args, wanted)
    limit = args.limit if args.limit is not None else (0 if out.as_json else DEFAULT_LIMIT)
    if out.as_json:
        out.json_array(map(run_shape, islice(runs, limit or None)))
        return 0
    shown = list(islice(runs, limit or None))
    if not shown or reader is None:
        filtered = bool(args.flow or args.state or args.search)
        out.say("no run matches" if filtered and reader is not None else f"{folder_of(args)}: {FILL_HINT}")
        return 0
    now_us = time.time_ns() // 1000
    daemon, disk = daemon_of(reader), disk_trouble(reader.folder)
    out.table(RUN_COLUMNS, [_run_cells(run, reader.tries(run), now_us, daemon, disk, out) for run in shown])
    if next(runs, None) is not None:
        out.say(f"the newest {plural(len(shown), 'run')}; `flowdeck ls --limit 0` lists all", "dim")
    return 0


def count_argument(text: str) -> int:
    """A whole number from zero up, for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 up")
    return int(text)


def _wanted_states(words: list[str]) -> tuple[set[str], set[str]]:
    """State types and state names somebody asked for; raises ``UsageError`` for a word that is neither."""
    types: set[str] = set()
    names: set[str] = set()
    by_word: dict[str, str] = {name.lower(): name for group in NAMES.values() for name in group}
    for word in (part for text in words for part in text.split(",")):
        if word.upper() in NAMES:
            types.add(word.upper())
        elif (name := by_word.get(word.lower().replace("-", "").replace("_", ""))) is not None:
            names.add(name)
        else:
            raise UsageError(f"--state: no state {word!r}; states are {', '.join(NAMES).lower()}, and their names")
    return types, names


def _runs(reader: Reader, args: argparse.Namespace, wanted: tuple[set[str], set[str]]) -> Iterator[RunRow]:
    """All matching runs, read page by page."""
    types, names = wanted
    type_of = {name: kind for kind, group in NAMES.items() for name in group}
    states = types | {type_of[name] for name in names}
    before: int | None = None
    while True:
        page = reader.runs(flow=args.flow, states=sorted(states) or None, limit=_PAGE, before_id=before,
                           search=args.search, roots_only=not args.subflows)
        for run in page:
            if not states or run.state_type in types or run.state_name in names:
                yield run
        if len(page) < _PAGE:
            return
        before = page[-1].id


def _run_cells(
    run: RunRow, tries: int, now_us: int, daemon: Daemon, disk: str | None, out: Output
) -> list[Cell]:
    started = run.started_at_us if run.started_at_us is not None else run.scheduled_at_us
    return [
        Cell(f"#{run.id}", "bold"),
        out.cell(run.flow_name),
        out.cell(run.name, "dim"),
        state_cell(run.state_type, run.state_name, out),
        Cell(ago(started, now_us), "dim"),
        Cell(took(run, now_us), "dim" if is_terminal(run.state_type) else "cyan"),
        out.cell(reason(run, now_us, daemon, tries, disk), "red" if run.state_type in ("FAILED", "CRASHED") else "dim"),
    ]


def state_cell(state_type: str, state_name: str, out: Output) -> Cell:
    """Glyph and name in the state's colour."""
    mark = marks.glyph(state_type, state_name, unicode=out.unicode)
    return out.cell(f"{mark} {state_name}", marks.style(state_type, state_name))


def took(run: RunRow, now_us: int) -> str:
    """How long it ran, or has been running by the wall clock."""
    if run.state_type in ("RUNNING", "CANCELLING") and run.started_at_us is not None:
        return duration(now_us - run.started_at_us)
    return "" if run.duration_us is None else duration(run.duration_us)


def reason(run: RunRow, now_us: int, daemon: Daemon, tries: int = 1, disk: str | None = None) -> str:
    """Why it ended or what it waits for, in the console's words; of a run that was tried again also how often.

    ``disk`` is what keeps runs under way from recording anything.
    """
    is_under_way = run.state_type in ("PENDING", "RUNNING", "CANCELLING")
    parts = [disk if disk and is_under_way else "", why(run, now_us, daemon) if run.state_type != "COMPLETED" else "",
             f"try {tries}" if tries > 1 else ""]
    return "; ".join(part for part in parts if part)


def list_flows(args: argparse.Namespace, out: Output) -> int:
    """Flows the daemon can run by name; files it could not read are named on standard error."""
    reader = open_reader(args, out)
    deployments = [] if reader is None else reader.deployments()
    problems = {} if reader is None else {problem.path: problem for problem in reader.problems()}
    schedules: dict[str, list[ScheduleRow]] = {}
    last: dict[str, RunRow] = {}
    if reader is not None:
        for schedule in reader.schedules():
            schedules.setdefault(schedule.deployment, []).append(schedule)
        for deployment in deployments:
            newest = reader.runs(flow=deployment.flow_name, limit=1)
            if newest:
                last[deployment.name] = newest[0]
    if out.as_json:
        out.json_array(
            deployment_shape(
                deployment,
                [schedule_shape(schedule) for schedule in schedules.get(deployment.name, [])],
                problems.get(deployment.path),
                last.get(deployment.name),
            )
            for deployment in deployments
        )
    elif deployments:
        now_us = time.time_ns() // 1000
        rows = []
        for deployment in deployments:
            run = last.get(deployment.name)
            own = schedules.get(deployment.name, [])
            due = [s.next_due_at_us for s in own if s.active and s.next_due_at_us is not None]
            rows.append([
                out.cell(deployment.name, "bold"),
                Cell("never", "dim") if run is None else state_cell(run.state_type, run.state_name, out),
                Cell("" if run is None else ago(run.started_at_us or run.scheduled_at_us, now_us), "dim"),
                Cell(ago(min(due), now_us) if due else "", "cyan"),
                out.cell(", ".join(describe(schedule) for schedule in own)),
                out.cell(deployment.path, "dim"),
            ])
        out.table(FLOW_COLUMNS, rows)
    else:
        out.say("no flows yet: `flowdeck up PATH…` or `flowdeck daemon PATH…` reads them from your files")
    for problem in problems.values():
        out.complain(f"{problem.path} could not be read: {problem.error}")
    return 0


def list_schedules(args: argparse.Namespace, out: Output) -> int:
    """Schedules, soonest first."""
    reader = open_reader(args, out)
    schedules = [] if reader is None else sorted(reader.schedules(), key=_soonest_first)
    if out.as_json:
        out.json_array(schedule_shape(schedule) for schedule in schedules)
        return 0
    if not schedules:
        out.say("no schedules yet: write @flow(schedule=\"0 6 * * *\") and start `flowdeck up PATH…`")
        return 0
    now_us = time.time_ns() // 1000
    out.table(SCHEDULE_COLUMNS, [_schedule_cells(schedule, now_us, out) for schedule in schedules])
    out.say(f"NEXT is in {zone(now_us)}", "dim")
    if reader is not None and reader.daemon() is None:
        out.say("no daemon is running, so nothing starts by itself: `flowdeck up PATH…`", "yellow")
    return 0


def _schedule_cells(schedule: ScheduleRow, now_us: int, out: Output) -> list[Cell]:
    from ..engine.schedules.kinds import from_json

    found = from_json(schedule.spec)
    due_us = schedule.next_due_at_us
    if not schedule.active:
        due = Cell("paused", "yellow")
    elif due_us is None:
        due = Cell("never", "dim")
    else:
        due = Cell(with_ago(moment(due_us, now_us), due_us, now_us), "cyan" if due_us > now_us else "yellow")
    last_us = schedule.last_due_at_us
    return [
        Cell(str(schedule.id), "dim"),
        out.cell(schedule.deployment, "bold"),
        out.cell(found.describe()),
        out.cell(f"{getattr(found, 'timezone', 'UTC')}, {found.zone_source()}", "dim"),
        due,
        Cell("" if last_us is None else ago(last_us, now_us), "dim"),
        out.cell(_IF_MISSED.get(schedule.catchup, schedule.catchup)),
        out.cell(schedule.overlap.replace("_", " ")),
    ]


def _soonest_first(schedule: ScheduleRow) -> tuple[bool, int, str, int]:
    due_us = schedule.next_due_at_us
    return (not schedule.active or due_us is None, due_us or 0, schedule.deployment, schedule.id)


def describe(schedule: ScheduleRow) -> str:
    """When it fires, in words."""
    from ..engine.schedules.kinds import from_json

    return from_json(schedule.spec).describe()



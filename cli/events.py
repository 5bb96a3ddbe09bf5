"""``events``: the audit log: every transition, request and decision, with who made it; ``-f`` follows it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from ..store.rows import EventRow
from ..tui.text.times import localised, moment, zone
from . import marks
from .listings import count_argument
from .opening import find_run, folder_of, open_reader, require_reader
from .output import Output, one_line
from .shapes import event_shape

if TYPE_CHECKING:
    from ..store.reader import Reader

DEFAULT_LIMIT: Final = 50
POLL_SECONDS: Final = 0.03
"""Between two looks at the store's version; one look costs microseconds."""
_PAGE: Final = 1000


def configure(command: str, parser: argparse.ArgumentParser) -> None:  # noqa: ARG001 - the module has one command
    """Define the arguments of ``events``."""
    parser.add_argument("-f", "--follow", action="store_true", help="go on as events happen, until interrupted")
    parser.add_argument("--run", metavar="RUN", help="events of this run and its tasks only")
    parser.add_argument("--after", metavar="ID", type=count_argument, help="events after this one only")
    parser.add_argument("-n", "--limit", metavar="N", type=count_argument,
                        help=f"the last so many, 0 for all (people see {DEFAULT_LIMIT}, --json has all)")
    parser.set_defaults(handler=events)


def events(args: argparse.Namespace, out: Output) -> int:
    """Events in the order they happened."""
    reader = open_reader(args, out)
    if reader is None:
        if args.run is not None or args.follow:
            require_reader(args, out, "events")
        if out.as_json:
            out.json_array(())
        else:
            out.say(f"no events: there is no store at {folder_of(args)} yet", "dim")
        return 0
    run_id = None if args.run is None else find_run(reader, args.run).id
    limit = args.limit if args.limit is not None else (0 if out.as_json else DEFAULT_LIMIT)
    last_id = reader.last_event_id()
    past = _past(reader, run_id, args.after or 0, limit, last_id)
    if not args.follow:
        if out.as_json:
            out.json_array(map(event_shape, past))
        else:
            _print(past, out)
        return 0
    _print(past, out)
    out.flush()
    return _follow(args, run_id, last_id, out)


def _past(reader: Reader, run_id: int | None, after_id: int, limit: int, last_id: int) -> Iterator[EventRow]:
    """Events up to ``last_id``: all of them, or the last ``limit``."""
    if limit and run_id is None:
        after_id = max(after_id, last_id - limit)
    elif limit:
        ids = [event.id for event in _pages(reader, run_id, after_id, last_id)]
        if len(ids) > limit:
            after_id = ids[-limit] - 1
    return _pages(reader, run_id, after_id, last_id)


def _pages(reader: Reader, run_id: int | None, after_id: int, last_id: int) -> Iterator[EventRow]:
    while True:
        page = reader.events(after_id=after_id, limit=_PAGE, run_id=run_id)
        for event in page:
            if event.id > last_id:
                return
            yield event
        if len(page) < _PAGE:
            return
        after_id = page[-1].id


def _follow(args: argparse.Namespace, run_id: int | None, last_id: int, out: Output) -> int:
    from ..store.changes import ChangeFeed

    feed = ChangeFeed(folder_of(args), cursor=last_id)
    while True:
        changes = feed.poll()
        fresh = [event for event in changes.events if run_id is None or event.run_id == run_id]
        if fresh:
            _print(fresh, out)
            out.flush()
        out.check_reader()
        time.sleep(POLL_SECONDS)


def _print(found: Iterable[EventRow], out: Output) -> None:
    now_us = time.time_ns() // 1000
    for event in found:
        if out.as_json:
            out.json_line(event_shape(event))
            continue
        out.say_once(f"times: {zone(now_us)}", "dim")
        out.line(_event_line(event, now_us, out))


def _event_line(event: EventRow, now_us: int, out: Output) -> str:
    task = "" if event.task_seq is None else f"/{event.task_seq}"
    place = "" if event.run_id is None else f"#{event.run_id}{task}"
    if event.to_name is not None and event.to_type is not None:
        mark = marks.glyph(event.to_type, event.to_name, unicode=out.unicode)
        came = f" {out.paint(f'from {one_line(event.from_name)}', 'dim')}" if event.from_name else ""
        what = out.paint(f"{mark} {one_line(event.to_name)}", marks.style(event.to_type, event.to_name)) + came
    else:
        what = out.paint(event.kind, "magenta")
    message = f"  {localised(one_line(event.message), now_us)}" if event.message else ""
    return (f"{out.paint(moment(event.at_us, now_us, milliseconds=True), 'dim')}  {place:<9} {what}{message}"
            f"  {out.paint(one_line(event.actor), 'dim')}")

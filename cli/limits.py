"""``limits``: how many may do something at once, who does now and who waits; set, paused, resumed and removed here."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ..engine.errors import NotFound
from ..store.tables.usages import Usage, Who
from ..tui.text.times import ago
from .formats import iso, plural
from .opening import folder_of, open_reader
from .output import Output, one_line
from .table import Cell, Column

if TYPE_CHECKING:
    from ..engine.control.control import Control

COLUMNS: Final = (
    Column("LIMIT", min_width=10),
    Column("SLOTS", "right"),
    Column("TAKEN", "right"),
    Column("WAITING", "right"),
    Column("HELD BY", min_width=10, drop_order=1),
)
WHO_COLUMNS: Final = (Column(""), Column("WHO"), Column("SLOTS", "right"), Column("SINCE", "right"),
                      Column("NAME", min_width=8))
_ACTIONS: Final = ("ls", "show", "set", "pause", "resume", "rm")


def configure(command: str, parser: argparse.ArgumentParser) -> None:  # noqa: ARG001 - the module has one command
    """Define the arguments of ``limits``."""
    parser.description = (
        "How many may do something at once. NAME is what concurrency(\"NAME\") and rate_limit(\"NAME\") ask for, "
        "tag:NAME for tasks with a tag, flow:NAME for runs of a flow. Without words: all limits."
    )
    parser.add_argument("action", nargs="?", choices=_ACTIONS, default="ls", help="what to do")
    parser.add_argument("name", nargs="?", metavar="NAME", help="the limit's name")
    parser.add_argument("slots", nargs="?", metavar="N", type=_whole, help="with set: how many at once; 0 refuses all")
    parser.add_argument("--decay", metavar="PER_SECOND", type=float,
                        help="with set: slots taken by rate_limit that come back each second")
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace, out: Output) -> int:
    """List, show or change limits."""
    if args.action == "ls" and args.name is None:
        return _list(args, out)
    if args.name is None or (args.slots is None) == (args.action == "set"):
        from ..engine.errors import UsageError

        raise UsageError(f"flowdeck limits {args.action} NAME{' N' if args.action == 'set' else ''} is what to write")
    if args.action in ("ls", "show"):
        return _show(args, out)
    return _change(args, out)


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 up")
    return int(text)


def _change(args: argparse.Namespace, out: Output) -> int:
    from ..engine.control.control import Control, actor
    from ..store.opening import open_store

    folder = folder_of(args)
    open_store(folder)
    control = Control(folder, actor=actor(via="cli"))
    requests: dict[str, Callable[[Control], Any]] = {
        "set": lambda control: control.set_limit(args.name, args.slots, args.decay),
        "pause": lambda control: control.pause_limit(args.name),
        "resume": lambda control: control.resume_limit(args.name),
        "rm": lambda control: control.remove_limit(args.name),
    }
    try:
        outcome = requests[args.action](control)
    finally:
        control.close()
    if out.as_json:
        out.json_object({"limit": args.name, "request": args.action, "ok": True, "text": outcome.text})
    else:
        out.line(one_line(outcome.text))
    return 0


def _list(args: argparse.Namespace, out: Output) -> int:
    reader = open_reader(args, out)
    found = [] if reader is None else reader.limit_usages(time.time_ns() // 1000)
    if out.as_json:
        out.json_array(map(shape, found))
        return 0
    if not found:
        out.say("no limits; `flowdeck limits set NAME N` makes one")
        return 0
    out.table(COLUMNS, [_cells(usage, out) for usage in found])
    return 0


def _show(args: argparse.Namespace, out: Output) -> int:
    reader = open_reader(args, out)
    now_us = time.time_ns() // 1000
    found = [] if reader is None else reader.limit_usages(now_us)
    usage = next((one for one in found if one.name == args.name), None)
    if usage is None:
        raise NotFound(f"no limit {args.name!r}; `flowdeck limits` lists them, `flowdeck limits set {args.name} N` "
                       "makes it")
    if out.as_json:
        out.json_object(shape(usage))
        return 0
    decay = f", {usage.decay:g} a second come back" if usage.decay is not None else ""
    paused = "" if usage.active else ", paused: it holds nobody back"
    out.line(f"{out.paint(one_line(usage.name), 'bold')}  {usage.taken:g} of {plural(usage.slots, 'slot')}{decay}"
             f"{paused}")
    rows = [("holds", one) for one in usage.holders] + [("waits", one) for one in usage.waiting]
    if rows:
        out.table(WHO_COLUMNS, [
            [Cell(word, "green" if word == "holds" else "yellow"), out.cell(one.who), Cell(str(one.slots)),
             Cell(ago(one.since_us, now_us), "dim"), out.cell(one.name, "dim")] for word, one in rows])
    return 0


def shape(usage: Usage) -> dict[str, Any]:
    """A limit for programs."""
    return {
        "name": usage.name, "slots": usage.slots, "slot_decay_per_second": usage.decay, "active": usage.active,
        "taken": usage.taken, "holders": [_who_shape(one) for one in usage.holders],
        "waiting": [{**_who_shape(one), "position": place} for place, one in enumerate(usage.waiting, 1)],
    }


def _who_shape(one: Who) -> dict[str, Any]:
    return {**{key: value for key, value in one._asdict().items() if key != "since_us"}, "since": iso(one.since_us)}


def _cells(usage: Usage, out: Output) -> list[Cell]:
    slots = f"{usage.slots}" if usage.decay is None else f"{usage.slots} +{usage.decay:g}/s"
    taken = f"{usage.taken:g}" if usage.active else "paused"
    held = ", ".join(dict.fromkeys(one.who for one in usage.holders))
    style = "yellow" if usage.full else "dim" if not usage.active else ""
    return [out.cell(usage.name), Cell(slots), Cell(taken, style),
            Cell(f"{len(usage.waiting):,}" if usage.waiting else "", "yellow"), out.cell(held, "dim")]

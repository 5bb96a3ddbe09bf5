"""``limits``: how many may do something at once, who does now and who waits; set, paused, resumed and removed here."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..engine.errors import NotFound
from ..store.limits import Queue, holder_in_words, rate_used
from ..store.rows import LimitRow, RunRow, SlotRow
from .formats import ago, iso, plural
from .opening import folder_of, open_reader
from .output import Output, one_line
from .table import Cell, Column

if TYPE_CHECKING:
    from ..engine.control import Control
    from ..store.reader import Reader

COLUMNS: Final = (
    Column("LIMIT", min_width=10),
    Column("SLOTS", "right"),
    Column("TAKEN", "right"),
    Column("WAITING", "right"),
    Column("HELD BY", min_width=10, drop_order=1),
)
WHO_COLUMNS: Final = (Column(""), Column("WHO"), Column("SLOTS", "right"), Column("SINCE", "right"),
                      Column("NAME", min_width=8))
_RUNNING: Final = ("PENDING", "RUNNING", "CANCELLING", "PAUSED")
_ACTIONS: Final = ("ls", "show", "set", "pause", "resume", "rm")


class Usage(NamedTuple):
    """A limit and its use."""

    name: str
    slots: int
    decay: float | None
    active: bool
    taken: float
    holders: list[dict[str, Any]]
    waiting: list[dict[str, Any]]


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
    from ..engine.control import Control, actor
    from ..store.connection import open_store

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
    found = [] if reader is None else usages(reader)
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
    usage = next((one for one in ([] if reader is None else usages(reader)) if one.name == args.name), None)
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
    now_us = time.time_ns() // 1000
    rows = [("holds", one) for one in usage.holders] + [("waits", one) for one in usage.waiting]
    if rows:
        out.table(WHO_COLUMNS, [
            [Cell(word, "green" if word == "holds" else "yellow"), out.cell(one["who"]), Cell(str(one["slots"])),
             Cell(ago(one["since_us"], now_us), "dim"), out.cell(one["name"], "dim")] for word, one in rows])
    return 0


def usages(reader: Reader) -> list[Usage]:
    """Every limit with who uses it, those of flows by their runs."""
    now_us = time.time_ns() // 1000
    known = {limit.name: limit for limit in reader.limits()}
    found = [_usage(limit, reader.limit_queue(limit.name), now_us)
             for limit in known.values() if not limit.name.startswith("flow:")]
    of_flows = {f"flow:{row.name}": row.concurrency_limit for row in reader.deployments() if row.concurrency_limit}
    named = {name: limit for name, limit in known.items() if name.startswith("flow:")}
    if of_flows or named:
        live = reader.live_runs()
        for name in sorted({*of_flows, *named}):
            found.append(_flow_usage(name, named.get(name), of_flows.get(name), live))
    return sorted(found, key=lambda usage: usage.name)


def _usage(limit: LimitRow, queue: Queue, now_us: int) -> Usage:
    taken = queue.taken + rate_used(limit, now_us)
    return Usage(limit.name, limit.slots, limit.slot_decay_per_second, limit.active, round(taken, 3),
                 [_slot(row) for row in queue.holders if row.kind == "hold"], [_slot(row) for row in queue.waiting])


def _slot(row: SlotRow) -> dict[str, Any]:
    return {"who": holder_in_words(row), "run": row.run_id, "task": row.task_seq, "name": row.actor,
            "slots": row.occupy, "pid": row.pid, "host": row.host, "since_us": row.held_at_us or row.asked_at_us}


def _flow_usage(name: str, limit: LimitRow | None, own: int | None, live: Sequence[RunRow]) -> Usage:
    deployment = name.removeprefix("flow:")
    runs = [run for run in live if (run.deployment or run.flow_name) == deployment and run.root_id is None]
    holders = [_run(run) for run in runs if run.state_type in _RUNNING]
    waiting = [_run(run) for run in runs if run.state_name == "AwaitingSlot"]
    slots = limit.slots if limit is not None else own or 0
    return Usage(name, slots, None, limit is None or limit.active, len(holders), holders, waiting)


def _run(run: RunRow) -> dict[str, Any]:
    return {"who": f"#{run.id}", "run": run.id, "task": None, "name": run.name, "slots": 1, "pid": None, "host": None,
            "since_us": run.started_at_us or run.created_at_us}


def shape(usage: Usage) -> dict[str, Any]:
    """A limit for programs."""
    return {
        "name": usage.name, "slots": usage.slots, "slot_decay_per_second": usage.decay, "active": usage.active,
        "taken": usage.taken, "holders": [_who_shape(one) for one in usage.holders],
        "waiting": [{**_who_shape(one), "position": place} for place, one in enumerate(usage.waiting, 1)],
    }


def _who_shape(one: dict[str, Any]) -> dict[str, Any]:
    return {**{key: value for key, value in one.items() if key != "since_us"}, "since": iso(one["since_us"])}


def _cells(usage: Usage, out: Output) -> list[Cell]:
    slots = f"{usage.slots}" if usage.decay is None else f"{usage.slots} +{usage.decay:g}/s"
    taken = f"{usage.taken:g}" if usage.active else "paused"
    full = usage.active and usage.taken >= usage.slots
    held = ", ".join(dict.fromkeys(one["who"] for one in usage.holders))
    return [out.cell(usage.name), Cell(slots), Cell(taken, "yellow" if full else "dim" if not usage.active else ""),
            Cell(f"{len(usage.waiting):,}" if usage.waiting else "", "yellow"), out.cell(held, "dim")]

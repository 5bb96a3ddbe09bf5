"""``vars``: named JSON values that flows and people share; listed, read, set and removed here."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any, Final

from ..engine.errors import NotFound, UsageError
from ..store.rows import VariableRow
from ..tui.text.times import ago
from .formats import iso
from .opening import folder_of, open_reader
from .output import Output, one_line
from .table import Column

COLUMNS: Final = (
    Column("NAME", min_width=8),
    Column("VALUE", min_width=10),
    Column("TAGS", min_width=6, drop_order=1),
    Column("CHANGED", "right", drop_order=3),
    Column("BY", min_width=8, drop_order=2),
)
_ACTIONS: Final = ("ls", "get", "set", "rm")


def configure(command: str, parser: argparse.ArgumentParser) -> None:  # noqa: ARG001 - the module has one command
    """Define the arguments of ``vars``."""
    parser.add_argument("action", nargs="?", choices=_ACTIONS, default="ls", help="what to do")
    parser.add_argument("name", nargs="?", metavar="NAME", help="the variable's name")
    parser.add_argument("value", nargs="?", metavar="VALUE", help="with set: JSON, or else a text")
    parser.add_argument("--tag", metavar="TAG", action="append", help="with set: a tag; may be repeated")
    parser.add_argument("--new", action="store_true", help="with set: refuse to change one that exists")
    parser.set_defaults(handler=run)


def run(args: argparse.Namespace, out: Output) -> int:
    """List, read or change variables."""
    if args.action == "ls" and args.name is None:
        return _list(args, out)
    if args.name is None or (args.value is None) == (args.action == "set"):
        raise UsageError(f"flowdeck vars {args.action} NAME{' VALUE' if args.action == 'set' else ''} is what to write")
    return _get(args, out) if args.action in ("ls", "get") else _change(args, out)


def shape(row: VariableRow) -> dict[str, Any]:
    """A variable for programs."""
    return {
        "name": row.name, "value": json.loads(row.value), "tags": json.loads(row.tags),
        "created_at": iso(row.created_at_us), "updated_at": iso(row.updated_at_us), "actor": row.actor,
    }


def _list(args: argparse.Namespace, out: Output) -> int:
    reader = open_reader(args, out)
    rows = [] if reader is None else reader.variables()
    if out.as_json:
        out.json_array(map(shape, rows))
    elif not rows:
        out.say("no variables; `flowdeck vars set NAME VALUE` makes one")
    else:
        now_us = time.time_ns() // 1000
        out.table(COLUMNS, [
            [out.cell(row.name), out.cell(row.value), out.cell(", ".join(json.loads(row.tags)), "dim"),
             out.cell(ago(row.updated_at_us, now_us), "dim"), out.cell(row.actor, "dim")] for row in rows])
    return 0


def _get(args: argparse.Namespace, out: Output) -> int:
    reader = open_reader(args, out)
    row = None if reader is None else reader.variable(args.name)
    if row is None:
        raise NotFound(f"no variable {args.name!r}; `flowdeck vars` lists them")
    if out.as_json:
        out.json_object(shape(row))
        return 0
    value = json.loads(row.value)
    text = value if isinstance(value, str) else row.value
    out.line("\n".join(one_line(line) for line in text.split("\n")))
    return 0


def _change(args: argparse.Namespace, out: Output) -> int:
    from ..engine.control.control import Control, actor
    from ..store.opening import open_store

    folder = folder_of(args)
    open_store(folder)
    control = Control(folder, actor=actor(via="cli"))
    try:
        if args.action == "rm":
            outcome = control.unset_variable(args.name)
        else:
            outcome = control.set_variable(args.name, _value(args.value), tags=args.tag, overwrite=not args.new)
    finally:
        control.close()
    if out.as_json:
        out.json_object({"variable": args.name, "request": args.action, "ok": True, "text": outcome.text})
    else:
        out.line(one_line(outcome.text))
    return 0


def _value(text: str) -> Any:
    """JSON where it is JSON, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text

"""Input of runs on the command line: ``resume RUN -i name=value``, ``send RUN JSON``, and what ``show`` says is asked.

Values are read by the JSON schema of what was asked, so that ``-i count=3`` is a number where a number is wanted.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from ..engine.errors import InputError, NotAllowed
from ..store.rows import InputRow
from ..tui.text.times import stamp
from .formats import iso
from .opening import find_run_or_task, folder_of, require_reader
from .output import Output, one_line

if TYPE_CHECKING:
    from ..store.reader import Reader

_KIND_BY_TYPE: Final = {str: "str", bool: "bool", int: "int", float: "float", list: "list", dict: "dict"}


def add_input_options(parser: argparse.ArgumentParser) -> None:
    """Define ``-i`` and ``--input`` of ``resume``."""
    parser.add_argument("-i", metavar="NAME=VALUE", action="append", default=[], dest="fields",
                        help="a field of the input the run awaits; may be repeated")
    parser.add_argument("--input", metavar="JSON", help="the whole input as JSON")


def input_of(args: argparse.Namespace, question: InputRow | None) -> Any:
    """The input that was given for a question, None when none was; ``InputError`` names what cannot be read."""
    fields: Sequence[str] = getattr(args, "fields", ())
    whole: str | None = getattr(args, "input", None)
    if whole is None and not fields:
        return None
    if len(args.runs) > 1:
        raise InputError("input is for one run: resume them one by one")
    if question is None or question.json_schema is None:
        return {}  # refused by the one who knows why
    given = _json(whole) if whole is not None else {}
    if not fields:
        return given
    if not isinstance(given, dict):
        raise InputError("--input holds the whole input; with -i beside it, it must be a JSON object")
    return {**given, **_fields(fields, json.loads(question.json_schema))}


def _fields(given: Sequence[str], schema: dict[str, Any]) -> dict[str, Any]:
    from ..engine.encoding.json_schema import fields, from_text

    known = {field.name: field for field in fields(schema)}
    values: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"-i {text}: write -i NAME=VALUE; the fields are {', '.join(known)}")
        if name not in known:
            raise InputError(f"-i {name}: there is no such field; the fields are {', '.join(known)}")
        try:
            values[name] = from_text(known[name], value)
        except ValueError as wanted:
            raise InputError(f"-i {name}: {value!r} is not {wanted}") from None
    return values


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"{text!r} is not JSON ({error}); text is written with quotes: '\"yes\"'") from None


# ---------------------------------------------------------------------------------------------------- show


def question_lines(reader: Reader, run_id: int) -> list[tuple[str, str]]:
    """What a run asks, as facts: heading and text. The last one is the command that answers it."""
    found = reader.questions(run_id)
    if not found:
        return []
    from ..engine.control.questions import first_question

    first = first_question(found)
    assert first is not None
    facts = [("asks", line) for line in (first.description or "").splitlines() if line.strip()]
    if first.json_schema is not None:
        facts += _wanted(json.loads(first.json_schema))
    if first.until_us is not None:
        facts.append(("until", stamp(first.until_us, time.time_ns() // 1000)))
    if len(found) > 1:
        facts.append(("asks", f"{len(found) - 1} more after that"))
    facts.append(("answer", f"flowdeck resume {run_id}{_example(first)}"))
    return facts


def question_shape(question: InputRow) -> dict[str, Any]:
    """A question as JSON."""
    return {
        "run": question.run_id,
        "description": question.description,
        "schema": None if question.json_schema is None else json.loads(question.json_schema),
        "until": iso(question.until_us),
    }


def _wanted(schema: dict[str, Any]) -> list[tuple[str, str]]:
    from ..engine.encoding.json_schema import fields, kind_words

    facts = []
    for field in fields(schema):
        begun = f"default {json.dumps(field.default, ensure_ascii=False)}" if field.default is not None else "optional"
        need = "required" if field.required else begun
        about = f": {field.description}" if field.description else ""
        facts.append(("field", f"{field.name} ({kind_words(field)}, {need}){about}"))
    return facts


def _example(question: InputRow) -> str:
    if question.json_schema is None:
        return ""
    from ..engine.encoding.json_schema import fields

    needed = [field for field in fields(json.loads(question.json_schema)) if field.required]
    return "".join(f" -i {field.name}={_sample(field.kind, field.choices)}" for field in needed)


def _sample(kind: str, choices: tuple[Any, ...]) -> str:
    if choices:
        return str(choices[0])
    return {"boolean": "true", "integer": "1", "number": "1.5", "date": "2026-01-31", "datetime": "2026-01-31T08:00",
            "json": "'{}'"}.get(kind, "TEXT")


# ---------------------------------------------------------------------------------------------------- send


def configure(command: str, parser: argparse.ArgumentParser) -> None:  # noqa: ARG001 - the module has one command
    """Define the arguments of ``send``."""
    parser.add_argument("run", metavar="RUN", help="42, #42, a run's name or @last")
    parser.add_argument("value", metavar="JSON", help="the message: 3, true, '\"text\"', '{\"name\": \"Ada\"}'")
    parser.add_argument("--type", metavar="NAME", help="the type that receive_input() was given, as in `int` or "
                        "`Greeting`; by default the plain type of the value")
    parser.set_defaults(handler=send)


def send(args: argparse.Namespace, out: Output) -> int:
    """Put a message into the run's inbox."""
    reader = require_reader(args, out, f"run {args.run!r}")
    run, task = find_run_or_task(reader, args.run)
    if task is not None:
        raise NotAllowed(f"messages are for whole runs: `flowdeck send {run.id} JSON`")
    from ..engine.control.control import Control, actor

    value = _json(args.value)
    kind = args.type or _KIND_BY_TYPE.get(type(value))
    if kind is None:
        raise InputError("null is no message; say which type is meant with --type")
    body = value if args.type and isinstance(value, dict) else {"value": value}
    control = Control(folder_of(args), actor=actor(via="cli"))
    try:
        key = control.send(run.id, f"{kind.lower()}-auto", body)
    finally:
        control.close()
    if out.as_json:
        out.json_object({"run": run.id, "key": key, "type": kind})
    else:
        out.line(f"#{run.id}: sent, to be received as {one_line(kind)}")
    return 0

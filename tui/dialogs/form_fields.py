"""What a form asks and what was typed into it: texts in, values or problems out. Knows nothing of Textual.

The fields and the rules come from the JSON schema that the run asked with; control checks the same again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from ...engine.control.control import InputField
    from ...store.rows import InputRow

_NOTHING: Final = "none"
"""How the choice of no value is called."""


class Option(NamedTuple):
    """One value that can be chosen."""

    label: str
    value: Any


class Question(NamedTuple):
    """What a form is made of."""

    run_id: int
    """The root run, which is resumed with the answer."""
    request_id: int
    title: str
    description: str
    schema: dict[str, Any]
    more: int
    """How many questions come after this one."""


class Reading(NamedTuple):
    """What was typed, as it came out."""

    values: dict[str, Any]
    problems: dict[str, str]
    """By the field's name; by the empty name what belongs to none."""


def question_of(run_id: int, requests: list[InputRow]) -> Question | None:
    """The first of a run's questions that wants an answer; None when none does."""
    wanting = [request for request in requests if request.json_schema is not None]
    if not wanting:
        return None
    first = wanting[0]
    schema: dict[str, Any] = json.loads(first.json_schema or "{}")
    return Question(run_id, first.id, str(schema.get("title", "")), first.description or "", schema, len(wanting) - 1)


def fields_of(question: Question) -> list[InputField]:
    """Its fields, in order."""
    from ...engine.control import control

    return control.input_fields(question.schema)


def options_of(field: InputField) -> list[Option]:
    """What can be chosen, for a field that is not typed; empty for one that is."""
    options = [Option(str(choice), choice) for choice in field.choices]
    if not options and field.kind == "boolean":
        options = [Option("yes", True), Option("no", False)]
    if options and field.optional:
        options.append(Option(_NOTHING, None))
    return options


def first_text(field: InputField) -> str:
    """What a typed field holds at the beginning."""
    if not field.has_default or field.default is None:
        return ""
    return field.default if isinstance(field.default, str) else json.dumps(field.default, ensure_ascii=False)


def hint_of(field: InputField) -> str:
    """What a field takes, in a line."""
    from ...engine.control import control

    words = [] if options_of(field) else [control.kind_words(field)]
    if field.optional or not (field.required or field.has_default):
        words.append("optional")
    if field.description:
        words.append(field.description)
    return " · ".join(words)


def read(question: Question, typed: Mapping[str, str | Option | None]) -> Reading:
    """Values by name, and what is wrong with them. A field left empty keeps its default."""
    from ...engine.control import control

    values: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for field in fields_of(question):
        given = typed.get(field.name)
        if isinstance(given, Option):
            values[field.name] = given.value
        elif given is not None and not _is_left_out(field, given):
            try:
                values[field.name] = control.read_input(field, given)
            except ValueError as wanted:
                problems[field.name] = f"{given[:40]!r} is not {wanted}"
    for place, text in control.input_problems(values, question.schema):
        name = place.split(".")[0].split("[")[0]
        inside = place.removeprefix(name).lstrip(".")
        if name not in problems:
            problems[name] = f"{inside} {text}" if inside else text
    return Reading(values, problems)


def _is_left_out(field: InputField, text: str) -> bool:
    """Empty means the default, or that something is missing; of a text with a default it means no text."""
    if text.strip():
        return False
    return not (field.kind == "text" and field.has_default and isinstance(field.default, str))

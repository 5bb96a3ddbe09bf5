"""What fits a JSON schema, and what a person types for it: the part of JSON schema that pydantic writes.

Pure. ``problems`` names each field that does not fit; ``from_text`` reads what was typed for one field; ``fields``
is what a form is made of. A keyword that is not known here forbids nothing: the code's own model has the last word.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from datetime import date, datetime, time
from typing import Any, Final, NamedTuple

from ...store.patterns import Pattern, PatternError

Schema = dict[str, Any]
Problem = tuple[str, str]
"""The field, empty for the whole, and what is wrong with it."""

_OF_CODE: Final = frozenset({"type", "format", "$ref", "required", "pattern"})
"""Keywords whose texts are the code's own."""
_TYPE_WORDS: Final = {
    "string": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false",
    "object": "a JSON object", "array": "a JSON list", "null": "nothing",
}
_FORMATS: Final[dict[str, tuple[Callable[[str], Any], str]]] = {
    "date": (date.fromisoformat, "a date like 2026-01-31"),
    "date-time": (datetime.fromisoformat, "a time like 2026-01-31T08:00"),
    "time": (time.fromisoformat, "a time of day like 08:00"),
}
_TRUE: Final = frozenset({"true", "yes", "y", "on", "1"})
_FALSE: Final = frozenset({"false", "no", "n", "off", "0"})


class Field(NamedTuple):
    """One field of a form."""

    name: str
    title: str
    kind: str
    """``text``, ``integer``, ``number``, ``boolean``, ``choice``, ``date``, ``datetime`` or ``json``."""
    required: bool
    choices: tuple[Any, ...]
    default: Any
    """None when there is none."""
    has_default: bool
    optional: bool
    """Whether it may be nothing."""
    description: str


def fields(schema: Schema) -> list[Field]:
    """The fields of an object's schema, in their order."""
    required = schema.get("required", ())
    return [_field(name, part, schema, name in required) for name, part in schema.get("properties", {}).items()]


def _field(name: str, part: Schema, root: Schema, required: bool) -> Field:
    plain, optional = _without_null(part, root)
    choices = tuple(plain.get("enum", ())) or ((plain["const"],) if "const" in plain else ())
    return Field(
        name, str(part.get("title") or name.replace("_", " ").capitalize()), "choice" if choices else _kind(plain),
        required, choices, part.get("default"), "default" in part, optional,
        str(part.get("description") or plain.get("description", "")),
    )


def _kind(plain: Schema) -> str:
    by_type = {"integer": "integer", "number": "number", "boolean": "boolean"}
    if plain.get("type") == "string":
        return {"date": "date", "date-time": "datetime"}.get(plain.get("format", ""), "text")
    return by_type.get(plain.get("type", ""), "json")


def describe_fields(schema: Schema) -> str:
    """The fields and their kinds, for people: ``approve (true or false), note (text, optional)``."""
    words = []
    for field in fields(schema):
        words.append(f"{field.name} ({kind_words(field)}{'' if field.required else ', optional'})")
    return ", ".join(words) or "nothing"


def kind_words(field: Field) -> str:
    """What a field takes, for people: ``a whole number``, ``red or blue``."""
    return " or ".join(map(str, field.choices)) if field.choices else _KIND_WORDS[field.kind]


_KIND_WORDS: Final = {
    "text": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false",
    "date": "a date", "datetime": "a time", "json": "JSON",
}


def from_text(field: Field, text: str) -> Any:
    """What was typed for a field, as JSON data; ``ValueError`` says what was expected."""
    plain = text.strip()
    if not plain and field.optional and field.kind != "text":
        return None
    if field.kind == "choice":
        for choice in field.choices:
            if plain == str(choice) or plain == json.dumps(choice):
                return choice
        raise ValueError(f"one of {', '.join(map(str, field.choices))}")
    if field.kind == "boolean":
        if plain.lower() in _TRUE | _FALSE:
            return plain.lower() in _TRUE
        raise ValueError("true or false")
    if field.kind in ("text", "date", "datetime"):
        return text if field.kind == "text" else plain
    return _number_or_json(field.kind, plain)


def _number_or_json(kind: str, plain: str) -> Any:
    if kind == "json":
        try:
            return json.loads(plain)
        except ValueError:
            raise ValueError('JSON, like ["a", 1] or {"key": "text"}') from None
    try:
        number = int(plain) if kind == "integer" else float(plain)
    except ValueError:
        raise ValueError(_KIND_WORDS[kind]) from None
    if not math.isfinite(number):
        raise ValueError(_KIND_WORDS[kind])
    return number


# ------------------------------------------------------------------------------------------------- what fits


def problems(value: Any, schema: Schema) -> list[Problem]:
    """What does not fit, field by field; empty when all does."""
    return _check(value, schema, schema, "")


def _check(value: Any, schema: Schema, root: Schema, place: str) -> list[Problem]:
    schema = _resolve(schema, root)
    if "anyOf" in schema or "oneOf" in schema:
        return _check_any(value, schema.get("anyOf") or schema["oneOf"], root, place)
    found: list[Problem] = []
    for part in schema.get("allOf", ()):
        found += _check(value, part, root, place)
    if "enum" in schema or "const" in schema:
        choices = schema.get("enum", [schema.get("const")])
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            found.append((place, f"{_shown(value)} is not one of {', '.join(map(str, choices))}"))
        return found
    kind = schema.get("type")
    if kind is not None and not _is(value, kind):
        return [*found, (place, f"{_shown(value)} is not {_TYPE_WORDS.get(kind, kind)}")]
    if isinstance(value, dict):
        found += _check_object(value, schema, root, place)
    elif isinstance(value, list):
        found += _check_list(value, schema, root, place)
    elif isinstance(value, str):
        found += [(place, text) for text in _wrong_text(value, schema)]
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        found += [(place, text) for text in _wrong_number(value, schema)]
    return found


def _check_any(value: Any, parts: list[Schema], root: Schema, place: str) -> list[Problem]:
    tried = [_check(value, part, root, place) for part in parts]
    if not all(tried):
        return []
    # The nearest is the one that got the farthest into the value.
    nearest = max(tried, key=lambda found: max(len(at) for at, _ in found))
    if any(at != place for at, _ in nearest):
        return nearest
    kinds = [_resolve(part, root) for part in parts]
    if any(text for _, text in nearest if "is not" not in text):
        return nearest
    words = " or ".join(_words(part) for part in kinds)
    return [(place, f"{_shown(value)} is not {words}")]


def _words(schema: Schema) -> str:
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]][1]
    return _TYPE_WORDS.get(schema.get("type", ""), "what was asked for")


def _check_object(value: dict[str, Any], schema: Schema, root: Schema, place: str) -> list[Problem]:
    found: list[Problem] = []
    known = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            found.append((_join(place, name), "is needed"))
    others = schema.get("additionalProperties", True)
    for name, item in value.items():
        if name in known:
            found += _check(item, known[name], root, _join(place, name))
        elif isinstance(others, dict):
            found += _check(item, others, root, _join(place, name))
        elif others is False or (known and not place):
            found.append((_join(place, name), f"is not asked for; the fields are {', '.join(known) or 'none'}"))
    return found


def _check_list(value: list[Any], schema: Schema, root: Schema, place: str) -> list[Problem]:
    found: list[Problem] = []
    first = schema.get("prefixItems", [])
    for index, item in enumerate(value):
        part = first[index] if index < len(first) else schema.get("items")
        if isinstance(part, dict):
            found += _check(item, part, root, f"{place}[{index}]")
    if len(value) < schema.get("minItems", 0):
        found.append((place, f"has {len(value)} items, at least {schema['minItems']} are needed"))
    if len(value) > schema.get("maxItems", len(value)):
        found.append((place, f"has {len(value)} items, at most {schema['maxItems']} are allowed"))
    if schema.get("uniqueItems") and len({json.dumps(item, sort_keys=True) for item in value}) < len(value):
        found.append((place, "has an item twice"))
    return found


def _wrong_text(value: str, schema: Schema) -> list[str]:
    found = []
    if len(value) < schema.get("minLength", 0):
        found.append(f"is too short: at least {schema['minLength']} characters")
    if len(value) > schema.get("maxLength", len(value)):
        found.append(f"is too long: at most {schema['maxLength']} characters")
    pattern = schema.get("pattern")
    if pattern is not None and not _matches(pattern, value):
        found.append(f"does not match {pattern}")
    if schema.get("format") in _FORMATS:
        read, words = _FORMATS[schema["format"]]
        try:
            read(value)
        except ValueError:
            found.append(f"{_shown(value)} is not {words}")
    return found


def _matches(pattern: str, value: str) -> bool:
    try:
        return Pattern(pattern).search(value)
    except PatternError:
        return True  # Rust's syntax, which pydantic reads; the model has the last word


def _wrong_number(value: float, schema: Schema) -> list[str]:
    bounds: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
        ("minimum", lambda bound: value >= bound, "at least"), ("maximum", lambda bound: value <= bound, "at most"),
        ("exclusiveMinimum", lambda bound: value > bound, "more than"),
        ("exclusiveMaximum", lambda bound: value < bound, "less than"),
    )
    found = [
        f"must be {words} {schema[name]}" for name, fits, words in bounds if name in schema and not fits(schema[name])
    ]
    step = schema.get("multipleOf")
    if step and abs(value / step - round(value / step)) > 1e-9:
        found.append(f"must be a multiple of {step}")
    return found


def _is(value: Any, kind: str) -> bool:
    if kind == "integer":
        return (isinstance(value, int) and not isinstance(value, bool)) or (
            isinstance(value, float) and value.is_integer()
        )
    if kind == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    types = {"string": str, "boolean": bool, "object": dict, "array": list, "null": type(None)}
    return kind not in types or isinstance(value, types[kind])


def _resolve(schema: Schema, root: Schema) -> Schema:
    """Follow ``$ref`` into the root's definitions."""
    for _ in range(32):
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            break
        target: Any = root
        for step in reference.removeprefix("#/").split("/"):
            target = target.get(step, {}) if isinstance(target, dict) else {}
        schema = {**target, **{key: item for key, item in schema.items() if key != "$ref"}}
    return schema


def _without_null(part: Schema, root: Schema) -> tuple[Schema, bool]:
    """The schema of ``X`` in ``X | None``, and whether there was a None."""
    plain = _resolve(part, root)
    parts = [_resolve(one, root) for one in plain.get("anyOf", ())]
    others = [one for one in parts if one.get("type") != "null"]
    if parts and len(others) == 1:
        return others[0], len(parts) > 1
    if len(plain.get("allOf", ())) == 1:
        return _resolve(plain["allOf"][0], root), False
    return plain, len(others) < len(parts)


NAMED: Final = "secret-name"
"""The format of a text that names a secret; ``examples`` are the names that were known."""


def secret_texts(
    value: Any, schema: Schema, root: Schema | None = None, place: str = "", form: str = "password"
) -> Iterator[tuple[str, str]]:
    """The texts in a value that its type says are secret (pydantic's ``SecretStr``), each with its place.

    With ``form=NAMED`` those that name one.
    """
    root = schema if root is None else root
    part = _resolve(schema, root)
    if isinstance(value, str):
        if part.get("format") == form:
            yield place, value
    elif isinstance(value, dict):
        named, others = part.get("properties", {}), part.get("additionalProperties")
        for key, item in value.items():
            inner = named.get(key) or (others if isinstance(others, dict) else {})
            yield from secret_texts(item, inner, root, _join(place, str(key)), form)
    elif isinstance(value, (list, tuple, set, frozenset)):
        firsts = part.get("prefixItems", ())
        for number, item in enumerate(value):
            inner = firsts[number] if number < len(firsts) else part.get("items", {})
            known = inner if isinstance(inner, dict) else {}
            yield from secret_texts(item, known, root, _join(place, str(number)), form)
    for words in ("anyOf", "oneOf", "allOf"):
        for one in part.get(words, ()):
            yield from secret_texts(value, one, root, place, form)


def replaced(value: Any, found: dict[str, str]) -> Any:
    """The value with other texts in the place of these, at any depth."""
    if isinstance(value, str):
        return found.get(value, value)
    if isinstance(value, dict):
        return {key: replaced(item, found) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return type(value)(replaced(item, found) for item in value)
    return value


def has_secrets(schema: Schema, form: str = "password") -> bool:
    """Whether a value of this type may hold a text that is secret, or with ``form=NAMED`` one that names a secret."""
    return f'"format": "{form}"' in json.dumps(schema)


def concealed(schema: Any, mask: Callable[[str], str]) -> Any:
    """A schema that may be stored: no secret in its texts and values to begin with; its keys are those of the code."""
    if isinstance(schema, dict):
        is_secret = schema.get("format") == "password"
        return {
            key: value if key in _OF_CODE else concealed(value, mask) for key, value in schema.items()
            if not (is_secret and key in ("default", "examples", "const", "enum"))
        }  # fmt: skip
    if isinstance(schema, list):
        return [concealed(part, mask) for part in schema]
    return mask(schema) if isinstance(schema, str) else schema


def names_known(schema: Any) -> set[str]:
    """The names of secrets that were known where the schema was made, wherever it takes one."""
    if isinstance(schema, list):
        return {name for part in schema for name in names_known(part)}
    if not isinstance(schema, dict):
        return set()
    own = schema.get("examples", ()) if schema.get("format") == NAMED else ()
    return {*own, *(name for part in schema.values() for name in names_known(part))}


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:59] + "…"

"""``-p name=value``: values are JSON where they read as JSON, else plain text; what takes text gets it as it was typed.

Pure.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ..engine.errors import ParameterError


def add_parameter_option(parser: argparse.ArgumentParser) -> None:
    """Define ``-p``."""
    parser.add_argument("-p", "--param", metavar="NAME=VALUE", action="append", default=[],
                        help="a parameter: JSON where it reads as JSON (3, true, [1, 2]), else text; may be repeated")


def parse_parameters(given: Sequence[str], schema: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """The values by name; raises ``ParameterError`` for what is no ``name=value``.

    ``schema`` gives the JSON schema of the parameters; it is asked only when a value could be meant as text.
    """
    values: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name.isidentifier():
            raise ParameterError(f"-p {text}: write -p NAME=VALUE, as in -p retries=3 or -p city=Oslo")
        if name in values:
            raise ParameterError(f"-p {name} is given twice; keep one of them")
        read = _read(value)
        if not isinstance(read, str) or isinstance(read, _Number):
            wanted = schema().get("properties", {}).get(name, {})
            read = _meant(read, wanted, wanted, value)
        values[name] = read
    return values


class _Number(str):
    """A number as it was typed: which digits of it count is for the parameter's type to say."""

    __slots__ = ()

    @property
    def value(self) -> int | float:
        """As JSON means it."""
        number: int | float = json.loads(self)
        return number

    @property
    def keeps_digits(self) -> bool:
        """Whether the number, written again, is what was typed."""
        return repr(self.value) == str(self)


def _read(text: str) -> Any:
    """JSON where it is that, its numbers as they were typed; else the text."""
    try:
        return json.loads(text, parse_constant=_no_constant, parse_int=_Number, parse_float=_Number)
    except (ValueError, RecursionError):
        return text


def _no_constant(word: str) -> Any:
    # Python reads NaN and Infinity, JSON does not know them.
    raise ValueError(word)


def _meant(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], text: str) -> Any:
    """The value that was typed, as its type takes it: text wherever that takes text and not the other kind."""
    parts = _alternatives(schema, root)
    kinds = {part.get("type") for part in parts}
    takes_text = "string" in kinds
    if isinstance(value, _Number):
        is_whole = isinstance(value.value, int)
        fits = "number" in kinds or (is_whole and "integer" in kinds)
        return str(value) if takes_text and not (fits and value.keeps_digits) else value.value
    if isinstance(value, list):
        items: Mapping[str, Any] = next((part.get("items", {}) for part in parts if part.get("type") == "array"), {})
        if takes_text and "array" not in kinds:
            return text
        return [_meant(each, items, root, json.dumps(each)) for each in value]
    if isinstance(value, dict):
        holder = next((part for part in parts if part.get("type") == "object"), {})
        if takes_text and "object" not in kinds:
            return text
        return {key: _meant(each, _schema_of(holder, key), root, json.dumps(each)) for key, each in value.items()}
    if isinstance(value, str):
        return value
    kind = "null" if value is None else "boolean"
    return text if takes_text and kind not in kinds else value


def _schema_of(holder: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    more = holder.get("additionalProperties")
    found: Mapping[str, Any] = holder.get("properties", {}).get(key) or (more if isinstance(more, dict) else {})
    return found


def _alternatives(schema: Mapping[str, Any], root: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a value may be, one by one; references within the parameter's own schema are followed."""
    if isinstance(reference := schema.get("$ref"), str):
        found = root.get("$defs", {}).get(reference.rpartition("/")[2], {})
        return _alternatives(found, root) if found is not schema else []
    parts = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    return [each for part in parts for each in _alternatives(part, root)] if parts else [schema]


def check_values(values: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Raise ``ParameterError`` for what the flow's own hints would refuse, as far as its stored schema tells."""
    for name, value in values.items():
        wanted = schema.get("properties", {}).get(name, {})
        problem = _problem(value, wanted, wanted)
        if problem is not None:
            raise ParameterError(f"parameter {name!r}: {problem}; give -p {name}=VALUE")


_SCALARS: Final = {"integer": "whole number", "number": "number", "boolean": "truth value (true or false)"}
_TRUTH_WORDS: Final = frozenset({"true", "false", "1", "0", "yes", "no", "on", "off", "t", "f", "y", "n"})


def _problem(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> str | None:
    """Why no alternative takes the value; None when one does, or may."""
    reasons = [_problem_of_one(value, part, root) for part in _alternatives(schema, root)]
    return None if not reasons or None in reasons else reasons[0]


def _problem_of_one(value: Any, part: Mapping[str, Any], root: Mapping[str, Any]) -> str | None:
    wanted = part.get("type")
    choices = part.get("enum") or ([part["const"]] if "const" in part else None)
    if choices is not None:
        return None if value in choices else f"{value!r} is none of {', '.join(map(repr, choices))}"
    if wanted in _SCALARS:
        return None if _fits(value, wanted) else f"{value!r} is no {_SCALARS[wanted]}"
    if wanted == "null":
        return None if value is None else f"{value!r} is not null"
    if wanted == "array" and isinstance(value, list):
        found = (_problem(item, part.get("items", {}), root) for item in value)
        return next((problem for problem in found if problem is not None), None)
    if wanted == "array" and isinstance(value, str | int | float | bool):
        return f"{value!r} is no list, as [1, 2]"
    return None


def _fits(value: Any, wanted: str) -> bool:
    if wanted == "boolean":
        return isinstance(value, bool) or str(value).lower() in _TRUTH_WORDS
    if not isinstance(value, (str, int, float)):
        return False
    try:
        number = float(value)
    except ValueError:
        return False
    return wanted == "number" or number.is_integer()

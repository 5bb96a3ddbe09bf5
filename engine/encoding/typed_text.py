"""Values of parameters as a person typed them: JSON where it reads as JSON, the very text where text is taken.

Every place where parameters are typed (``-p``, the console) reads them here, by the JSON schema of what takes them.
Pure.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from typing import Any, Final

from ..errors import ParameterError


class TypedValues(dict[str, Any]):
    """Values by name, read without a schema, that know how they were typed: who has the schema asks what they mean."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        super().__init__({name: read_typed(text, {}) for name, text in texts.items()})
        self.texts = dict(texts)

    def but(self, names: Container[str]) -> TypedValues:
        """Without these."""
        return TypedValues({name: text for name, text in self.texts.items() if name not in names})

    def meant(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """As the parameters with this schema take them; raises ``ParameterError`` for what they would refuse."""
        known = schema.get("properties", {})
        values = {name: read_typed(text, known.get(name, {})) for name, text in self.texts.items()}
        check_values(values, schema)
        return values


def read_typed(text: str, schema: Mapping[str, Any]) -> Any:
    """One value, as a parameter with this schema takes it."""
    return _meant(_read(text), schema, schema, text)


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
            raise ParameterError(f"parameter {name!r}: {problem}; give {name}=VALUE")


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

"""``-p name=value``: values are JSON where they read as JSON, else plain text; a text parameter keeps its text.

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
        values[name] = _value(value)
        if not isinstance(values[name], str) and _is_text(schema().get("properties", {}).get(name, {})):
            values[name] = value
    return values


def _is_text(parameter: Mapping[str, Any]) -> bool:
    """Whether a parameter takes text and nothing else: then ``-p zip=98101`` means the text."""
    return parameter.get("type") == "string" and "format" not in parameter


def check_scalars(values: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Raise ``ParameterError`` for a number or truth value that cannot be one; the rest the flow's own hints check."""
    for name, value in values.items():
        wanted = schema.get("properties", {}).get(name, {}).get("type")
        if wanted in _SCALARS and not _fits(value, wanted):
            raise ParameterError(f"parameter {name!r}: {value!r} is no {_SCALARS[wanted]}; give -p {name}=VALUE")


_SCALARS: Final = {"integer": "whole number", "number": "number", "boolean": "truth value (true or false)"}
_TRUTH_WORDS: Final = frozenset({"true", "false", "1", "0", "yes", "no", "on", "off", "t", "f", "y", "n"})


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


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text


def _no_constant(word: str) -> Any:
    # Python reads NaN and Infinity, JSON does not know them.
    raise ValueError(word)

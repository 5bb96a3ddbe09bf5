"""``-p name=value``: values are JSON where they read as JSON, else plain text; what takes text gets it as it was typed.

Pure.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..engine.encoding.typed_text import TypedValues, check_values, read_typed
from ..engine.errors import ParameterError

__all__ = ["add_parameter_option", "check_values", "parse_parameters"]


def add_parameter_option(parser: argparse.ArgumentParser) -> None:
    """Define ``-p``."""
    parser.add_argument("-p", "--param", metavar="NAME=VALUE", action="append", default=[],
                        help="a parameter: JSON where it reads as JSON (3, true, [1, 2]), else text; may be repeated")


def parse_parameters(given: Sequence[str], schema: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """The values by name; raises ``ParameterError`` for what is no ``name=value``.

    ``schema`` gives the JSON schema of the parameters; it is asked only when a value could be meant as text.
    """
    values: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name.isidentifier():
            raise ParameterError(f"-p {text}: write -p NAME=VALUE, as in -p retries=3 or -p city=Oslo")
        if name in values:
            raise ParameterError(f"-p {name} is given twice; keep one of them")
        values[name] = value
    plain = TypedValues(values)
    if all(isinstance(value, str) for value in plain.values()):
        return dict(plain)
    known = schema().get("properties", {})
    return {name: read_typed(value, known.get(name, {})) for name, value in values.items()}

"""Statements with ``?1`` on every Python: 3.12.0 to 3.12.3 warn of them when their values are a sequence.

CPython took a numbered place for a named one there (mended in 3.12.4); a warning that is an error would end a run. On
those versions values go in under the numbers as names, which every version takes. Elsewhere nothing imports this.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class NamingConnection(sqlite3.Connection):
    """Gives numbered places their values by name."""

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """As the driver's."""
        return super().execute(sql, by_name(parameters) if "?1" in sql else parameters)

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        """As the driver's."""
        return super().executemany(sql, map(by_name, parameters) if "?1" in sql else parameters)


def by_name(parameters: Sequence[Any] | Mapping[str, Any]) -> Mapping[str, Any]:
    """Values of a statement by the numbers of their places."""
    if isinstance(parameters, Mapping):
        return parameters
    return {str(number): value for number, value in enumerate(parameters, 1)}

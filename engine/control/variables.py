"""Variables: named JSON values, set and removed within ``Control``'s transactions."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

from ...store.connection import Connection
from ...store.tables import variables
from ..errors import NotAllowed, NotFound, UsageError, VariableExists
from ..secrets.masking import mask
from ..system.clock import now_us

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}\Z")


def checked(name: str, value: Any) -> str:
    """The value as it is stored; raises for a name or a value that cannot be."""
    if not isinstance(name, str) or not _NAME.match(name):
        raise UsageError(f"a variable's name is made of letters, digits, dots, dashes and underscores, not {name!r}")
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"variable {name!r}: the value has no JSON form: {error}") from None
    if mask(text) != text:
        raise NotAllowed(f"variable {name!r}: the value holds a secret, which a variable would show to everybody")
    return text


def put(
    conn: Connection, name: str, text: str, tags: Sequence[str] | None, *, overwrite: bool, actor: str,
    run_id: int | None,
) -> None:  # fmt: skip
    """Make it or, with ``overwrite``, change it; without tags it keeps those it has."""
    known = variables.get(conn, name)
    if known is not None and not overwrite:
        raise VariableExists(f"variable {name!r} exists; change it with overwrite=True")
    keeps_tags = known is not None and tags is None
    kept = known.tags if keeps_tags and known else json.dumps(list(tags or ()), ensure_ascii=False)
    variables.put(conn, name, text, kept, at_us=now_us(), actor=actor, run_id=run_id)


def remove(conn: Connection, name: str, folder: object, *, actor: str, run_id: int | None) -> None:
    """Remove it; ``NotFound`` where there is none."""
    if not variables.delete(conn, name, at_us=now_us(), actor=actor, run_id=run_id):
        raise NotFound(f"no variable {name!r} in {folder}")

"""The questions of a run as rows: what is asked, in words, which is answered next, and what time answers.

Asking and waiting for the answer is the running code's; nothing here needs it.
"""

from __future__ import annotations

import json
from typing import Final

from ...store.connection import Connection
from ...store.rows import InputRow
from ...store.tables import events, inputs
from ..system.clock import in_words, now_us

EXPIRED: Final = "nobody answered in time"
"""What stands as the description of a response that time gave."""
_TITLE_CHARACTERS: Final = 100


def first_question(requests: list[InputRow]) -> InputRow | None:
    """The one to answer next: the oldest that wants an answer, else the oldest."""
    ordered = sorted(requests, key=lambda request: (request.json_schema is None, request.id))
    return ordered[0] if ordered else None


def title_of(request: InputRow) -> str:
    """What is asked, in one line: the first line of its description, else its model's name and fields."""
    for line in (request.description or "").splitlines():
        if plain := line.strip().lstrip("#>*-").strip(" *_`"):
            return plain if len(plain) <= _TITLE_CHARACTERS else plain[: _TITLE_CHARACTERS - 1] + "…"
    if request.json_schema is None:
        return ""
    from ..encoding.json_schema import fields, kind_words

    schema = json.loads(request.json_schema)
    found = fields(schema)
    names = [field.name for field in found]
    if names == ["value"]:
        return kind_words(found[0])
    return f"{schema.get('title', 'input')} ({', '.join(names[:6])})"


def words_of(request: InputRow) -> str:
    """What a run waits for, as its cause: ``awaiting input: approve deploy?``."""
    title = title_of(request)
    if request.json_schema is None:
        text = f"paused by its code: {title}" if title else "paused by its code; waits to be resumed"
    else:
        text = f"awaiting input: {title}"
    if request.until_us is not None:
        text += f" (until {in_words(request.until_us)})"
    return text


def left_us(wait: InputRow, at_us: int) -> int:
    """How much of a durable wait is left: never more than it was given, though the clock was set back since."""
    assert wait.until_us is not None
    return max(0, min(wait.until_us - at_us, wait.until_us - wait.created_at_us))


def expire(conn: Connection, root_id: int, request: InputRow) -> bool:
    """Time answers a request that nobody did; says whether the run is free to go on."""
    if inputs.newest(conn, request.run_id, request.key, "response") is None:
        at_us = now_us()
        inputs.insert(
            conn, request.run_id, request.key, "response", sender="engine", at_us=at_us, description=EXPIRED
        )
        events.append(
            conn, at_us=at_us, kind="input", actor="engine", run_id=request.run_id,
            message=f"{EXPIRED}: {title_of(request) or 'nobody resumed it'}",
        )
    if inputs.open_requests(conn, root_id):
        return False
    inputs.let_go(conn, root_id)
    return True

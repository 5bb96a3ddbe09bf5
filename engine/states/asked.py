"""Who asked for what became of a run, in words: ``cancelled by anna@box via cli``."""

from __future__ import annotations

from typing import Final

from ...store.connection import Connection
from ...store.tables import supervision

_DONE: Final = {
    "pause": "paused", "suspend": "suspended", "cancel": "cancelled", "skip": "skipped", "freeze": "frozen",
    "retry": "retried",
}  # fmt: skip


def done_by(request: str, actor: str | None) -> str:
    """``paused by …``; the word alone where nobody knows who asked."""
    return f"{_DONE[request]} by {actor}" if actor is not None else _DONE[request]


def done_as_asked(connection: Connection, run_id: int, request: str) -> str:
    """As ``done_by``, for who asked something of the run last."""
    asked = supervision.requester(connection, run_id)
    return done_by(request, asked[0] if asked is not None else None)

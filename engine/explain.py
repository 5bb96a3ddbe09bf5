"""Why a recorded call of a run is kept, or runs again: the rules of replay, in words.

The engine decides by ``again`` when a call is made; ``what_next`` says the same beforehand, as far as it can be known
without running anything. Pure: rows in, words out.
"""

from __future__ import annotations

from ..store.rows import TaskRow
from .code_hash import is_changed
from .fingerprint import changed_names


def again(
    row: TaskRow, inputs_hash: str | None, code_hash: str | None, *, keeps_result: bool = True
) -> tuple[str | None, int]:
    """Why a recorded call has to run again (None: it need not), and the level at which the log says so (0: not at all).

    The log need not repeat what the run's records say anyway: that an attempt before did not complete.
    """
    if row.state_name == "RolledBack":
        return f"it was rolled back ({row.cause})" if row.cause else "it was rolled back", 20
    if row.state_type != "COMPLETED":
        return _unfinished(row), 0
    if row.inputs_hash is None:
        return None, 0  # a person has said how it ended
    if inputs_hash is not None and row.inputs_hash != inputs_hash:
        names = changed_names(row.inputs_hash, inputs_hash)
        which = f" ({', '.join(names)} changed)" if names else ""
        return f"its inputs are not those of the recorded call{which}", 30
    if is_changed(row.code_hash, code_hash):
        return "its code is not that of the recorded call", 30
    if not keeps_result:
        return "persist_result=False keeps no result", 20
    return None, 0


def _unfinished(row: TaskRow) -> str:
    """What became of a call that did not complete."""
    if row.state_name == "NotReady":
        return f"it did not start: {row.cause}" if row.cause else "it did not start"
    ended = {"FAILED": "it failed", "CRASHED": "it crashed", "CANCELLED": "it was cancelled"}.get(row.state_type)
    if row.state_name == "TimedOut":
        ended = "it timed out"
    if ended is None:
        return "it had not ended" if row.started_at_us is not None else "it had not begun"
    return f"{ended}: {row.cause}" if row.cause else ended

"""Why a recorded call of a run is kept, or runs again: the rules of replay, in words.

The engine decides by ``again`` when a call is made; ``what_next`` says the same beforehand, as far as it can be known
without running anything. Pure: rows in, words out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from ....store.rows import EdgeRow, TaskRow
from ...encoding.code_hash import is_changed
from ...encoding.fingerprint import changed_names


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


class Verdict(NamedTuple):
    """What the next attempt of a run would do with one recorded call."""

    row: TaskRow
    action: Literal["keep", "run", "compare"]
    """``compare``: kept if what it is given then is what it was given before."""
    why: str


def what_next(
    rows: Sequence[TaskRow],
    codecs: Mapping[int, str],
    edges: Iterable[EdgeRow] = (),
    code_of: Callable[[TaskRow], str | None] = lambda _row: None,
) -> list[Verdict]:
    """A verdict on each recorded call of a run, in their order.

    ``codecs`` says how the result of each seq is stored; ``code_of`` names the code that a call has now, where that is
    known. Inputs are known only when the call is made: a call below one that runs again is compared then.
    """
    upstream: dict[int, list[int]] = {}
    for edge in edges:
        if edge.from_run_id == edge.run_id:
            upstream.setdefault(edge.to_seq, []).append(edge.from_seq)
    found: dict[int, Verdict] = {}
    for row in rows:
        caller = found.get(row.scope_seq)
        found[row.seq] = (
            Verdict(row, "keep", f"kept within {caller.row.name}, which is kept")
            if caller is not None and caller.action == "keep"
            else _verdict(row, codecs.get(row.seq), [found[seq] for seq in upstream.get(row.seq, ()) if seq in found],
                          code_of(row))
        )  # fmt: skip
    return list(found.values())


def _verdict(row: TaskRow, codec: str | None, upstream: Sequence[Verdict], code: str | None) -> Verdict:
    why, _ = again(row, None, code)
    if why is None and codec in (None, "none"):
        why = "its result could not be journalled" if codec == "none" else "no result of it is kept"
    if why is not None:
        return Verdict(row, "run", f"runs again: {why}")
    unsure = [verdict.row.name for verdict in upstream if verdict.action != "keep"]
    if unsure and row.inputs_hash is not None:
        named = unsure[0] if len(unsure) == 1 else f"{len(unsure)} of the tasks it needs"
        return Verdict(row, "compare", f"kept if {named} comes out as before, else runs again")
    if row.state_name == "Cached" and row.cause:
        return Verdict(row, "keep", f"kept: {row.cause}")
    return Verdict(row, "keep", "kept: finished, unless it is given other inputs")

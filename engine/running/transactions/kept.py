"""What the store keeps of a task's hooks, so that another process can end its transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ....store.rows import StagedRow
from ...encoding import codec
from ...secrets import masking

if TYPE_CHECKING:
    from ..run_process.session import Session


class Held(NamedTuple):
    """What another process needs to end a task's part."""

    on_rollback: Sequence[Any]
    on_commit: Sequence[Any]
    values: dict[str, Any]


def pickled_hooks(session: Session, held: Held, name: str) -> bytes | None:
    """What a task holds, for another process; None (and a line in the log) when it cannot be kept."""
    data = codec.pickled(tuple(held))
    if isinstance(data, bytes) and masking.is_active() and masking.holds_secret(data):
        data = "they hold the value of a secret"
    if isinstance(data, bytes):
        return data
    text = (f"the transaction hooks of {name} cannot be kept for another process ({data}): if this one is killed in "
            "the middle of a rollback, they are not run again")  # fmt: skip
    if session.root is not None:
        session.log.run(session.root, 30, text)
    return None


def held_by(row: StagedRow) -> Held:
    """What a process kept of a task; raises ``ResultUnreadable`` when it cannot be read."""
    if row.held is None:
        return Held((), (), {})
    return Held(*codec.decode("cloudpickle", row.held, codec.checksum(row.held)))

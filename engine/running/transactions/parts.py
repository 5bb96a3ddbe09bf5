"""A transaction in its run: a task's part of it, what it is responsible for, where it is, and where it is told of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ...authoring.transaction import Transaction, TransactionState
from ..calls.frame import Frame, current_frame, current_transaction
from ..effects.outside import OUTSIDE

if TYPE_CHECKING:
    from ..calls.task_call import TaskCall
    from ..effects.host import Host
    from ..run_process.session import Session


class TaskTransaction(Transaction):
    """One task's part of a transaction: what its code sets, and its hooks."""

    def __init__(self, call: TaskCall | None, parent: Transaction | None) -> None:
        super().__init__()
        self.call = call
        self.parent = parent
        self.state = TransactionState.ACTIVE
        self.run_id = self.seq = 0
        if call is not None:
            self.run_id, self.seq, self.name = call.run.id, call.seq, call.reference
            self.on_commit_hooks = list(call.task.transaction_hooks("on_commit"))
            self.on_rollback_hooks = list(call.task.transaction_hooks("on_rollback"))
        self.is_kept = False
        """Whether the store knows of it."""
        self.entry: Any = None
        """The cache entry that its commit writes."""


def get_transaction() -> Transaction | None:
    """The transaction of the running code: of the block, within a task its own; None outside both."""
    block, frame = current_transaction.get(), current_frame.get()
    if frame is None or frame.task is None or (block is not None and block.frame is frame):
        return block
    return part_of(frame.task, block)


def part_of(call: TaskCall, block: Transaction | None) -> TaskTransaction:
    """The call's part of a transaction, made when it is first asked for."""
    if call.transaction is None:
        call.transaction = TaskTransaction(call, block)
    return call.transaction


def detached_part(run_id: int, seq: int) -> TaskTransaction:
    """The part of a task whose call is not at hand."""
    part = TaskTransaction(None, None)
    part.run_id, part.seq, part.name = run_id, seq, f"{run_id}/{seq}"
    return part


def parts_of(block: Transaction) -> list[Transaction]:
    """The transaction and everything it is responsible for, in the order of their ends; what is committed left out."""
    found: list[Transaction] = []
    for child in block.children:
        if not child.is_committed() or child.was_known:
            found += parts_of(child)
    return [*found, block]


def session_of(block: Transaction) -> Session | None:
    """The session it runs in; None outside a run."""
    frame = frame_of(block)
    return frame.run.session if frame is not None else None


def host_of(block: Transaction) -> Host:
    """What performs its steps, with or without a run around it."""
    return session_of(block) or OUTSIDE


def frame_of(block: Transaction) -> Frame | None:
    """The run, and the task, that its code belongs to."""
    if isinstance(block, TaskTransaction) and block.call is not None:
        return Frame(block.call.run, block.call)
    if block.frame is None and block.parent is not None:
        return frame_of(block.parent)
    return cast("Frame", block.frame) if block.frame is not None else current_frame.get()


def tell(block: Transaction, level: int, text: str) -> None:
    """A line in the log of its run or task."""
    frame = frame_of(block)
    if frame is None:
        import logging

        logging.getLogger("flowdeck.engine").log(level, "%s", text)
    elif frame.task is not None:
        frame.run.session.log.task(frame.task, level, text)
    else:
        frame.run.session.log.run(frame.run, level, text)

"""Where a transaction is, what its tasks hold, and how hooks are called: shared by commit and rollback."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ....store.rows import StagedRow
from ...authoring.transaction import Transaction, TransactionState
from ...encoding import codec
from ...secrets import masking
from ...states.state import describe_exception
from ..calls.frame import Frame, current_frame, current_transaction
from ..effects.effects import Effect
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
    call = frame.task
    if call.transaction is None:
        call.transaction = TaskTransaction(call, block)
    return call.transaction


class TransactionHooks(Effect):
    """Call one hook with its transaction; the answer is what it raised, or None."""

    __slots__ = ("frame", "hook", "transaction")

    def __init__(self, hook: Any, transaction: Transaction, frame: Frame | None) -> None:
        self.hook = hook
        self.transaction = transaction
        self.frame = frame

    def perform(self, _host: Host) -> Exception | None:
        """In this thread; an async hook gets an event loop of its own."""
        from ..calls.hooks import run_to_end

        token, block = current_frame.set(self.frame), current_transaction.set(None)
        try:
            run_to_end(self.hook(self.transaction))
        except Exception as error:  # noqa: BLE001 - the user's hook
            return error
        finally:
            current_transaction.reset(block)
            current_frame.reset(token)
        return None

    async def perform_async(self, _host: Host) -> Exception | None:
        """As ``perform``; an async hook in the running event loop."""
        import inspect

        token, block = current_frame.set(self.frame), current_transaction.set(None)
        try:
            outcome = self.hook(self.transaction)
            if inspect.isawaitable(outcome):
                await outcome
        except Exception as error:  # noqa: BLE001 - the user's hook
            return error
        finally:
            current_transaction.reset(block)
            current_frame.reset(token)
        return None


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


def hook_name(hook: Any) -> str:
    """A hook as the log names it."""
    name = getattr(hook, "__name__", None)
    return name if isinstance(name, str) else repr(hook)


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


def tell_hook(block: Transaction, hook: Any, error: Exception, then: str) -> None:
    """A hook's error, with its traceback, and what follows from it."""
    frame = frame_of(block)
    if frame is None:
        tell(block, 40, f"hook {hook_name(hook)} failed: {describe_exception(error)}; {then}")
        return
    ids = frame.run.id, frame.task.seq if frame.task is not None else None
    frame.run.session.log.exception(ids, f"hook {hook_name(hook)} failed; {then}", error)

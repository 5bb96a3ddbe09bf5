"""``with transaction():`` - tasks that stand or fall together. Names and meanings are Prefect 3's.

The block commits at its end: commit hooks, then the cache entries of its tasks, in one write. An exception, or a task
in it that failed for good, rolls it back: the rollback hooks of the tasks that completed in it run in reverse order,
and the tasks become RolledBack, so that a retry runs them again. A task's result is journalled at its end, whatever
becomes of the block: a run that is killed in the middle continues there. What a rollback has to do is written down
first and crossed off hook by hook; a run that is resumed ends it before it goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, NamedTuple, Self, cast

from ..context import AnyFrame, current_frame, current_transaction
from ..errors import UsageError
from ..secrets import masking
from .cache_policies import IsolationLevel, as_isolation_level
from .engine import blocks

_UNSET: Any = object()
TransactionHook = Callable[["Transaction"], Any]


class CommitMode(Enum):
    """When a transaction's tasks are committed."""

    __module__ = "flowdeck"

    EAGER = "EAGER"
    """Each at its end: nothing of it is rolled back later."""
    LAZY = "LAZY"
    """With the outermost transaction's end."""
    OFF = "OFF"
    """Only by ``commit()``; else the end rolls back."""


class TransactionState(Enum):
    """Where a transaction stands."""

    __module__ = "flowdeck"

    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    STAGED = "STAGED"
    COMMITTED = "COMMITTED"
    ROLLED_BACK = "ROLLED_BACK"


class ResultRecord(NamedTuple):
    """What a transaction's key stands for."""

    key: str
    result: Any


ResultRecord.__module__ = "flowdeck"


class Transaction:
    """A block, or one task in it (``TaskTransaction``): the values, hooks and children it commits or rolls back."""

    __module__ = "flowdeck"

    def __init__(
        self,
        key: str | None = None,
        commit_mode: CommitMode | str | None = None,
        isolation_level: IsolationLevel | str | None = None,
        *,
        overwrite: bool = False,
        write_on_commit: bool = True,
    ) -> None:
        if key is not None and not isinstance(key, str):
            raise UsageError(f"transaction(): the key must be a text, not {key!r}")
        self.key = key
        if key is not None and masking.is_active():
            from ..encoding.stable_hash import without_secrets

            self.key = without_secrets(key)
        self.commit_mode = _as_commit_mode(commit_mode)
        self.isolation_level = None if isolation_level is None else as_isolation_level(isolation_level)
        self.overwrite = overwrite
        self.write_on_commit = write_on_commit
        self.state = TransactionState.PENDING
        self.parent: Transaction | None = None
        self.children: list[Transaction] = []
        self.on_commit_hooks: list[TransactionHook] = []
        self.on_rollback_hooks: list[TransactionHook] = []
        self.frame: AnyFrame | None = None
        self.name = ""
        """``run:scope:number``, the same in every attempt of the run."""
        self.failure: str | None = None
        """Why it cannot be committed any more: a task in it failed."""
        self.was_known = False
        """The key stood for a result when the block began."""
        self.commit_hooks_done = 0
        self.lock: Any = None
        self.staged_value: Any = None
        self._values: dict[str, Any] = {}
        self._futures: list[Any] = []
        self._guard = threading.Lock()
        self._token: Any = None

    # -- values --------------------------------------------------------------------------------------------------

    def set(self, name: str, value: Any) -> None:
        """Keep a value for the hooks and for the transactions inside."""
        self._values[name] = value

    def get(self, name: str, default: Any = _UNSET) -> Any:
        """A copy of the value kept here or in a transaction around; ``default``, or ValueError, when there is none."""
        if name in self._values:
            import copy

            return copy.deepcopy(self._values[name])
        if self.parent is not None:
            return self.parent.get(name, default)
        if default is _UNSET:
            raise ValueError(f"Could not retrieve value for unknown key: {name}")
        return default

    @property
    def values(self) -> dict[str, Any]:
        """What was set here."""
        return self._values

    @property
    def all_values(self) -> dict[str, Any]:
        """What was set here and around."""
        return {**(self.parent.all_values if self.parent is not None else {}), **self._values}

    # -- state ---------------------------------------------------------------------------------------------------

    def is_pending(self) -> bool:
        """Not begun."""
        return self.state is TransactionState.PENDING

    def is_active(self) -> bool:
        """Between its begin and its end."""
        return self.state is TransactionState.ACTIVE

    def is_staged(self) -> bool:
        """Has a value that its commit will keep."""
        return self.state is TransactionState.STAGED

    def is_committed(self) -> bool:
        """Committed, or its key stood for a result from the beginning: then there is nothing to do."""
        return self.state is TransactionState.COMMITTED

    def is_rolled_back(self) -> bool:
        """Undone."""
        return self.state is TransactionState.ROLLED_BACK

    def get_parent(self) -> Transaction | None:
        """The transaction around it."""
        return self.parent

    @property
    def commits_at_once(self) -> bool:
        """Whether what ends inside is committed at its own end."""
        return self.commit_mode is CommitMode.EAGER

    # -- what happens inside -------------------------------------------------------------------------------------

    def stage(
        self,
        value: Any,
        on_rollback_hooks: Iterable[TransactionHook] | None = None,
        on_commit_hooks: Iterable[TransactionHook] | None = None,
    ) -> None:
        """Have the commit keep a value under the transaction's key, and call these hooks as well."""
        if self.state is not TransactionState.COMMITTED:
            self.staged_value = value
            self.on_rollback_hooks += on_rollback_hooks or ()
            self.on_commit_hooks += on_commit_hooks or ()
            self.state = TransactionState.STAGED

    def add_child(self, child: Transaction) -> None:
        """Take responsibility for the end of another transaction."""
        with self._guard:
            self.children.append(child)

    def expect(self, future: object) -> None:
        """A task was submitted inside: the block does not end before it."""
        with self._guard:
            self._futures.append(future)

    def take_expected(self) -> list[Any]:
        """The submitted tasks not waited for so far."""
        with self._guard:
            futures, self._futures = self._futures, []
        return futures

    def doom(self, why: str) -> None:
        """A task inside failed for good: the block and those around it can only be rolled back."""
        block: Transaction | None = self
        while block is not None:
            block.failure = block.failure or why
            block = block.parent if not block.commits_at_once else None

    def read(self) -> ResultRecord | None:
        """What the key stands for; None when nothing was committed under it."""
        return blocks().read(self)

    def commit(self) -> bool:
        """Commit now; says whether it did."""
        return blocks().commit(self)

    def rollback(self) -> bool:
        """Roll back now; says whether it did."""
        return blocks().roll_back(self)

    # -- the block -----------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._enter()
        try:
            blocks().begin(self)
        except BaseException:
            blocks().give_up(self)
            raise
        self._token = current_transaction.set(self)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._leave()
        blocks().end(self, error)

    async def __aenter__(self) -> Self:
        self._enter()
        try:
            await blocks().begin_async(self)
        except BaseException:
            blocks().give_up(self)
            raise
        self._token = current_transaction.set(self)
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._leave()
        await blocks().end_async(self, error)

    def _enter(self) -> None:
        if self._token is not None or self.state is not TransactionState.PENDING:
            raise UsageError("this transaction has been entered already; make another one with transaction()")
        self.frame = current_frame.get()
        self.parent = cast("Transaction | None", current_transaction.get())
        if self.commit_mode is None:
            self.commit_mode = self.parent.commit_mode if self.parent is not None else CommitMode.LAZY
        if self.isolation_level is None and self.parent is not None:
            self.isolation_level = self.parent.isolation_level
        if self.frame is not None:
            run, scope = self.frame.run, self.frame.scope_seq
            self.name = f"{run.id}:{scope}:{run.next_call_index(scope, _BLOCKS)}"

    def _leave(self) -> None:
        current_transaction.reset(self._token)
        self._token = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key or self.name or 'without a run'} {self.state.name}>"


_BLOCKS = "\0transaction"
"""Under this key, which no task can have, a scope counts its blocks."""


def transaction(
    key: str | None = None,
    store: Any = None,
    commit_mode: CommitMode | str | None = None,
    isolation_level: IsolationLevel | str | None = None,
    overwrite: bool = False,
    write_on_commit: bool = True,
    logger: Any = None,  # noqa: ARG001 - the run's own log tells what becomes of a transaction
) -> Transaction:
    """A block of tasks that stand or fall together; ``with`` or ``async with``.

    ``key``: the value given to ``stage`` is kept under it; a block whose key stands for something is committed from the
    beginning, unless ``overwrite``. Results are kept in Flowdeck's store: ``store`` may be left out.
    """
    if store is not None:
        raise UsageError("transaction(): leave store out; results are kept in Flowdeck's own store")
    return Transaction(key, commit_mode, isolation_level, overwrite=overwrite, write_on_commit=write_on_commit)


def _as_commit_mode(value: CommitMode | str | None) -> CommitMode | None:
    try:
        return value if value is None or isinstance(value, CommitMode) else CommitMode(str(value).upper())
    except ValueError:
        raise UsageError(f"there is no commit mode {value!r}; it is {', '.join(CommitMode.__members__)}") from None

"""One request for slots of limits: queued in the store, settled once, given back by whoever ends what they were for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal

from ....store.connection import Connection
from ....store.rows import LimitRow
from ....store.tables import limits
from ...errors import AcquireConcurrencySlotTimeoutError, ConcurrencySlotAcquisitionError
from ...states.state import Cancelled
from ...system.clock import now_us

if TYPE_CHECKING:
    from ..calls.task_call import TaskCall

Outcome = Literal["waiting", "held", "refused", "timeout", "cancelled"]


class Ask:
    """One call's request for slots of some limits, from asking to giving back."""

    __slots__ = (
        "_callbacks", "ask_id", "asked_at", "call", "deadline", "is_given_back", "kind", "names", "noted", "occupy",
        "outcome", "strict", "timeout_seconds", "who", "why", "within", "words",
    )

    def __init__(
        self,
        names: Iterable[str],
        occupy: int,
        *,
        kind: str = "hold",
        timeout_seconds: float | None = None,
        strict: bool = False,
        who: tuple[int | None, int | None, str] = (None, None, ""),
        call: TaskCall | None = None,
        within: tuple[Ask, ...] = (),
    ) -> None:
        self.names = tuple(sorted(set(names)))
        self.occupy = occupy
        self.kind = kind
        self.timeout_seconds = timeout_seconds
        self.strict = strict
        self.who = who
        """Run, task and name, for people who look at the limit."""
        self.call = call
        """The task that begins once it has the slots; None for code that runs already."""
        self.within = within
        """What is held around it, and so until it has ended."""
        self.deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        self.asked_at = time.monotonic()
        self.ask_id = 0
        self.outcome: Outcome = "waiting"
        self.why = ""
        self.is_given_back = False
        """Whether the write that ends its task gives it back."""
        self.noted = False
        """Whether a row says that it waits."""
        self.words = ""
        self._callbacks: list[Callable[[], None]] = []

    def again(self) -> Ask:
        """A new request for the same."""
        fresh = Ask(self.names, self.occupy, kind=self.kind, strict=self.strict, who=self.who, call=self.call,
                    within=self.within)
        fresh.deadline, fresh.timeout_seconds = self.deadline, self.timeout_seconds
        return fresh

    def done(self) -> bool:
        """Whether the waiting is over."""
        return self.outcome != "waiting"

    def write(self, conn: Connection) -> None:
        """Queue in the store; the outcome is known then, or it waits."""
        self.ask_id, self.why = 0, ""
        if self.done():
            return
        found = {name: limits.get(conn, name) for name in self.names}
        missing = [name for name, limit in found.items() if limit is None]
        if missing and self.strict:
            self.why = f"there is no limit {missing[0]!r}; make it with `flowdeck limits set {missing[0]} N`"
            return
        counted = [limit for limit in found.values() if limit is not None and limit.active]
        for limit in counted:
            self.why = self._refusal(limit)
            if self.why:
                return
        if counted:
            run_id, task_seq, actor = self.who
            self.ask_id, granted = limits.ask(
                conn, [limit.name for limit in counted], kind=self.kind, occupy=self.occupy,
                process=limits.this_process(), at_us=now_us(), actor=actor, run_id=run_id, task_seq=task_seq,
                within=" ".join(str(ask.ask_id) for ask in self.within if ask.ask_id) or None,
            )  # fmt: skip
            if not granted:
                return
            if self.kind == "rate":
                self.give_back(conn)
        self.why = "held"

    def _refusal(self, limit: LimitRow) -> str:
        if self.kind == "rate" and not limit.slot_decay_per_second:
            return (
                f"the limit {limit.name!r} has no rate at which slots come back; give it one with "
                f"`flowdeck limits set {limit.name} {limit.slots} --decay PER_SECOND`, or use concurrency()"
            )
        return too_many(limit, self.occupy)

    def settle(self, outcome: Outcome, why: str = "") -> bool:
        """The first outcome counts; says whether this was it."""
        with _settling:
            if self.outcome != "waiting":
                return False
            self.outcome, self.why = outcome, why
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()
        return True

    def when_done(self, callback: Callable[[], None]) -> None:
        """Call back, from any thread, once the waiting is over; at once when it is."""
        with _settling:
            if self.outcome == "waiting":
                self._callbacks.append(callback)
                return
        callback()

    def give_back(self, conn: Connection) -> None:
        """Part of the write that ends what the slots were for."""
        if self.ask_id:
            limits.release(conn, self.ask_id, now_us())

    def error(self) -> BaseException:
        """What the caller gets that has no slots."""
        if self.outcome == "timeout":
            text = f"no slot of {', '.join(self.names)} within {self.timeout_seconds or 0:g} s"
            return AcquireConcurrencySlotTimeoutError(f"{text}: {self.words}" if self.words else text)
        if self.outcome == "cancelled":
            return Cancelled(self.why or "cancelled")
        return ConcurrencySlotAcquisitionError(self.why)


_settling = threading.Lock()


def too_many(limit: LimitRow, occupy: int) -> str:
    """Why a request can never be granted; empty when it can."""
    if occupy <= limit.slots:
        return ""
    if limit.slots == 0:
        return f"the limit {limit.name!r} is 0: nothing may use it; `flowdeck limits set {limit.name} N` opens it"
    return f"{occupy} slots of {limit.name!r} were asked for, but it has only {limit.slots}"

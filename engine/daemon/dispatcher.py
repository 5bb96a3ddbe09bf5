"""From due runs to processes: claims what is due, keeps the limit, and hands each run to its file's code host.

A claim is one transaction, so no run is ever claimed twice. With a limit, of the daemon or of a flow (``flow_limits``),
runs beyond it say ``AwaitingSlot`` and get slots first in, first out. A run whose file or flow cannot be found fails
with that cause. It starts no process itself (``RunHosts``) and does not say when a schedule is due.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from ...store.connection import Connection, transaction
from ...store.rows import RunRow
from ...store.states import is_terminal
from ...store.tables import deployments, runs, supervision
from ..control import reaping
from ..errors import NotAllowed, StaleState
from ..states.transitions import move_run
from . import flow_limits

UNLIMITED: Final = 1 << 30
CLAIM_BATCH: Final = 200
MOST_NOTED: Final = 500
RETRY_SECONDS: Final = 0.25


class RunHosts(Protocol):
    """Whoever makes the processes of claimed runs: code hosts (``hosts.Hosts``), or what stands in for them."""

    on_refused: Callable[[int, int, str, bool], None]
    """A run that could not be given to a process: run, attempt, why, and whether to try again."""
    on_ended: Callable[[int, int, int], None]
    """The process of a run is gone: run, attempt, pid."""

    def run(self, path: str, run_id: int, attempt: int, flow: str) -> None:
        """Have a process for a claimed run made, or say ``on_refused``."""

    def tell_crashed(self, path: str, run_id: int, attempt: int, flow: str) -> None:
        """Have what the flow's author wants done about a dead run done."""

    def crash_retries(self, flow: str) -> int | None:
        """How often a run of the flow may be resumed after a crash; None where its file is not loaded."""


class Dispatcher:
    """Gives runs to code hosts. Reads no clock itself."""

    def __init__(self, state: Connection, hosts: RunHosts, say: Callable[[str], None], limit: int | None) -> None:
        self._state = state
        self._hosts = hosts
        self._say = say
        self._limit = UNLIMITED if limit is None else limit
        self._active: set[int] = set()
        """Runs that hold a slot: claimed here or adopted, and their process has not ended."""

    def free_slots(self) -> int:
        """How many more runs may start now."""
        return max(0, self._limit - len(self._active))

    def adopt(self, run_id: int) -> None:
        """A run of ours that was already going when the daemon started."""
        self._active.add(run_id)

    def ended(self, run_id: int) -> None:
        """The run's process is gone: its slot is free."""
        self._active.discard(run_id)

    def recount(self) -> None:
        """Give back slots of runs that ended unseen, their host having been killed."""
        for run_id in list(self._active) if self._limit != UNLIMITED else ():
            run = runs.get(self._state, run_id)
            if run is None or is_terminal(run.state_type):
                self._active.discard(run_id)

    def pump(self, at_us: int) -> float | None:
        """Claim what is due; returns in how many seconds to look again, None when nothing waits for a time."""
        while (free := self.free_slots()) > 0:
            claimed = self._claim(at_us, min(free, CLAIM_BATCH))
            for run in claimed:
                self.dispatch(run, at_us)
            if len(claimed) < min(free, CLAIM_BATCH):
                break
        if self.free_slots() == 0:
            self._note_waiting(at_us)
        wake_us = runs.next_wake(self._state)
        if wake_us is None:
            return None
        # What is due and was not claimed waits for a slot, or for its own process.
        return (wake_us - at_us) / 1e6 if wake_us > at_us else RETRY_SECONDS

    def _claim(self, at_us: int, most: int) -> list[RunRow]:
        """Takes the write lock only when something is due."""
        if not supervision.anything_due(self._state, at_us):
            return []
        return flow_limits.claim(self._state, at_us, most, reaping.ACTOR, self._say)

    def dispatch(self, run: RunRow, at_us: int) -> None:
        """Hand a claimed run to the host of its file."""
        self._active.add(run.id)
        path, flow = self.place(run)
        if path is None:
            self.refused(run.id, run.attempt, f"nothing says which file holds the flow {run.flow_name!r}; "
                         "start it again from its file", False, at_us)
            return
        self._say(f"run #{run.id} ({flow}): attempt {run.attempt} starts")
        self._hosts.run(path, run.id, run.attempt, flow)

    def refused(self, run_id: int, attempt: int, why: str, again: bool, at_us: int) -> None:
        """No process can be had for a claimed run: fail it, or give it back to be tried again."""
        self._active.discard(run_id)
        run = runs.get(self._state, run_id)
        if run is None or run.state_type != "PENDING" or run.attempt != attempt:
            return
        if again:
            reaping.release_claim(self._state, run, why, at_us, RETRY_SECONDS)
            self._say(f"run #{run_id}: tried again: {why}")
            return
        cause = f"could not start: {why}"
        try:
            with transaction(self._state):
                move_run(self._state, run, "fail", at_us=at_us, actor=reaping.ACTOR, cause=cause, intent="none")
        except (StaleState, NotAllowed):
            return  # somebody cancelled it at the same moment

    def place(self, run: RunRow) -> tuple[str | None, str]:
        """The file and the flow's name in it: a deployment's file of today, else where the run was started from."""
        if run.deployment is not None and (known := deployments.get(self._state, run.deployment)) is not None:
            return known.path, known.flow_name
        if run.entrypoint is None:
            return None, run.flow_name
        path, _, flow = run.entrypoint.rpartition(":")
        return (path, flow) if path else (run.entrypoint, run.flow_name)

    def _note_waiting(self, at_us: int) -> None:
        """Say of each due run that it waits for a slot."""
        waiting = supervision.due_unnoted(self._state, at_us, MOST_NOTED)
        if not waiting:
            return
        with transaction(self._state):
            for run in waiting:
                move_run(self._state, run, "await_slot", at_us=at_us, actor=reaping.ACTOR,
                         wake_at_us=run.wake_at_us, cause=f"all {self._limit} slots are taken")
        self._say(f"{len(waiting)} due runs wait for a slot ({self._limit} taken)")

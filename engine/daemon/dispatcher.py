"""From due runs to processes: claims what may begin, keeps the limit, and hands each run to its file's code host.

A claim is one transaction, so no run is ever claimed twice (``claims``). With a limit of the daemon's, runs beyond it
say ``AwaitingSlot`` and get slots first in, first out; those who have a slot are the runs that a host was given or that
have a process, never a count. A run whose file or flow cannot be found fails with that cause. A run that was claimed
and could not be handed on is given back, whatever went wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from ...store.connection import Connection, transaction
from ...store.errors import StoreError
from ...store.rows import RunRow
from ...store.tables import runs, supervision
from ..control import reaping
from ..errors import NotAllowed, StaleState
from ..states.transitions import move_run
from . import claims
from .claims import Rooms
from .place import Place, place_of

RETRY_SECONDS: Final = 0.25
MOST_LOOKS: Final = 20
"""In one pump, while each finds something: then others have their turn."""


class RunHosts(Protocol):
    """Whoever makes the processes of claimed runs: code hosts (``hosts.Hosts``), or what stands in for them."""

    on_refused: Callable[[int, int, str, bool], None]
    """A run that could not be given to a process: run, attempt, why, and whether to try again."""
    on_ended: Callable[[int, int, int, dict[str, object] | None], None]
    """The process of a run is gone: run, attempt, pid, and how it ended."""
    on_room: Callable[[], None]
    """A host may be given more than before."""
    on_stuck: Callable[[list[tuple[int, int]]], None]
    """A host does not answer: nobody is to wait for these runs and attempts, which are its own."""

    def room(self, path: str, flow: str) -> int:
        """How many runs of the flow may be claimed for the file's host now."""

    def waits_for(self, path: str) -> str | None:
        """Why no run of the file begins, where that may take long."""

    def run(self, path: str, run_id: int, attempt: int, flow: str) -> None:
        """Have a process for a claimed run made, or say ``on_refused``."""

    def holds(self, run_id: int, attempt: int) -> bool:
        """Whether a living host has been given this attempt, and its process has not begun."""

    def begun(self, run_id: int, attempt: int) -> bool:
        """The run has its process: says whether a host of ours was given it."""

    def need(self, path: str) -> None:
        """A run of the file is due soon."""

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
        self._limit = limit
        self._active: set[int] = set()
        """Runs that hold a slot: claimed here or adopted, and their process has not ended."""
        self._behind: set[str] = set()
        """Files with runs that are due and have to wait: nothing of theirs begins out of turn."""
        self._resting: dict[str, int] = {}
        """Files whose host could not take a run, and until when nothing more is claimed for it."""
        self._rooms = Rooms(
            lambda run: place_of(state, run),
            lambda place: 0 if place.path in self._resting else hosts.room(place.path, place.flow),
            lambda place: hosts.waits_for(place.path),
        )

    @property
    def free_slots(self) -> int | None:
        """How many more runs may start now; None where there is no limit."""
        return None if self._limit is None else max(0, self._limit - len(self._active))

    def may_begin(self, path: str, flow: str, claimed: int, claimed_of_file: int) -> bool:
        """Whether a run that is made now may begin at once, beside so many that were claimed and not handed on yet."""
        free = self.free_slots
        waits = path in self._behind or path in self._resting
        return (free is None or free > claimed) and not waits and self._hosts.room(path, flow) > claimed_of_file

    def adopt(self, run_id: int) -> None:
        """A run of ours that has a process: it was already going when the daemon started, or its host was stuck."""
        self._active.add(run_id)

    def ended(self, run_id: int) -> None:
        """The run's process is gone: its slot is free."""
        self._active.discard(run_id)

    def recount(self, lives: Callable[[int], bool]) -> None:
        """Give back slots of runs that neither have a process nor wait at a host for one."""
        for run_id in list(self._active):
            run = runs.get(self._state, run_id)
            if run is None or not (lives(run_id) or self._hosts.holds(run_id, run.attempt)):
                self._active.discard(run_id)

    def pump(self, at_us: int) -> float | None:
        """Claim what is due; returns in how many seconds to look again, None when nothing waits for a time."""
        self._behind = set()
        longest_us = at_us + round(RETRY_SECONDS * 1e6)  # though the clock was set back meanwhile
        self._resting = {path: until_us for path, until_us in self._resting.items() if at_us < until_us <= longest_us}
        if supervision.anything_due(self._state, at_us):  # asked without the write lock
            self._claim(at_us)
        wake_us = runs.next_wake(self._state)
        if wake_us is None:
            return None
        # What is due and was not claimed waits for a slot, for its host, or for its own process.
        return (wake_us - at_us) / 1e6 if wake_us > at_us else RETRY_SECONDS

    def _claim(self, at_us: int) -> None:
        for _ in range(MOST_LOOKS):
            found = claims.look(self._state, self._rooms, at_us, self.free_slots, f"all {self._limit} slots are taken")
            self._behind = found.behind
            claimed = claims.claim(self._state, found, at_us, self._say)
            self.dispatch(claimed, at_us)
            if not claimed and not found.cancelled:
                return

    def dispatch(self, claimed: Iterable[RunRow], at_us: int) -> None:
        """Hand claimed runs to the hosts of their files. One that cannot be handed on keeps none of the others back."""
        trouble: Exception | None = None
        for run in claimed:
            try:
                self._dispatch(run, at_us)
            except Exception as error:  # noqa: BLE001 - raised again once every run was handed on or given back
                trouble = error
                self._give_back(run, at_us)
        if trouble is not None:
            raise trouble

    def _dispatch(self, run: RunRow, at_us: int) -> None:
        self._active.add(run.id)
        path, flow = place_of(self._state, run)
        if not path:
            self.refused(run.id, run.attempt, f"nothing says which file holds the flow {run.flow_name!r}; "
                         "start it again from its file", False, at_us)
            return
        self._say(f"run #{run.id} ({flow}): attempt {run.attempt} starts")
        self._hosts.run(path, run.id, run.attempt, flow)

    def _give_back(self, run: RunRow, at_us: int) -> None:
        self._active.discard(run.id)
        if self._hosts.holds(run.id, run.attempt):
            return
        try:
            self.refused(run.id, run.attempt, "it could not be handed to its code host", True, at_us)
        except StoreError as error:
            # Who looks for runs that claim to run without a process gives it back.
            self._say(f"run #{run.id}: could not be given back yet: {error}")

    def refused(self, run_id: int, attempt: int, why: str, again: bool, at_us: int) -> None:
        """No process can be had for a claimed run: fail it, or give it back to be tried again."""
        self._active.discard(run_id)
        run = runs.get(self._state, run_id)
        if run is None or run.state_type != "PENDING" or run.attempt != attempt:
            return
        if again:
            self._resting[place_of(self._state, run).path] = at_us + round(RETRY_SECONDS * 1e6)
            if reaping.release_claim(self._state, run, why, at_us):
                self._say(f"run #{run_id}: tried again: {why}")
            return
        cause = f"could not start: {why}"
        try:
            with transaction(self._state):
                move_run(self._state, run, "fail", at_us=at_us, actor=reaping.ACTOR, cause=cause, intent="none")
        except (StaleState, NotAllowed):
            return  # somebody cancelled it at the same moment

    def place(self, run: RunRow) -> Place:
        """The file and the flow's name in it."""
        return place_of(self._state, run)

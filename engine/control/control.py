"""The one door for requests: console, command line and users' code come to runs only through here.

Each request is one transaction (a retry that gives up thousands of results: several): when nothing of the run lives,
the state machine moves it now; else its intent is set and its process acts on it within about 100 ms. There is always
an event naming who asked. Works without a daemon.
"""

from __future__ import annotations

import json
import os
import signal
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from ...store.connection import Connection, connect, data_version, read_transaction, transaction
from ...store.driver_errors import store_errors
from ...store.opening import open_store
from ...store.rows import CallRow, InputRow, LeaseRow, LimitRow, RunRow
from ...store.states import TERMINAL_TYPES
from ...store.tables import deployments, events, inputs, leases, limits, runs, schedules
from ...store.tables.nodes import Node
from ..encoding.json_schema import Field as InputField
from ..encoding.json_schema import fields as input_fields
from ..encoding.json_schema import from_text as read_input
from ..encoding.json_schema import kind_words
from ..encoding.json_schema import problems as input_problems
from ..errors import FlowdeckError, NotAllowed, NotFound, ParameterError, UsageError
from ..states.allowed import Request as Request
from ..states.allowed import allowed as allowed
from ..states.machine import next_run_state
from ..system import processes
from ..system.actors import actor_name
from ..system.clock import now_us
from . import nodes as node_control
from . import retrying, variables
from .decisions import Decision
from .retry_plan import Plan

T = TypeVar("T")
Target = int | Node | Sequence[Node]
"""A run by its number, or parts of one run tree."""

_CLEAN_UP_SECONDS = 3.0
"""How long a retry waits for the process of a run that has just ended."""


class _StillCleansUp(NotAllowed):
    """The run has ended, its process has not yet."""


class Outcome(NamedTuple):
    """What became of a request."""

    run_id: int
    text: str
    """For the person who asked."""


def actor(via: str = "api") -> str:
    """``user@host via …`` of this process."""
    return actor_name(via)


class Control:
    """Requests to one store on behalf of one actor. Used from one thread at a time."""

    def __init__(self, folder: str | Path, *, actor: str, read_only: bool = False) -> None:
        self._folder = Path(folder)
        self._actor = actor
        self._read_only = read_only
        self._connection: Connection | None = None
        self._last_plan: tuple[int, tuple[Node, ...], str, tuple[RunRow, Plan]] | None = None

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # -- runs ----------------------------------------------------------------------------------------------------

    def pause(self, run_id: int) -> Outcome:
        """No new task starts; running ones finish. A run without a process is held where it is."""

        def ask(conn: Connection, run: RunRow, lease: LeaseRow | None) -> str:
            if lease is None:
                self._move(conn, run, "pause", f"paused by {self._actor}")
                return "paused"
            runs.set_intent(conn, run.id, "pause", at_us=now_us(), actor=self._actor, message="pause")
            return "pausing: running tasks finish, no new one starts"

        return self._ask("pause", run_id, ask)

    def suspend(self, run_id: int) -> Outcome:
        """As ``pause``, but its process ends then and holds nothing; a resume continues by replay."""

        def ask(conn: Connection, run: RunRow, lease: LeaseRow | None) -> str:
            if run.entrypoint is None and run.deployment is None:
                raise NotAllowed(f"run #{run.id}: no file holds its flow, so nothing could go on with it; pause it")
            if lease is None:
                if run.state_type in ("PENDING", "RUNNING"):
                    raise NotAllowed(f"run #{run.id} is {run.state_name} and has no process this moment; try again")
                if run.state_name == "AwaitingInput":
                    raise NotAllowed(f"run #{run.id} holds no process already; it is {run.cause}")
                self._move(conn, run, "suspend", f"suspended by {self._actor}")
                return "suspended: it holds no process"
            runs.set_intent(conn, run.id, "pause", at_us=now_us(), actor=self._actor, message="suspend")
            return "suspending: running tasks finish, then its process ends"

        return self._ask("suspend", run_id, ask)

    def questions(self, run_id: int) -> list[InputRow]:
        """What the run asks for now, oldest first."""
        return self._transact(lambda conn: inputs.open_requests(conn, run_id))

    def send(self, run_id: int, kind: str, value: Any, *, sender: str | None = None) -> str:
        """Put a message into a run's inbox, durably; ``kind`` is what ``receive_input`` looks for. Returns its key."""
        self._check_writable("send")
        key = f"{kind}-{uuid.uuid4().hex}"

        def put(conn: Connection) -> str:
            run = runs.get(conn, run_id)
            if run is None:
                raise NotFound(f"there is no run #{run_id} in {self._folder}")
            if run.state_type in TERMINAL_TYPES:
                raise NotAllowed(f"run #{run_id} is {run.state_name}: nobody would read what is sent to it")
            by, at_us = sender or self._actor, now_us()
            inputs.insert(conn, run_id, key, "message", sender=by, at_us=at_us,
                          value=json.dumps(value, ensure_ascii=False))
            events.append(conn, at_us=at_us, kind="input", actor=self._actor, run_id=run_id,
                          message=f"sent a message: {kind}")
            return key

        return self._transact(put)

    def resume(self, run_id: int, run_input: Any = None) -> Outcome:
        """Go on; a run without a process is queued and continues by replay.

        ``run_input`` is the answer to a run that awaits input; a wrong one raises ``InputError`` and changes nothing.
        """

        def ask(conn: Connection, run: RunRow, lease: LeaseRow | None) -> str:
            from .answering import answer, expire_overdue, until_us

            if lease is None and run.wake_at_us is not None and run.wake_at_us <= now_us():
                expire_overdue(conn, run, now_us())
                return "too late: its time to be resumed was over; it goes on to hear of that"
            left = answer(conn, run, run_input, self._actor)
            if left is not None:
                from .questions import words_of

                words = words_of(left)
                if lease is None:
                    self._move(conn, run, "await_input", words, wake_at_us=until_us(conn, run.id))
                return f"answered; it is still {words}"
            if lease is None:
                self._move(conn, run, "requeue", None, wake_at_us=now_us(), intent="none")
                return "queued to continue"
            runs.set_intent(conn, run.id, "none", at_us=now_us(), actor=self._actor, message="resume")
            return "resumed"

        return self._ask("resume", run_id, ask)

    def cancel(self, target: Target) -> Outcome:
        """End it: user code gets ``Cancelled``; after the grace its processes are killed.

        Of a part of a run tree (a subflow's run, a task, a mapped group): its code gets ``Cancelled``, the rest of
        the run goes on. Code that does not end within the grace is left behind, and what it returns is dropped.
        """
        self._check_writable("cancel")
        wanted = _nodes(target)
        whole = len(wanted) == 1 and wanted[0].is_run and self._is_root(wanted[0].run_id)
        return self._cancel_root(wanted[0].run_id) if whole else self._cancel_nodes(wanted)

    def _cancel_root(self, run_id: int) -> Outcome:

        def ask(conn: Connection, run: RunRow, lease: LeaseRow | None) -> str:
            if lease is None:
                from .answering import cancel_parts

                cancel_parts(conn, run, now_us(), self._actor)
                self._move(conn, run, "cancel", f"cancelled by {self._actor}", intent="none")
                return "cancelled"
            runs.set_intent(conn, run.id, "cancel", at_us=now_us(), actor=self._actor, message="cancel")
            if run.state_name == "Frozen":
                self._signal(lease, signal.SIGCONT)
            return "cancelling"

        return self._ask("cancel", run_id, ask)

    def _cancel_nodes(self, wanted: list[Node]) -> Outcome:
        def ask(conn: Connection) -> tuple[int, str]:
            places = [node_control.find(conn, node) for node in wanted]
            root = self._root_of(conn, places)
            return root.id, node_control.cancel(conn, root, self._lease_of(conn, root.id), places, self._actor)

        return Outcome(*self._transact(ask))

    def _is_root(self, run_id: int) -> bool:
        def look(conn: Connection) -> bool:
            run = runs.get(conn, run_id)
            return run is not None and run.root_id is None

        return self._transact(look)

    def plan_retry(self, target: Target, kind: Literal["failed", "all"] = "failed") -> Plan:
        """What a retry would run again, with counts and names: nothing is asked. Refused where the retry would be."""
        return self._planned(target, kind)[1]

    def retry(
        self, target: Target, kind: Literal["failed", "all"] = "failed", *, parameters: dict[str, Any] | None = None
    ) -> Outcome:
        """Run it again as its next attempt: finished tasks keep their results, everything else runs.

        From a node (a task, a mapped group, a subflow): that, what is beneath and downstream of it run again as well;
        ``kind="all"`` is everything. With ``parameters`` it is a new run, forked there: it keeps what the retry would
        keep, and the old run stays as it ended.
        """
        self._check_writable("retry")

        def ask(conn: Connection) -> tuple[int, str]:
            root, plan = planned
            if runs.get(conn, root.id) != root:
                root, plan = self._plan(conn, target, kind)
            self._check_has_ended(conn, root)
            if parameters is None:
                return root.id, retrying.retry(conn, root, plan, self._actor, left if plan is planned[1] else None)
            found = deployments.get(conn, root.deployment) if root.deployment is not None else None
            if found is not None:
                merged = {**json.loads(root.parameters), **parameters}
                _check_parameters(found.name, json.loads(found.parameters_schema), merged)
            made = retrying.fork(conn, self._folder, root, plan, parameters, self._actor)
            return made, f"queued: forked from #{root.id}, {plan.kept} finished calls are kept"

        # Nothing but another such request changes a run that has ended: it is planned without the write lock.
        planned = self._planned(target, kind)
        left = planned[1].reset
        deadline = time.monotonic() + _CLEAN_UP_SECONDS
        while True:
            try:
                while parameters is None and len(left) > retrying.RESET_AT_ONCE:
                    self._give_up(*planned, left[: retrying.RESET_AT_ONCE])
                    left = left[retrying.RESET_AT_ONCE :]
                return Outcome(*self._transact(ask))
            except _StillCleansUp:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def _planned(self, target: Target, kind: Literal["failed", "all"]) -> tuple[RunRow, Plan]:
        """The last plan if it was this one and nothing was written since, else a new one."""
        wanted = tuple(_nodes(target))

        def look(conn: Connection) -> tuple[RunRow, Plan]:
            runs.get(conn, wanted[0].run_id)  # reads, so that the version is that of what is read
            version = data_version(conn)
            if self._last_plan is not None and self._last_plan[:3] == (version, wanted, kind):
                return self._last_plan[3]
            planned = self._plan(conn, target, kind)
            self._last_plan = (version, wanted, kind, planned)
            return planned

        return self._transact(look, is_write=False)

    def _plan(
        self, conn: Connection, target: Target, kind: Literal["failed", "all"]
    ) -> tuple[RunRow, Plan]:
        wanted = _nodes(target)
        root = retrying.root_of(conn, wanted)
        if not allowed("retry", root.state_type, root.state_name):
            hint = "; resume it: what is held is tried again" if root.state_type == "PAUSED" else ""
            raise NotAllowed(f"run #{root.id} is {root.state_name}: it cannot be asked to retry{hint}")
        return root, retrying.plan(conn, root, wanted, kind)

    def _give_up(self, root: RunRow, plan: Plan, rows: Sequence[CallRow]) -> None:
        """Part of the results that a large retry gives up, before the run moves: no write holds up others for long."""

        def give_up(conn: Connection) -> None:
            run = runs.get(conn, root.id)
            if run != root:
                now = f"is {run.state_name}" if run is not None else "is gone"
                raise NotAllowed(f"run #{root.id} {now}: somebody else asked something of it at the same time")
            self._check_has_ended(conn, root)
            retrying.give_up(conn, root, plan, rows, self._actor)

        self._transact(give_up)

    def _check_has_ended(self, conn: Connection, root: RunRow) -> None:
        lease = self._lease_of(conn, root.id)
        if lease is not None:
            raise _StillCleansUp(f"run #{root.id} has ended but its process {lease.pid} still cleans up; try again")

    def set_state(self, node: Node, state: Literal["completed", "skipped"], result: Any = None) -> Outcome:
        """Decide for a task that did not do it: taken as Completed with this JSON value, or as Skipped (None).

        A retry then does not run it, whatever its inputs. Only where no process of the run could be running it, or
        where it waits for a person (``on_exhausted="pause"``).
        """
        self._check_writable("set a state")

        def ask(conn: Connection) -> tuple[int, str]:
            place = node_control.find(conn, node)
            root = self._root_of(conn, [place])
            decision = Decision(state, result, self._actor)
            return place.run.id, node_control.set_state(conn, root, self._lease_of(conn, root.id), place, decision)

        return Outcome(*self._transact(ask))

    def skip(self, target: int | Node) -> Outcome:
        """Have it not run: a run that waits for its time, or a task as in ``set_state``."""
        if isinstance(target, Node) and not target.is_run:
            return self.set_state(target, "skipped")

        def ask(conn: Connection, run: RunRow, lease: LeaseRow | None) -> str:
            if lease is not None:
                raise NotAllowed(f"run #{run.id} has its process already: cancel it instead")
            self._move(conn, run, "skip", f"skipped by {self._actor}", intent="none")
            return "skipped"

        return self._ask("skip", target if isinstance(target, int) else target.run_id, ask)

    @staticmethod
    def _root_of(conn: Connection, places: Sequence[node_control.Place]) -> RunRow:
        roots = {place.run.root_id or place.run.id for place in places}
        if len(roots) != 1:
            raise NotAllowed("nodes of several runs are asked for one run after the other")
        return node_control.root_of(conn, places[0].run)

    def freeze(self, run_id: int) -> Outcome:
        """Stop its processes where they are (SIGSTOP); they keep their memory and their slots."""

        def ask(conn: Connection, run: RunRow, lease: LeaseRow | None) -> str:
            self._move(conn, run, "freeze", f"frozen by {self._actor}")
            # The state's write lock is held here; with the other one, too, it is not stopped holding either.
            with closing(connect(self._folder, "telemetry")) as telemetry, transaction(telemetry):
                self._signal(self._own_group(run, lease), signal.SIGSTOP)
                self._signal_commands(run, signal.SIGSTOP)
            return "frozen"

        return self._ask("freeze", run_id, ask)

    def thaw(self, run_id: int) -> Outcome:
        """Let frozen processes go on (SIGCONT)."""

        def ask(conn: Connection, run: RunRow, lease: LeaseRow | None) -> str:
            self._move(conn, run, "thaw", None)
            self._signal_commands(run, signal.SIGCONT)
            self._signal(self._own_group(run, lease), signal.SIGCONT)
            return "running again"

        return self._ask("thaw", run_id, ask)

    # -- deployments and schedules -------------------------------------------------------------------------------

    def trigger(
        self, name: str, parameters: dict[str, Any] | None = None, *, scheduled_at_us: int | None = None
    ) -> int:
        """Queue a run of a deployment for the daemon; returns its number. Wrong parameters are refused here."""
        self._check_writable("trigger")
        given = parameters or {}

        def make(conn: Connection) -> int:
            found = deployments.get(conn, name)
            if found is None:
                near = ", ".join(row.name for row in deployments.all(conn)) or "none; start a daemon with its file"
                raise NotFound(f"no deployment {name!r} in {self._folder}; there are: {near}")
            _check_parameters(name, json.loads(found.parameters_schema), given)
            merged = {**json.loads(found.parameters), **given}
            return runs.insert(
                conn, flow_name=found.flow_name, name="", state=("SCHEDULED", "Scheduled"), actor=self._actor,
                at_us=now_us(), parameters=json.dumps(merged, ensure_ascii=False), tags=found.tags,
                deployment=found.name, entrypoint=found.entrypoint, scheduled_at_us=scheduled_at_us,
                source_hash=found.source_hash,
            )

        return self._transact(make)

    def pause_schedule(self, schedule_id: int) -> None:
        """No run is made by this schedule until it is resumed."""
        self._set_schedule(schedule_id, False)

    def resume_schedule(self, schedule_id: int) -> None:
        """The schedule makes runs again, from now on."""
        self._set_schedule(schedule_id, True)

    def _set_schedule(self, schedule_id: int, active: bool) -> None:
        self._check_writable("change a schedule")

        def change(conn: Connection) -> None:
            row = schedules.get(conn, schedule_id)
            if row is None:
                raise NotFound(f"no schedule {schedule_id} in {self._folder}")
            schedules.set_active(conn, schedule_id, active)
            word = "resumed" if active else "paused"
            events.append(
                conn, at_us=now_us(), kind="schedule", actor=self._actor,
                message=f"schedule {row.slug} of {row.deployment} {word}",
                data={"schedule_id": schedule_id, "active": active},
            )

        self._transact(change)

    # -- limits --------------------------------------------------------------------------------------------------

    def set_limit(
        self, name: str, slots: int, slot_decay_per_second: float | None = None, *, active: bool = True
    ) -> Outcome:
        """Make or change a limit: ``tag:NAME``, ``flow:NAME`` or any name that ``concurrency`` uses. Holds at once."""
        self._check_writable("set a limit")
        _check_limit(name, slots, slot_decay_per_second)
        self._transact(lambda conn: limits.put(
            conn, name, slots, slot_decay_per_second, active=active, at_us=now_us(), actor=self._actor))
        return Outcome(0, f"limit {name}: {slots} slots")

    def pause_limit(self, name: str) -> Outcome:
        """Nobody waits for it until it is resumed."""
        return self._switch_limit(name, False)

    def resume_limit(self, name: str) -> Outcome:
        """It limits again, from now on."""
        return self._switch_limit(name, True)

    def limit(self, name: str) -> LimitRow:
        """One limit as it stands."""
        return self._transact(lambda conn: self._limit(conn, name))

    def remove_limit(self, name: str) -> Outcome:
        """Forget a limit; who waited for it goes on."""
        self._check_writable("remove a limit")

        def remove(conn: Connection) -> None:
            self._limit(conn, name)
            limits.delete(conn, name, at_us=now_us(), actor=self._actor)

        self._transact(remove)
        return Outcome(0, f"limit {name} removed")

    # -- variables -----------------------------------------------------------------------------------------------

    def set_variable(
        self, name: str, value: Any, *, tags: Sequence[str] | None = None, overwrite: bool = True,
        run_id: int | None = None,
    ) -> Outcome:  # fmt: skip
        """Make a variable or, with ``overwrite``, change it; without tags it keeps those it has."""
        self._check_writable("set a variable")
        text = variables.checked(name, value)
        self._transact(lambda conn: variables.put(
            conn, name, text, tags, overwrite=overwrite, actor=self._actor, run_id=run_id))
        return Outcome(0, f"variable {name} set")

    def unset_variable(self, name: str, *, run_id: int | None = None) -> Outcome:
        """Remove a variable."""
        self._check_writable("remove a variable")
        self._transact(lambda conn: variables.remove(conn, name, self._folder, actor=self._actor, run_id=run_id))
        return Outcome(0, f"variable {name} removed")

    def _switch_limit(self, name: str, active: bool) -> Outcome:
        self._check_writable("change a limit")

        def change(conn: Connection) -> None:
            row = self._limit(conn, name)
            limits.put(conn, name, row.slots, row.slot_decay_per_second, active=active, at_us=now_us(),
                       actor=self._actor)

        self._transact(change)
        return Outcome(0, f"limit {name} {'holds again' if active else 'is paused: it holds nobody back'}")

    def _limit(self, conn: Connection, name: str) -> LimitRow:
        row = limits.get(conn, name)
        if row is None:
            near = ", ".join(limit.name for limit in limits.all(conn)) or "none"
            raise NotFound(f"no limit {name!r} in {self._folder}; there are: {near}. "
                           f"`flowdeck limits set {name} N` makes it")
        return row

    # -- upkeep --------------------------------------------------------------------------------------------------

    def reap(self) -> None:
        """Settle runs whose process is gone, so that nothing is shown as running that is not."""
        if self._read_only:
            return
        from .reaping import reap_dead_runs

        reap_dead_runs(self._folder)

    # -- how -----------------------------------------------------------------------------------------------------

    def _ask(
        self, request: Request, run_id: int, act: Callable[[Connection, RunRow, LeaseRow | None], str]
    ) -> Outcome:
        self._check_writable(request)

        def ask(conn: Connection) -> str:
            run = runs.get(conn, run_id)
            if run is None:
                raise NotFound(f"there is no run #{run_id} in {self._folder}")
            if run.root_id is not None:
                raise NotAllowed(
                    f"run #{run_id} is part of run #{run.root_id} and lives in its process; "
                    f"{request} #{run.root_id} instead"
                )
            if not allowed(request, run.state_type, run.state_name):
                raise NotAllowed(f"run #{run_id} is {run.state_name}: it cannot be asked to {request}")
            lease = self._lease_of(conn, run_id)
            return act(conn, run, None if lease is not None and _has_left(lease, run) else lease)

        return Outcome(run_id, self._transact(ask))

    @staticmethod
    def _lease_of(conn: Connection, run_id: int) -> LeaseRow | None:
        """The lease of the run's live process."""
        lease = leases.of_run(conn, run_id)
        return lease if lease is not None and leases.is_alive(lease) else None

    def _move(self, conn: Connection, run: RunRow, event: str, cause: str | None, **more: Any) -> None:
        to = next_run_state(run.state_type, event)
        runs.transition(
            conn, run.id, attempt=run.attempt, from_=(run.state_type, run.state_name), to=to, at_us=now_us(),
            actor=self._actor, cause=cause, **more,
        )

    def _own_group(self, run: RunRow, lease: LeaseRow | None) -> LeaseRow:
        if lease is None:
            raise NotAllowed(f"run #{run.id} has no process that could be stopped or continued")
        return lease

    @staticmethod
    def _signal(lease: LeaseRow, number: signal.Signals) -> None:
        """To the whole process group when the run has its own, else to its process alone."""
        if lease.process_group == lease.pid:
            os.killpg(lease.pid, number)
            # Worker processes lead groups of their own within the run's session.
            processes.send([pid for pid in processes.of_run(lease.pid, None) if os.getpgid(pid) != lease.pid], number)
        else:
            os.kill(lease.pid, number)

    def _signal_commands(self, run: RunRow, number: signal.Signals) -> None:
        """What a run started into groups of its own, as ``sh`` does; not the guards of those groups."""
        processes.send(processes.of_run(-1, processes.run_mark(str(self._folder), run.id)), number)

    def _check_writable(self, request: str) -> None:
        if self._read_only:
            raise NotAllowed(f"read-only: {request} is refused; start the console without --read-only")

    def _transact(self, work: Callable[[Connection], T], *, is_write: bool = True) -> T:
        with store_errors(self._folder):
            if self._connection is None:
                open_store(self._folder, create=False)
                self._connection = connect(self._folder, "state")
            if is_write:
                self._last_plan = None  # the version does not tell of writes of one's own
            with (transaction if is_write else read_transaction)(self._connection) as connection:
                answer = work(connection)
        return answer


def _has_left(lease: LeaseRow, run: RunRow) -> bool:
    """Whether the process has left the run, to go on later, and only cleans up behind itself."""
    return lease.attempt is not None and lease.attempt < run.attempt


def _check_limit(name: str, slots: int, decay: float | None) -> None:
    if not name or name in ("tag:", "flow:") or not name.isprintable():
        raise UsageError(f"a limit's name is a printable text, not {name!r}")
    if isinstance(slots, bool) or not isinstance(slots, int) or slots < 0:
        raise UsageError(f"limit {name!r}: the number of slots is a whole number from 0, not {slots!r}")
    if decay is not None and not 0 < decay < float("inf"):
        raise UsageError(f"limit {name!r}: the slots that come back each second are a number above 0, not {decay!r}")


def _nodes(target: Target) -> list[Node]:
    if isinstance(target, int):
        return [Node(target)]
    return [target] if isinstance(target, Node) else list(target)


def _check_parameters(name: str, schema: dict[str, Any], given: dict[str, Any]) -> None:
    """Unknown and missing names; types are checked when the run starts, by the flow's own hints."""
    properties = schema.get("properties", {})
    for key in given:
        if key not in properties and not schema.get("additionalProperties", False):
            from difflib import get_close_matches

            near = get_close_matches(key, properties, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"its parameters are {', '.join(properties) or 'none'}"
            raise ParameterError(f"flow {name!r} has no parameter {key!r}; {hint}")
    for key, value in given.items():
        if properties.get(key, {}).get("format") == "password" and not str(value).startswith("secret:"):
            raise ParameterError(
                f"parameter {key!r} of flow {name!r} is a secret, and a value would have to be stored: put it into "
                f"FLOWDECK_SECRET_… or a file of the daemon's user, and give its name, {key}=secret:NAME"
            )
    missing = [key for key in schema.get("required", ()) if key not in given]
    if missing:
        raise ParameterError(f"flow {name!r} needs the parameter {missing[0]!r}: give it with -p {missing[0]}=VALUE")


__all__ = [
    "Control", "FlowdeckError", "InputField", "Node", "Outcome", "Plan", "actor", "allowed", "input_fields",
    "input_problems", "kind_words", "read_input",
]

"""The one door for requests: console, command line and users' code come to runs only through here.

Each request is one transaction (a retry that gives up thousands of results: several), done by the module that knows
what it is about: ``asking``, ``nodes``, ``retrying``, ``deployments``, ``limits``, ``variables``. There is always an
event naming who asked. Works without a daemon.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ...store.errors import StoreFull
from ...store.rows import InputRow, LimitRow
from ...store.tables import inputs
from ...store.tables.nodes import Node
from ..encoding.json_schema import Field as InputField
from ..encoding.json_schema import fields as input_fields
from ..encoding.json_schema import from_text as read_input
from ..encoding.json_schema import kind_words
from ..encoding.json_schema import problems as input_problems
from ..encoding.typed_text import TypedValues
from ..errors import FlowdeckError, NotAllowed
from ..secrets.secret import conceal_known
from ..states.allowed import Request as Request
from ..states.allowed import allowed as allowed
from ..system.actors import actor_name
from . import asking
from .transacting import Transactions

if TYPE_CHECKING:
    from .retry_plan import Plan as Plan
    from .retrying import Retries

Target = int | Node | Sequence[Node]
"""A run by its number, or parts of one run tree."""


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
        self._store = Transactions(self._folder)
        self._made_retries: Retries | None = None
        conceal_known()  # what is asked is written down

    def close(self) -> None:
        """Close the connection."""
        self._store.close()

    # -- runs ----------------------------------------------------------------------------------------------------

    def pause(self, run_id: int) -> Outcome:
        """No new task starts; running ones finish. A run without a process is held where it is."""
        return self._ask("pause", run_id, asking.pause)

    def suspend(self, run_id: int) -> Outcome:
        """As ``pause``, but its process ends then and holds nothing; a resume continues by replay."""
        return self._ask("suspend", run_id, asking.suspend)

    def questions(self, run_id: int) -> list[InputRow]:
        """What the run asks for now, oldest first."""
        return self._store.read(lambda conn: inputs.open_requests(conn, run_id))

    def send(self, run_id: int, kind: str, value: Any, *, sender: str | None = None) -> str:
        """Put a message into a run's inbox, durably; ``kind`` is what ``receive_input`` looks for. Returns its key."""
        self._check_writable("send")
        return self._store.write(lambda conn: asking.send(
            conn, run_id, kind, value, sender=sender, actor=self._actor, folder=self._folder))

    def resume(self, run_id: int, run_input: Any = None) -> Outcome:
        """Go on; a run without a process is queued and continues by replay.

        ``run_input`` is the answer to a run that awaits input; a wrong one raises ``InputError`` and changes nothing.
        """
        return self._ask("resume", run_id, lambda asked: asking.resume(asked, run_input))

    def cancel(self, target: Target, *, at_once: bool = False) -> Outcome:
        """End it: user code gets ``Cancelled``; after the grace its processes are killed.

        ``at_once``, which is for whole runs: they are killed now. So they are when it is asked for a second time.

        Of a part of a run tree (a subflow's run, a task, a mapped group): its code gets ``Cancelled``, the rest of
        the run goes on. Code that does not end within the grace is left behind, and what it returns is dropped.
        """
        self._check_writable("cancel")
        wanted = _nodes(target)
        if len(wanted) == 1 and wanted[0].is_run:
            run_id = wanted[0].run_id
            if self._store.read(lambda conn: asking.is_root(conn, run_id)):
                return self._cancel_root(run_id, at_once=at_once)
        if at_once:
            raise NotAllowed("only whole runs can be ended at once: their parts live in one process with the rest")
        from . import nodes

        return Outcome(*self._store.write(lambda conn: nodes.cancel(conn, wanted, self._actor)))

    def _cancel_root(self, run_id: int, *, at_once: bool) -> Outcome:
        try:
            return self._ask("cancel", run_id, lambda asked: asking.cancel(asked, at_once=at_once))
        except StoreFull:
            from . import without_room

            told = self._store.read(lambda conn: without_room.ask(self._store.folder, conn, run_id, at_once=at_once))
            if told is None:
                raise
            return Outcome(run_id, told)

    def plan_retry(self, target: Target, kind: Literal["failed", "all"] = "failed") -> Plan:
        """What a retry would run again, with counts and names: nothing is asked. Refused where the retry would be."""
        return self._retries().plan(_nodes(target), kind)[1]

    def retry(
        self, target: Target, kind: Literal["failed", "all"] = "failed", *, parameters: dict[str, Any] | None = None
    ) -> Outcome:
        """Run it again as its next attempt: finished tasks keep their results, everything else runs.

        From a node (a task, a mapped group, a subflow): that, what is beneath and downstream of it run again as well;
        ``kind="all"`` is everything. With ``parameters`` it is a new run, forked there: it keeps what the retry would
        keep, and the old run stays as it ended.
        """
        self._check_writable("retry")
        return Outcome(*self._retries().ask(_nodes(target), kind, parameters))

    def set_state(self, node: Node, state: Literal["completed", "skipped"], result: Any = None) -> Outcome:
        """Decide for a task that did not do it: taken as Completed with this JSON value, or as Skipped (None).

        A retry then does not run it, whatever its inputs. Only where no process of the run could be running it, or
        where it waits for a person (``on_exhausted="pause"``).
        """
        self._check_writable("set a state")
        from . import nodes
        from .decisions import Decision

        decision = Decision(state, result, self._actor)
        return Outcome(*self._store.write(lambda conn: nodes.set_state(conn, node, decision)))

    def skip(self, target: int | Node) -> Outcome:
        """Have it not run: a run that waits for its time, or a task as in ``set_state``."""
        if isinstance(target, Node) and not target.is_run:
            return self.set_state(target, "skipped")
        return self._ask("skip", target if isinstance(target, int) else target.run_id, asking.skip)

    def freeze(self, run_id: int) -> Outcome:
        """Stop its processes where they are (SIGSTOP); they keep their memory and their slots."""
        return self._ask("freeze", run_id, asking.freeze)

    def thaw(self, run_id: int) -> Outcome:
        """Let frozen processes go on (SIGCONT)."""
        return self._ask("thaw", run_id, asking.thaw)

    # -- deployments and schedules -------------------------------------------------------------------------------

    def trigger(
        self, name: str, parameters: dict[str, Any] | None = None, *, scheduled_at_us: int | None = None
    ) -> int:
        """Queue a run of a deployment for the daemon; returns its number. Wrong parameters are refused here."""
        self._check_writable("trigger")
        from . import deployments

        return self._store.write(lambda conn: deployments.trigger(
            conn, name, parameters or {}, scheduled_at_us, actor=self._actor, folder=self._folder))

    def pause_schedule(self, schedule_id: int) -> None:
        """No run is made by this schedule until it is resumed."""
        self._switch_schedule(schedule_id, False)

    def resume_schedule(self, schedule_id: int) -> None:
        """The schedule makes runs again, from now on."""
        self._switch_schedule(schedule_id, True)

    def _switch_schedule(self, schedule_id: int, active: bool) -> None:
        self._check_writable("change a schedule")
        from . import deployments

        self._store.write(lambda conn: deployments.switch_schedule(
            conn, schedule_id, active, actor=self._actor, folder=self._folder))

    # -- limits --------------------------------------------------------------------------------------------------

    def set_limit(
        self, name: str, slots: int, slot_decay_per_second: float | None = None, *, active: bool = True
    ) -> Outcome:
        """Make or change a limit: ``tag:NAME``, ``flow:NAME`` or any name that ``concurrency`` uses. Holds at once."""
        self._check_writable("set a limit")
        from . import limits

        limits.check(name, slots, slot_decay_per_second)
        self._store.write(lambda conn: limits.put(
            conn, name, slots, slot_decay_per_second, active=active, actor=self._actor))
        return Outcome(0, f"limit {name}: {slots} slots")

    def pause_limit(self, name: str) -> Outcome:
        """Nobody waits for it until it is resumed."""
        return self._switch_limit(name, False)

    def resume_limit(self, name: str) -> Outcome:
        """It limits again, from now on."""
        return self._switch_limit(name, True)

    def _switch_limit(self, name: str, active: bool) -> Outcome:
        self._check_writable("change a limit")
        from . import limits

        return Outcome(0, self._store.write(lambda conn: limits.switch(
            conn, name, active, self._folder, actor=self._actor)))

    def limit(self, name: str) -> LimitRow:
        """One limit as it stands."""
        from . import limits

        return self._store.read(lambda conn: limits.find(conn, name, self._folder))

    def remove_limit(self, name: str) -> Outcome:
        """Forget a limit; who waited for it goes on."""
        self._check_writable("remove a limit")
        from . import limits

        self._store.write(lambda conn: limits.remove(conn, name, self._folder, actor=self._actor))
        return Outcome(0, f"limit {name} removed")

    # -- variables -----------------------------------------------------------------------------------------------

    def set_variable(
        self, name: str, value: Any, *, tags: Sequence[str] | None = None, overwrite: bool = True,
        run_id: int | None = None,
    ) -> Outcome:  # fmt: skip
        """Make a variable or, with ``overwrite``, change it; without tags it keeps those it has."""
        self._check_writable("set a variable")
        from . import variables

        text = variables.checked(name, value)
        self._store.write(lambda conn: variables.put(
            conn, name, text, tags, overwrite=overwrite, actor=self._actor, run_id=run_id))
        return Outcome(0, f"variable {name} set")

    def unset_variable(self, name: str, *, run_id: int | None = None) -> Outcome:
        """Remove a variable."""
        self._check_writable("remove a variable")
        from . import variables

        self._store.write(lambda conn: variables.remove(conn, name, self._folder, actor=self._actor, run_id=run_id))
        return Outcome(0, f"variable {name} removed")

    # -- upkeep --------------------------------------------------------------------------------------------------

    def reap(self) -> None:
        """Settle runs whose process is gone, so that nothing is shown as running that is not."""
        if self._read_only:
            return
        from .reaping import reap_dead_runs

        reap_dead_runs(self._folder)

    # -- how -----------------------------------------------------------------------------------------------------

    def _ask(self, request: Request, run_id: int, act: Callable[[asking.Asked], str]) -> Outcome:
        self._check_writable(request)
        return Outcome(run_id, self._store.write(lambda conn: act(
            asking.find(conn, request, run_id, self._actor, self._folder))))

    def _retries(self) -> Retries:
        if self._made_retries is None:
            from .retrying import Retries

            self._made_retries = Retries(self._store, self._actor)
        return self._made_retries

    def _check_writable(self, request: str) -> None:
        if self._read_only:
            raise NotAllowed(f"read-only: {request} is refused; start the console without --read-only")


def _nodes(target: Target) -> list[Node]:
    if isinstance(target, int):
        return [Node(target)]
    return [target] if isinstance(target, Node) else list(target)


__all__ = [
    "Control", "FlowdeckError", "InputField", "Node", "Outcome", "TypedValues", "actor", "allowed", "input_fields",
    "input_problems", "kind_words", "read_input",
]

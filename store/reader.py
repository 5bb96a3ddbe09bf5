"""Reading the store: one object, two read-only connections kept open, no transaction across calls.

Every method is one short read that returns rows of ``rows``. Use a Reader from one thread at a time (it may be handed
from thread to thread). Nothing here can change the store. A missing store raises ``StoreMissing``.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Collection, Iterable
from functools import wraps
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from .connection import SCHEMA_VERSION, Connection, Database, check_version, connect, data_version, database_path
from .driver_errors import is_store_trouble, translate
from .errors import StoreError
from .rows import (
    ArtifactRow,
    CacheRow,
    DeploymentRow,
    EdgeRow,
    EventRow,
    FlowFileRow,
    FlowRow,
    InputRow,
    LeaseRow,
    LimitRow,
    LogMatches,
    LogRow,
    MetricRow,
    ResultRow,
    RunRow,
    ScheduleRow,
    TaskRow,
    VariableRow,
)
from .tables import (
    artifacts,
    cache,
    deployments,
    edges,
    events,
    inputs,
    leases,
    limits,
    logs,
    metrics,
    nodes,
    results,
    runs,
    schedules,
    tasks,
    usages,
    variables,
)
from .tables.limits import Queue
from .tables.logs import MAX_SCAN, Searchable

_Method = TypeVar("_Method", bound=Callable[..., Any])
_TASK_INDEX: Final = re.compile(r"(.+)\[(\d+)\]")
_LARGEST_ID: Final = 2**63 - 1
_OF_TELEMETRY: Final = frozenset({"logs", "log_count", "search_logs", "metrics"})
"""Methods that read there; all others read ``state``."""


def _typed_errors(method: _Method) -> _Method:
    """What SQLite says while reading, as a ``StoreError`` about the file that was read."""
    database: Database = "telemetry" if method.__name__ in _OF_TELEMETRY else "state"

    @wraps(method)
    def reading(self: Reader, *arguments: Any, **options: Any) -> Any:
        try:
            return method(self, *arguments, **options)
        except sqlite3.DatabaseError as error:
            if is_store_trouble(error):
                raise translate(error, database_path(self.folder, database)) from error
            raise

    return cast("_Method", reading)


class Reader:
    """Read-only view of a store."""

    def __init__(self, folder: str | Path) -> None:
        self.folder: Path = Path(os.path.abspath(folder))
        self._state: Connection = self._opened("state")
        self._opened_telemetry: Connection | None = None

    def _opened(self, database: Database) -> Connection:
        """A connection to one of the files, of this version."""
        connection = connect(self.folder, database, readonly=True)
        try:
            path = database_path(self.folder, database)
            if (version := check_version(connection, path)) < SCHEMA_VERSION:
                raise StoreError(
                    f"{path} was made by an older Flowdeck (schema {version}, this one reads {SCHEMA_VERSION}). "
                    "Start any flow or the daemon on it: that backs it up and migrates it."
                )
        except StoreError:
            connection.close()
            raise
        return connection

    @property
    def _telemetry(self) -> Connection:
        """Opened when it is first read: runs can be looked at and cancelled where a full disk lets nobody read it."""
        if self._opened_telemetry is None:
            self._opened_telemetry = self._opened("telemetry")
        return self._opened_telemetry

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what is open."""
        self._state.close()
        if self._opened_telemetry is not None:
            self._opened_telemetry.close()

    # ------------------------------------------------------------------------------------------ runs

    def runs(
        self,
        *,
        flow: str | None = None,
        states: Collection[str] | None = None,
        limit: int = 200,
        before_id: int | None = None,
        search: str | None = None,
        roots_only: bool = True,
    ) -> list[RunRow]:
        """Runs, newest first; ``states`` are state types, ``search`` looks in name, flow, cause, tags and number."""
        return runs.listing(
            self._state, flow=flow, states=states, limit=limit, before_id=before_id, search=search,
            roots_only=roots_only,
        )  # fmt: skip

    def run(self, run_id: int) -> RunRow | None:
        """One run, or None."""
        return runs.get(self._state, run_id)

    def live_runs(self) -> list[RunRow]:
        """Every run that has not ended, subflows too, oldest first."""
        return runs.live(self._state)

    def asked_for(self, run_id: int) -> list[RunRow]:
        """Runs with processes of their own that a run had deployments make."""
        return runs.asked_for(self._state, run_id)

    def children(self, run_id: int) -> list[RunRow]:
        """The subflow runs a run made itself."""
        return runs.children(self._state, run_id)

    def run_counts(self) -> dict[str, int]:
        """Runs per state type; types without runs are absent."""
        return runs.counts(self._state)

    def find(self, reference: str) -> RunRow | None:
        """A run by what people call it: ``42``, ``#42``, its name (the newest that has it), ``@last``, ``@failed``.

        What begins as one of the others is no name: ``42/7`` is a task of run 42, whatever a run calls itself.
        """
        reference = reference.strip()
        if reference == "@last":
            return next(iter(self.runs(limit=1)), None)
        if reference == "@failed":
            return next(iter(self.runs(states=("FAILED", "CRASHED"), limit=1)), None)
        first, stroke, _ = reference.partition("/")
        number = first.removeprefix("#")
        if number.isdecimal() and not stroke:
            return self.run(int(number)) if int(number) <= _LARGEST_ID else None
        if number.isdecimal() or first in ("@last", "@failed"):
            return None
        row = self._state.execute(runs.SELECT_NAMED, (reference,)).fetchone()
        return RunRow._make(row) if row else None

    # ------------------------------------------------------------------------------------------ tasks

    def find_task(self, reference: str) -> TaskRow | None:
        """A task run: ``42/7``, ``42/extract``, ``42/extract[3]``; the part before the stroke is as in ``find``."""
        run_part, stroke, task_part = reference.strip().partition("/")
        run = self.find(run_part) if stroke else None
        if run is None or not task_part:
            return None
        if task_part.isdecimal():
            return tasks.get(self._state, run.id, int(task_part)) if int(task_part) <= _LARGEST_ID else None
        found = tasks.find(self._state, run.id, task_part)
        if found is None and (parts := _TASK_INDEX.fullmatch(task_part)) and int(parts[2]) <= _LARGEST_ID:
            found = tasks.find(self._state, run.id, parts[1], int(parts[2]))
        return found

    def tasks(self, run_id: int, after_seq: int = 0, limit: int | None = None) -> list[TaskRow]:
        """The task runs of a run in their order."""
        return tasks.of_run(self._state, run_id, after_seq, limit)

    def calls(self, run_id: int, name: str) -> list[TaskRow]:
        """Every call of a task of this key in a run, else those of this name."""
        return nodes.named(self._state, run_id, name)

    def nodes_named(self, run_id: int, name: str) -> list[nodes.Node]:
        """The same calls as nodes: members of one map as their group, any other by itself."""
        return nodes.of_name(self._state, run_id, name)

    def tasks_changed(self, run_id: int, seqs: Iterable[int]) -> list[TaskRow]:
        """The named task runs as they are now."""
        return tasks.by_seq(self._state, run_id, seqs)

    def task_counts(self, run_id: int) -> dict[tuple[str, str], int]:
        """Task runs per ``(state_type, state_name)``."""
        return tasks.counts(self._state, run_id)

    def edges(self, run_id: int) -> list[EdgeRow]:
        """What depends on what in a run."""
        return edges.of_run(self._state, run_id)

    def result(self, run_id: int, seq: int) -> ResultRow | None:
        """The journalled result of a task run, or None; show its ``preview``, never decode its ``data``."""
        return results.get(self._state, run_id, seq)

    def result_codecs(self, run_id: int) -> dict[int, str]:
        """How each journalled result of a run is stored, by seq; ``none`` for what could not be."""
        return results.codecs(self._state, run_id)

    def cache_entries(self, run_id: int, seq: int | None = None) -> list[CacheRow]:
        """The cache entries that a run, or one task of it, made."""
        return cache.of_run(self._state, run_id, seq)

    def tries(self, run: RunRow) -> int:
        """How often a run was tried, the first time included; its attempt also grows with each suspension."""
        if run.attempt == 1:
            return 1
        again = events.times_again(self._state, run.id)
        return again if run.state_name == "AwaitingRetry" and again else again + 1  # the next one has yet to begin

    def reasons_again(self, run_id: int) -> dict[int, str]:
        """Why calls were made anew in a later attempt of their run, as said then; by seq, the last time."""
        return dict(events.made_anew(self._state, run_id))

    def artifacts(self, run_id: int) -> list[ArtifactRow]:
        """What a run made for people to read."""
        return artifacts.of_run(self._state, run_id)

    def artifacts_mark(self, run_id: int) -> tuple[int, int | None, str | None]:
        """Something that changes when an artifact of a run is made or moved."""
        return artifacts.mark(self._state, run_id)

    def artifacts_by_key(self, limit: int = 1000) -> list[ArtifactRow]:
        """The newest artifact of each key, also of those made outside of runs, newest first."""
        return artifacts.newest_of_each(self._state, limit)

    def artifact_versions(self, key: str, limit: int = 100) -> list[ArtifactRow]:
        """The artifacts of one key over all runs, newest first."""
        return artifacts.of_key(self._state, key, limit)

    # ------------------------------------------------------------------------------------------ events

    def events(self, after_id: int = 0, limit: int = 1000, run_id: int | None = None) -> list[EventRow]:
        """Events after one, oldest first; of one run and its tasks when ``run_id`` is given."""
        if run_id is None:
            return events.after(self._state, after_id, limit)
        return events.of_run(self._state, run_id, after_id, limit)

    def last_event_id(self) -> int:
        """The id of the newest event; 0 when there is none."""
        return events.last_id(self._state)

    # ------------------------------------------------------------------------------------------ telemetry

    def logs(self, root_id: int, from_line: int = 0, limit: int = 200) -> list[LogRow]:
        """A page of a root run's lines."""
        return logs.page(self._telemetry, root_id, from_line, limit)

    def log_count(self, root_id: int) -> int:
        """How many lines a root run has stored."""
        return logs.count(self._telemetry, root_id)

    def search_logs(
        self,
        root_id: int,
        *,
        min_level: int = 0,
        run_id: int | None = None,
        task_seq: int | None = None,
        pattern: str | Searchable | None = None,
        from_line: int = 0,
        limit: int = 1000,
        scan: int = MAX_SCAN,
    ) -> LogMatches:
        """Lines that fit, at most ``limit``, looking at no more than ``scan`` lines; see ``logs.search``."""
        return logs.search(
            self._telemetry, root_id, min_level=min_level, run_id=run_id, task_seq=task_seq, pattern=pattern,
            from_line=from_line, limit=limit, scan=scan,
        )  # fmt: skip

    def metrics(self, run_id: int, task_seq: int | None = None) -> list[MetricRow]:
        """What a run, or one of its tasks, measured, oldest first."""
        return metrics.of_run(self._telemetry, run_id, task_seq)

    # ------------------------------------------------------------------------------------------ the rest

    def flows(self) -> list[FlowRow]:
        """Every flow ever run or deployed."""
        return runs.flows(self._state)

    def deployments(self) -> list[DeploymentRow]:
        """Every deployment, by name."""
        return deployments.all(self._state)

    def schedules(self) -> list[ScheduleRow]:
        """Every schedule, by deployment."""
        return schedules.all(self._state)

    def problems(self) -> list[FlowFileRow]:
        """Flow files that could not be imported."""
        return deployments.problems(self._state)

    def leases(self) -> list[LeaseRow]:
        """Every lease; whether its process lives is for ``leases.judge`` to say."""
        return leases.all(self._state)

    def daemon(self) -> LeaseRow | None:
        """The daemon's lease when its process lives, else None."""
        lease = leases.get(self._state, leases.DAEMON)
        return lease if lease is not None and leases.is_alive(lease, self.folder) else None

    def lease_of(self, run_id: int) -> LeaseRow | None:
        """The lease on a run, or None when no process has it."""
        return leases.of_run(self._state, run_id)

    def questions(self, run_id: int) -> list[InputRow]:
        """What a run and its subflows ask for now, oldest first."""
        return inputs.open_requests(self._state, run_id)

    def inputs(self, run_id: int) -> list[InputRow]:
        """Everything a run asked, was answered and was sent, in order."""
        return inputs.of_run(self._state, run_id)

    def variables(self) -> list[VariableRow]:
        """Every variable, by name."""
        return variables.all(self._state)

    def variable(self, name: str) -> VariableRow | None:
        """One variable, or None."""
        return variables.get(self._state, name)

    def limits(self) -> list[LimitRow]:
        """Every concurrency limit, by name."""
        return limits.all(self._state)

    def limit_queue(self, name: str) -> Queue:
        """Who has slots of a limit and who waits for them."""
        return limits.queue(self._state, name)

    def limit_usages(self, now_us: int) -> list[usages.Usage]:
        """Every limit with who uses it, those of flows too; by name."""
        return usages.usages(self._state, now_us)

    def data_version(self) -> tuple[int, int]:
        """A pair that changes when another connection commits to state, or to telemetry; costs some 10 µs."""
        return data_version(self._state), data_version(self._telemetry)


for _name, _member in list(vars(Reader).items()):
    if not _name.startswith("_") and callable(_member) and _name != "close":
        setattr(Reader, _name, _typed_errors(_member))

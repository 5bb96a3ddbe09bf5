"""From what a code host found in its file to rows: the flow file, its deployments, their schedules.

A deployment has its flow's name. Two files with one name clash: the first keeps it, the second is a visible problem.
A schedule keeps its place by its slug; when its times change, its next tick is counted from now. What a file no longer
holds stops being scheduled, and an event says so; when it comes back it goes on. What a person paused stays paused.
Reads no file and makes no run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from ...store.connection import Connection, transaction
from ...store.rows import DeploymentRow, FlowFileRow, ScheduleRow
from ...store.tables import deployments, events, schedules
from ..schedules.kinds import same_times
from ..schedules.ticks import next_due_us

ACTOR: Final = "engine"


class Found(NamedTuple):
    """What a loaded file holds."""

    path: str
    source_hash: str
    flows: Sequence[dict[str, Any]]


def register(connection: Connection, found: Sequence[Found], holders: dict[str, str], at_us: int) -> list[list[str]]:
    """Store what loaded files hold, in one transaction; ``holders`` says which other file has which flow.

    Returns for each the names that clash: among these files, too, the first keeps a name.
    """
    known = dict(holders)
    clashes = []
    with transaction(connection):
        for one in found:
            clashes.append(_register_file(connection, one, known, at_us))
            for flow in one.flows:
                known.setdefault(flow["name"], one.path)
    return clashes


def _register_file(connection: Connection, loaded: Found, holders: dict[str, str], at_us: int) -> list[str]:
    path, source_hash = loaded.path, loaded.source_hash
    clashes: list[str] = []
    found: set[str] = set()
    for flow in loaded.flows:
        name = flow.get("deployment", flow["name"])
        if holders.get(name, path) != path:
            clashes.append(name)
            continue
        found.add(name)
        deployments.upsert(connection, DeploymentRow(
            name, flow["name"], path, f"{path}:{flow['name']}", flow["description"], flow["parameters"],
            flow["parameters_schema"], flow["tags"], source_hash, at_us, flow["concurrency_limit"],
            flow["collision_strategy"]))
        _register_schedules(connection, name, flow["schedules"], at_us)
    for deployment in deployments.of_file(connection, path):
        if deployment.name not in found:
            _stop(connection, deployment, f"{path} no longer holds the flow {deployment.name!r}", at_us)
    error = None
    if clashes:
        names = ", ".join(f"{name!r} (also in {holders[name]})" for name in clashes)
        error = f"{path}: a flow of the same name is in another file: {names}; give one of them another name"
    deployments.upsert_file(connection, FlowFileRow(path, source_hash, error, None, at_us))
    events.append(connection, at_us=at_us, kind="deployment", actor=ACTOR,
                  message=error or f"loaded {path}: {', '.join(sorted(found)) or 'no flows'}",
                  data={"path": path, "flows": sorted(found), "clashes": clashes})
    return clashes


def known_paths(connection: Connection) -> set[str]:
    """The files that rows speak of."""
    return {row.path for row in deployments.all(connection)} | {row.path for row in deployments.files(connection)}


def note_broken(connection: Connection, path: str, source_hash: str, error: str, traceback: str | None,
                at_us: int) -> None:
    """A file that cannot be used: a visible problem; what was known of it stays."""
    with transaction(connection):
        deployments.upsert_file(connection, FlowFileRow(path, source_hash, error, traceback, at_us))
        events.append(connection, at_us=at_us, kind="deployment", actor=ACTOR, message=error, data={"path": path})


def forget_file(connection: Connection, path: str, why: str, at_us: int) -> None:
    """The file is no longer served: nothing of it is scheduled any more."""
    with transaction(connection):
        known = deployments.get_file(connection, path) is not None
        stopped = [_stop(connection, deployment, why, at_us) for deployment in deployments.of_file(connection, path)]
        deployments.delete_file(connection, path)
        if not known and not any(stopped):
            return  # said already, when it happened
        events.append(connection, at_us=at_us, kind="deployment", actor=ACTOR, message=why, data={"path": path})


def _register_schedules(connection: Connection, deployment: str, wanted: list[dict[str, Any]],
                        at_us: int) -> None:
    known = {row.slug: row for row in schedules.of_deployment(connection, deployment)}
    for entry in wanted:
        row = known.pop(entry["slug"], None)
        changed = row is None or not same_times(row.spec, entry["spec"])
        due_us = next_due_us(entry["spec"], at_us) if changed or row is None else row.next_due_at_us
        schedule_id = schedules.upsert(connection, ScheduleRow(
            0, deployment, entry["slug"], entry["kind"], entry["spec"], entry["parameters"], entry["catchup"],
            entry["catchup_window_seconds"], entry["overlap"], entry["active"], due_us, None))
        if row is not None and not changed and row.spec != entry["spec"]:
            schedules.advance(connection, schedule_id, row.next_due_at_us)  # the words alone are other ones
        if row is not None and changed:
            _say(connection, schedule_id, f"{deployment}/{entry['slug']}: its times have changed", at_us)
        if row is not None and _was_stopped(row):
            schedules.set_active(connection, schedule_id, True, due_us or next_due_us(entry["spec"], at_us))
            _say(connection, schedule_id, f"{deployment}/{entry['slug']}: scheduled again", at_us)
    for row in known.values():
        schedules.delete(connection, row.id)
        _say(connection, row.id, f"{deployment}/{row.slug}: removed, its flow no longer has this schedule", at_us)


def _stop(connection: Connection, deployment: DeploymentRow, why: str, at_us: int) -> bool:
    """Take the active schedules of a deployment out of service; says whether there were any."""
    stopped = False
    for row in schedules.of_deployment(connection, deployment.name):
        if row.active:
            stopped = True
            schedules.set_active(connection, row.id, False)
            # No next tick marks it as stopped by us and not paused by a person (``_was_stopped``).
            schedules.advance(connection, row.id, None)
            _say(connection, row.id, f"{deployment.name}/{row.slug}: no longer scheduled: {why}", at_us)
    return stopped


def _was_stopped(row: ScheduleRow) -> bool:
    return not row.active and row.next_due_at_us is None


def _say(connection: Connection, schedule_id: int, message: str, at_us: int) -> None:
    events.append(connection, at_us=at_us, kind="schedule", actor=ACTOR, message=message,
                  data={"schedule_id": schedule_id})

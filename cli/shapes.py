"""The JSON shapes of docs/design.md, section 7: rows of the store as plain mappings for programs.

Keys may be added, none renamed: scripts depend on them. ``state`` is the type, ``state_name`` the name; times are
ISO 8601 UTC, durations seconds. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..store.rows import DeploymentRow, EdgeRow, EventRow, FlowFileRow, LogRow, RunRow, ScheduleRow, TaskRow
from .formats import iso, level_name, seconds


def run_shape(run: RunRow) -> dict[str, Any]:
    """A run as one element of a listing."""
    return {
        "id": run.id,
        "flow": run.flow_name,
        "name": run.name,
        "state": run.state_type,
        "state_name": run.state_name,
        "attempt": run.attempt,
        "intent": run.intent,
        "scheduled_at": iso(run.scheduled_at_us),
        "created_at": iso(run.created_at_us),
        "started_at": iso(run.started_at_us),
        "ended_at": iso(run.ended_at_us),
        "duration_seconds": seconds(run.duration_us),
        "cause": run.cause,
        "tags": _load(run.tags),
        "parent": run.parent_run_id,
        "deployment": run.deployment,
        "actor": run.actor,
        "retry_of": run.retry_of,
    }


def task_shape(task: TaskRow, upstream: Sequence[int]) -> dict[str, Any]:
    """A task run of ``show``; ``key[index]`` names it on the command line, ``upstream`` are the seqs it waited for."""
    return {
        "seq": task.seq,
        "key": task.key,
        "index": task_index(task),
        "name": task.name,
        "state": task.state_type,
        "state_name": task.state_name,
        "attempt": task.attempt,
        "started_at": iso(task.started_at_us),
        "ended_at": iso(task.ended_at_us),
        "duration_seconds": seconds(task.duration_us),
        "upstream": list(upstream),
        "cause": task.cause,
        "kind": task.kind,
        "child_run": task.child_run_id,
        "call_index": task.call_index,
        "map_index": task.map_index,
        "cpu_seconds": seconds(task.cpu_us),
        "peak_rss_bytes": task.peak_rss_bytes,
    }


def task_index(task: TaskRow) -> int:
    """The number in ``extract[3]``: place in its ``map``, else how many calls of the key came before."""
    return task.call_index if task.map_index is None else task.map_index


def show_shape(run: RunRow, tasks: Iterable[TaskRow], edges: Iterable[EdgeRow]) -> dict[str, Any]:
    """A run with its parameters and all its tasks."""
    upstream = upstream_by_task(run.id, edges)
    return run_shape(run) | {
        "parameters": _load(run.parameters),
        "entrypoint": run.entrypoint,
        "result_preview": run.result_preview,
        "tasks": [task_shape(task, upstream.get(task.seq, ())) for task in tasks],
    }


def upstream_by_task(run_id: int, edges: Iterable[EdgeRow]) -> Mapping[int, list[int]]:
    """Seqs of the same run that feed, or are awaited by, each task, in order."""
    found: dict[int, list[int]] = {}
    for edge in edges:
        if edge.from_run_id == run_id:
            found.setdefault(edge.to_seq, []).append(edge.from_seq)
    for seqs in found.values():
        seqs.sort()
    return found


def event_shape(event: EventRow) -> dict[str, Any]:
    """An event; ``from`` and ``to`` are state types, their names stand beside them."""
    return {
        "id": event.id,
        "at": iso(event.at_us),
        "run": event.run_id,
        "task": event.task_seq,
        "kind": event.kind,
        "from": event.from_type,
        "to": event.to_type,
        "actor": event.actor,
        "message": event.message,
        "from_name": event.from_name,
        "to_name": event.to_name,
        "attempt": event.attempt,
        "data": None if event.data is None else _load(event.data),
    }


def log_shape(line: LogRow) -> dict[str, Any]:
    """A stored line of output."""
    return {
        "at": iso(line.at_us),
        "run": line.run_id,
        "task": line.task_seq,
        "level": level_name(line.level),
        "logger": line.logger,
        "stream": line.stream,
        "message": line.message,
        "levelno": line.level,
        "line": line.line,
        "attempt": line.attempt,
    }


def schedule_shape(schedule: ScheduleRow) -> dict[str, Any]:
    """A schedule; ``when`` says in words what ``spec`` says in full."""
    from ..engine.schedules.kinds import from_json

    found = from_json(schedule.spec)
    return {
        "id": schedule.id,
        "deployment": schedule.deployment,
        "slug": schedule.slug,
        "kind": schedule.kind,
        "when": found.describe(),
        "timezone": getattr(found, "timezone", "UTC"),
        "timezone_from": found.zone_source(),
        "active": schedule.active,
        "next_due_at": iso(schedule.next_due_at_us) if schedule.active else None,
        "last_due_at": iso(schedule.last_due_at_us),
        "catchup": schedule.catchup,
        "catchup_window_seconds": schedule.catchup_window_seconds,
        "overlap": schedule.overlap,
        "parameters": _load(schedule.parameters),
        "spec": _load(schedule.spec),
    }


def deployment_shape(
    deployment: DeploymentRow, schedules: Sequence[Mapping[str, Any]], problem: FlowFileRow | None, last: RunRow | None
) -> dict[str, Any]:
    """A flow the daemon can run by name; ``problem`` is why its file could not be read anew."""
    return {
        "name": deployment.name,
        "flow": deployment.flow_name,
        "description": deployment.description,
        "path": deployment.path,
        "entrypoint": deployment.entrypoint,
        "tags": _load(deployment.tags),
        "parameters": _load(deployment.parameters),
        "parameters_schema": _load(deployment.parameters_schema),
        "schedules": list(schedules),
        "last_run": None if last is None else run_shape(last),
        "problem": None if problem is None else problem.error,
        "updated_at": iso(deployment.updated_at_us),
    }


def _load(text: str) -> Any:
    # Not-a-number is no JSON, though Python writes and reads it: programs get the word instead.
    return json.loads(text, parse_constant=str)

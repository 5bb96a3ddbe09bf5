"""What was recorded of a flow's last run, read from flowdeck's store or from Prefect's server, in one form.

Prefect's records of task runs arrive by events, after the flow has ended: its branch waits for them.
"""

from __future__ import annotations

import json
import logging
import os
import time
from typing import Any, NamedTuple

from .names import PREFECT

SILENT = ("Pending", "AwaitingRetry")
"""States that a call may pass through too fast to be written: left out of ``history``."""


class Run(NamedTuple):
    """One flow run or task run."""

    name: str
    state: str
    """The name of its last state."""
    message: str
    history: list[str]
    """Names of the states it was in."""
    tags: set[str]
    parameters: dict[str, Any]
    upstream: set[str]
    """Names of the task runs it got data from or waited for."""
    attempts: int


class Artifact(NamedTuple):
    """Something a run made to be looked at."""

    kind: str
    key: str
    description: str | None
    data: str


def flow_run(flow_name: str) -> Run:
    """The last run of this flow, subflows too."""
    return flow_runs(flow_name)[-1]


if PREFECT:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowFilter, FlowRunFilter, LogFilter, LogFilterFlowRunId

    def _find(flow_name: str) -> list[Any]:
        with get_client(sync_client=True) as client:
            found = client.read_flow_runs(flow_filter=FlowFilter(name={"any_": [flow_name]}), sort="START_TIME_ASC")
        return sorted(found, key=lambda run: run.created)

    def flow_runs(flow_name: str) -> list[Run]:
        """Every run of this flow, in order."""
        runs = []
        with get_client(sync_client=True) as client:
            for run in _find(flow_name):
                history = [state.name for state in client.read_flow_run_states(run.id) if state.name not in SILENT]
                runs.append(
                    Run(
                        run.name, run.state.name, run.state.message or "", history, set(run.tags), run.parameters,
                        set(), run.run_count,
                    )
                )
        return runs

    def task_runs(flow_name: str) -> list[Run]:
        """The task runs of the flow's last run, in order of creation."""
        run = _find(flow_name)[-1]
        with get_client(sync_client=True) as client:
            wanted = FlowRunFilter(id={"any_": [run.id]})
            before, deadline = -1, time.monotonic() + 20
            while time.monotonic() < deadline:
                rows = client.read_task_runs(flow_run_filter=wanted)
                settled = rows and all(row.state is not None and (row.state.is_final() or row.state.name == "NotReady")
                                       for row in rows)
                if settled and before == len(rows):
                    break
                before = len(rows)
                time.sleep(0.4)
            names = {row.id: row.name for row in rows}
            return [
                Run(
                    row.name, row.state.name, row.state.message or "",
                    [state.name for state in client.read_task_run_states(row.id) if state.name not in SILENT],
                    set(row.tags), {},
                    {names.get(item.id, "?") for items in row.task_inputs.values() for item in items
                     if item.input_type == "task_run"},
                    row.run_count,
                )
                for row in sorted(rows, key=lambda row: row.created)
            ]
    def artifacts(flow_name: str) -> list[Artifact]:
        """What the flow's last run made."""
        from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

        wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[_find(flow_name)[-1].id]))
        with get_client(sync_client=True) as client:
            return [
                Artifact(row.type, row.key, row.description, row.data if isinstance(row.data, str)
                         else json.dumps(row.data))
                for row in client.read_artifacts(artifact_filter=wanted)
                if row.type != "result"
            ]

    def log_lines(flow_name: str, *expected: str) -> list[tuple[str, str]]:
        """Level and message of each line that the flow's last run and its tasks said, once those expected are there."""
        wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[_find(flow_name)[-1].id]))
        deadline = time.monotonic() + 20
        with get_client(sync_client=True) as client:
            while True:
                rows = client.read_logs(log_filter=wanted)
                there = all(any(text in row.message for row in rows) for text in expected)
                if there or time.monotonic() > deadline:
                    return [(logging.getLevelName(row.level), row.message) for row in rows]
                time.sleep(0.5)


else:
    from flowdeck.store.reader import Reader

    def _history(reader: Any, run_id: int, seq: int | None) -> list[str]:
        return [
            event.to_name for event in reader.events(run_id=run_id)
            if event.kind == "state" and event.task_seq == seq and event.to_name not in SILENT
        ]

    def flow_runs(flow_name: str) -> list[Run]:
        """Every run of this flow, in order."""
        with Reader(os.environ["FLOWDECK_STORE"]) as reader:
            return [
                Run(
                    row.name, row.state_name, row.cause or "", _history(reader, row.id, None),
                    set(json.loads(row.tags)), json.loads(row.parameters), set(), row.attempt,
                )
                for row in reversed(reader.runs(flow=flow_name, roots_only=False))
            ]

    def task_runs(flow_name: str) -> list[Run]:
        """The task runs of the flow's last run, in order of creation."""
        with Reader(os.environ["FLOWDECK_STORE"]) as reader:
            run_id = reader.runs(flow=flow_name, roots_only=False)[0].id
            rows = reader.tasks(run_id)
            names = {(row.run_id, row.seq): row.name for row in rows}
            feeds: dict[int, set[str]] = {}
            for edge in reader.edges(run_id):
                feeds.setdefault(edge.to_seq, set()).add(names.get((edge.from_run_id, edge.from_seq), "?"))
            return [
                Run(
                    row.name, row.state_name, row.cause or "", _history(reader, run_id, row.seq),
                    set(json.loads(row.tags)), {}, feeds.get(row.seq, set()), row.attempt,
                )
                for row in rows
            ]

    def log_lines(flow_name: str, *expected: str) -> list[tuple[str, str]]:
        """Level and message of each line that the flow's last run and its tasks said, once those expected are there."""
        del expected  # here they are there when the flow's call returns
        with Reader(os.environ["FLOWDECK_STORE"]) as reader:
            run = reader.runs(flow=flow_name, roots_only=False)[0]
            rows = reader.logs(run.root_id or run.id, 0, 1000)
            return [(logging.getLevelName(row.level), row.message) for row in rows if row.run_id == run.id]

    def artifacts(flow_name: str) -> list[Artifact]:
        """What the flow's last run made."""
        with Reader(os.environ["FLOWDECK_STORE"]) as reader:
            rows = reader.artifacts(reader.runs(flow=flow_name, roots_only=False)[0].id)
            return [Artifact(row.kind, row.key, row.description, row.data) for row in rows]

"""A real store filled with believable runs, through the store's own functions."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

from flowdeck.store.connection import connect, transaction
from flowdeck.store.opening import open_store
from flowdeck.store.rows import (
    ArtifactRow,
    DeploymentRow,
    FlowFileRow,
    LogRow,
    MetricRow,
    ResultRow,
    ScheduleRow,
    TaskRow,
)
from flowdeck.store.tables import (
    artifacts,
    deployments,
    edges,
    events,
    leases,
    logs,
    metrics,
    results,
    runs,
    schedules,
    tasks,
)

SECOND = 1_000_000
ACTOR = "ada@forge via cli"
ENGINE = "engine"

ETL = (
    ("read_config", ()), ("extract_orders", (0,)), ("extract_customers", (0,)), ("extract_rates", (0,)),
    ("clean_orders", (1,)), ("clean_customers", (2,)), ("join", (4, 5)), ("convert", (6, 3)), ("validate", (7,)),
    ("load_warehouse", (8,)), ("refresh_views", (9,)), ("report", (9,)), ("notify", (10, 11)),
)  # fmt: skip


def now_us() -> int:
    return time.time_ns() // 1_000


class Seeder:
    """Writes runs, tasks, logs and schedules; one transaction per call."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        open_store(folder)
        self.state = connect(folder, "state")
        self.telemetry = connect(folder, "telemetry")
        self.random = random.Random(7)

    def close(self) -> None:
        self.state.close()
        self.telemetry.close()

    def run(
        self,
        flow: str,
        state: tuple[str, str],
        *,
        age_seconds: float = 60,
        took_seconds: float = 20,
        cause: str | None = None,
        name: str = "",
        parameters: dict[str, object] | None = None,
        wake_in_seconds: float | None = None,
        parent: tuple[int, int, int] | None = None,
        attempt: int = 1,
        deployment: str | None = None,
        tags: tuple[str, ...] = (),
        actor: str = ACTOR,
    ) -> int:
        """A run that went through the states it must have gone through to be where it is."""
        at = now_us() - int(age_seconds * SECOND)
        state_type, _ = state
        wake = None if wake_in_seconds is None else now_us() + int(wake_in_seconds * SECOND)
        with transaction(self.state) as c:
            run_id = runs.insert(
                c, flow_name=flow, name=name, state=("SCHEDULED", "Scheduled"), actor=actor, at_us=at,
                parameters=json.dumps(parameters or {}), tags=json.dumps(list(tags)), deployment=deployment,
                scheduled_at_us=wake if wake and state_type == "SCHEDULED" else at, wake_at_us=wake or at,
                parent_run_id=parent[1] if parent else None, parent_seq=parent[2] if parent else None,
                root_id=parent[0] if parent else None, attempt=attempt,
                entrypoint=f"/srv/flows/{flow.replace('-', '_')}.py:{flow.replace('-', '_')}",
            )  # fmt: skip
            current = ("SCHEDULED", "Scheduled")
            if state_type == "SCHEDULED":
                if state != current:
                    self.move(c, run_id, current, state, at, cause=cause, wake_at_us=wake, attempt=attempt)
                return run_id
            self.move(c, run_id, current, ("PENDING", "Pending"), at + 3_000, attempt=attempt)
            current = ("PENDING", "Pending")
            if state_type == "PENDING":
                return run_id
            self.move(c, run_id, current, ("RUNNING", "Running"), at + 9_000, started=True, attempt=attempt)
            current = ("RUNNING", "Running")
            if state != current:
                ended = state_type in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
                when = at + int(took_seconds * SECOND) if ended else now_us()
                self.move(
                    c, run_id, current, state, when, cause=cause, attempt=attempt,
                    ended_duration_us=int(took_seconds * SECOND) if ended else None,
                )  # fmt: skip
        return run_id

    def move(self, c, run_id, from_, to, at_us, *, attempt=1, **more) -> None:
        runs.transition(c, run_id, attempt=attempt, from_=from_, to=to, at_us=at_us, actor=ENGINE, **more)

    def end(self, run_id: int, to: tuple[str, str], *, cause: str | None = None) -> None:
        """Move a run that is RUNNING to its end, now."""
        row = runs.get(self.state, run_id)
        with transaction(self.state) as c:
            self.move(
                c, run_id, (row.state_type, row.state_name), to, now_us(), cause=cause, attempt=row.attempt,
                ended_duration_us=now_us() - (row.started_at_us or now_us()),
            )  # fmt: skip

    def task(
        self,
        run_id: int,
        seq: int,
        key: str,
        state: tuple[str, str],
        *,
        upstream: tuple[int, ...] = (),
        age_seconds: float = 30,
        took_seconds: float = 1.0,
        cause: str | None = None,
        map_index: int | None = None,
        attempt: int = 1,
        call_index: int = 0,
        kind: str = "task",
        child_run_id: int | None = None,
    ) -> None:
        at = now_us() - int(age_seconds * SECOND)
        state_type, state_name = state
        ended = state_type in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") or state_name == "NotReady"
        started = ended or state_type == "RUNNING"
        row = TaskRow(
            run_id, seq, key, 0, call_index, 0 if map_index is not None else None, map_index,
            f"{key}[{map_index}]" if map_index is not None else key, kind, child_run_id, state_type, state_name, cause,
            attempt, 1, at, at if started else None, at + int(took_seconds * SECOND) if ended else None,
            int(took_seconds * SECOND) if ended else None, int(took_seconds * 0.6 * SECOND) if ended else None,
            48_000_000 if ended else None, "[]", None, None,
        )  # fmt: skip
        with transaction(self.state) as c:
            tasks.begin(c, row, at, ENGINE)
            if upstream:
                edges.add(c, run_id, seq, [(run_id, each, "data") for each in upstream])
            if ended and state_type == "COMPLETED":
                results.put(c, ResultRow(run_id, seq, "json", "x", 20, b"[]", None, f"list of {seq * 113} rows"))

    def etl_tasks(self, run_id: int, done: int, *, failed_at: int | None = None, age_seconds: float = 60) -> None:
        """The tasks of an ETL run: ``done`` of them completed, the next one running (or failed)."""
        for at, (key, upstream) in enumerate(ETL):
            seq = at + 1
            took = 0.2 + self.random.random() * 4
            ups = tuple(each + 1 for each in upstream)
            if at < done:
                state = ("COMPLETED", "Completed")
            elif failed_at == at:
                state = ("FAILED", "Failed")
            elif failed_at is not None:
                state = ("PENDING", "NotReady")
            elif at == done:
                state = ("RUNNING", "Running")
            else:
                break
            self.task(
                run_id, seq, key, state, upstream=ups, age_seconds=max(1, age_seconds - at * 3), took_seconds=took,
                cause="ValueError: 3 rows have no currency" if state[0] == "FAILED" else None,
                attempt=3 if state[0] == "FAILED" else 1,
            )  # fmt: skip

    def mapped_tasks(self, run_id: int, total: int, done: int, *, first_seq: int = 1) -> None:
        for at in range(total):
            state = ("COMPLETED", "Completed") if at < done else ("RUNNING", "Running")
            if at > done + 3:
                state = ("PENDING", "Pending")
            self.task(
                run_id, first_seq + at, "fetch_page", state, map_index=at, call_index=at, took_seconds=0.3,
                age_seconds=20,
            )  # fmt: skip

    def log(self, run_id: int, lines: int, *, root_id: int | None = None, hostile: bool = False) -> None:
        root = root_id or run_id
        start = logs.next_line(self.telemetry, root)
        at = now_us() - lines * 20_000
        words = ("fetched page", "wrote rows", "retrying in 2 s", "cache hit for", "validated batch", "opened")
        rows = []
        for n in range(lines):
            level = 40 if n % 97 == 96 else 30 if n % 23 == 22 else 10 if n % 7 == 6 else 20
            text = f"{words[n % len(words)]} {n} of orders-{n * 37 % 1000:03}.parquet"
            if hostile and n % 5 == 0:
                text = "\x1b[31mred\x1b[0m [bold]markup[/] [@click=app.exit()]x[/] \x1b]0;title\x07 \u202egnp.exe"
            rows.append(LogRow(root, start + n, run_id, 1 + n % 9, 1, at + n * 20_000, level, "etl", "log", text))
        with transaction(self.telemetry) as c:
            logs.append(c, rows)

    def measure(self, run_id: int) -> None:
        with transaction(self.telemetry) as c:
            metrics.append(
                c, [MetricRow(run_id, 10, now_us() - n * SECOND, "rows_loaded", 1000.0 * n) for n in range(30)]
            )

    def artifact(self, run_id: int) -> None:
        text = "# Load report\n\n- orders: **12 480**\n- rejected: 3\n\n| source | rows |\n|---|---|\n| eu | 8 001 |\n"
        with transaction(self.state) as c:
            row = ArtifactRow(0, run_id, 12, "load-report", "markdown", "What was loaded", text, now_us())
            artifacts.insert(c, row)

    def deployment(self, name: str, flow: str, *, cron: str | None = None, seconds: float | None = None) -> int:
        with transaction(self.state) as c:
            deployments.upsert(
                c,
                DeploymentRow(
                    name, flow, f"/srv/flows/{flow}.py", f"/srv/flows/{flow}.py:{flow}", f"The {flow} pipeline",
                    "{}", '{"properties": {"source": {"default": "eu", "type": "string"}}}', "[]", "abc", now_us(),
                    None, None,
                ),
            )  # fmt: skip
            if cron is None and seconds is None:
                return 0
            kind = "cron" if cron else "interval"
            spec = {"kind": "cron", "cron": cron, "timezone": "UTC"} if cron else {
                "kind": "interval", "seconds": seconds}
            return schedules.upsert(
                c,
                ScheduleRow(
                    0, name, kind, kind, json.dumps(spec), "{}", "latest", 86400.0, "skip", True,
                    now_us() + int((seconds or 5400) * SECOND * 0.6), now_us() - 600 * SECOND,
                ),
            )  # fmt: skip

    def problem(self, path: str) -> None:
        with transaction(self.state) as c:
            deployments.upsert_file(
                c,
                FlowFileRow(
                    path, "h", f"{path}:12: ModuleNotFoundError: No module named 'pandsa'",
                    f'Traceback (most recent call last):\n  File "{path}", line 12, in <module>\n'
                    "    import pandsa as pd\nModuleNotFoundError: No module named 'pandsa'\n", now_us(),
                ),
            )  # fmt: skip

    def lease(self, run_id: int | None, owner: str) -> None:
        with transaction(self.state) as c:
            leases.acquire(
                c, leases.this_process(self.folder, owner, actor=ACTOR, at_us=now_us(), run_id=run_id, attempt=1)
            )

    def request(self, run_id: int, intent: str) -> None:
        with transaction(self.state) as c:
            runs.set_intent(c, run_id, intent, at_us=now_us(), actor=ACTOR)

    def event(self, kind: str, message: str) -> None:
        with transaction(self.state) as c:
            events.append(c, at_us=now_us(), kind=kind, actor=ENGINE, message=message)


def fill(folder: Path, *, history: int = 30) -> dict[str, int]:
    """A store with one of everything; returns the ids of the runs with a part to play."""
    s = Seeder(folder)
    flows = ("etl", "machine-health", "weather", "nightly-backup", "train-model")
    s.deployment("etl", "etl", cron="0 6 * * *")
    s.deployment("machine-health", "machine-health", seconds=60)
    s.deployment("weather", "weather", cron="*/15 * * * *")
    s.deployment("train-model", "train-model")
    s.problem("/srv/flows/broken.py")
    for n in range(history):
        age = 86_400 * 2 - n * 5_000
        flow = flows[n % len(flows)]
        if n % 11 == 10:
            run = s.run(flow, ("FAILED", "Failed"), age_seconds=age, took_seconds=31, deployment=flow,
                        cause="load_warehouse failed: ValueError: 3 rows have no currency", actor="schedule etl/cron")
            s.etl_tasks(run, 9, failed_at=9, age_seconds=age)
        elif n % 13 == 12:
            run = s.run(flow, ("CRASHED", "OutOfMemory"), age_seconds=age, took_seconds=312,
                        cause="killed by the kernel: out of memory at 3.9 GiB", actor="schedule")
            s.etl_tasks(run, 4, age_seconds=age)
        elif n % 9 == 8:
            run = s.run(flow, ("CANCELLED", "Cancelled"), age_seconds=age, took_seconds=7,
                        cause="cancelled by ada@forge via console")
        else:
            run = s.run(flow, ("COMPLETED", "Completed"), age_seconds=age, took_seconds=4 + n * 3.7 % 90,
                        deployment=flow, actor="schedule")
            if n % 2:
                s.etl_tasks(run, 13, age_seconds=age)
    ids = {}
    ids["mapped"] = s.run("crawl", ("RUNNING", "Running"), age_seconds=95, parameters={"pages": 64})
    s.mapped_tasks(ids["mapped"], 64, 41)
    ids["frozen"] = s.run("train-model", ("RUNNING", "Frozen"), age_seconds=4_000)
    s.etl_tasks(ids["frozen"], 5, age_seconds=4_000)
    ids["paused"] = s.run("nightly-backup", ("PAUSED", "Paused"), age_seconds=700,
                          cause="paused by ada@forge via console: waits for resume")
    s.etl_tasks(ids["paused"], 2, age_seconds=700)
    ids["slot"] = s.run("weather", ("SCHEDULED", "AwaitingSlot"), age_seconds=30, wake_in_seconds=-20,
                        cause="waits for a slot of api (2 of 2 in use), 1st in line")
    ids["retry"] = s.run("etl", ("SCHEDULED", "AwaitingRetry"), age_seconds=200, wake_in_seconds=42, attempt=2,
                         cause="attempt 1 failed: ConnectionError")
    ids["parent"] = s.run("etl", ("RUNNING", "Running"), age_seconds=63, name="orders of 22 November",
                          parameters={"day": "2026-11-22", "source": "eu", "dry_run": False}, tags=("prod", "daily"),
                          deployment="etl")
    s.etl_tasks(ids["parent"], 8, age_seconds=60)
    ids["child"] = s.run("enrich", ("RUNNING", "Running"), age_seconds=21, parent=(ids["parent"], ids["parent"], 14))
    s.task(ids["parent"], 14, "enrich", ("RUNNING", "Running"), kind="subflow", child_run_id=ids["child"],
           age_seconds=21)
    s.mapped_tasks(ids["child"], 12, 7)
    for name in ("mapped", "frozen", "paused", "parent"):
        s.lease(ids[name], f"run/{ids[name]}")
    s.log(ids["parent"], 400, hostile=True)
    s.artifact(ids["parent"])
    s.measure(ids["parent"])
    ids["failed"] = s.run("etl", ("FAILED", "Failed"), age_seconds=320, took_seconds=48,
                          cause="load_warehouse failed after 3 attempts: ValueError: 3 rows have no currency")
    s.etl_tasks(ids["failed"], 9, failed_at=9, age_seconds=320)
    s.log(ids["failed"], 120)
    s.close()
    return ids


def live(folder: Path, *, rate: float = 5.0, seconds: float = 1e9) -> None:
    """Keep a run going: tasks begin and end and lines are logged, so many times a second."""
    s = Seeder(folder)
    run = s.run("crawl", ("RUNNING", "Running"), age_seconds=0)
    s.lease(run, f"run/{run}")
    end = time.monotonic() + seconds
    seq = 0
    while time.monotonic() < end:
        seq += 1
        s.task(run, seq, "fetch_page", ("COMPLETED", "Completed"), map_index=seq, call_index=seq, age_seconds=0)
        s.log(run, 1)
        time.sleep(1 / rate)


if __name__ == "__main__":
    import sys

    print(fill(Path(sys.argv[1])), flush=True)
    live(Path(sys.argv[1]), rate=float(sys.argv[2]) if len(sys.argv) > 2 else 5.0)

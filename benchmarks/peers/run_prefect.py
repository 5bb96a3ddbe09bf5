"""Prefect against its own local server (SQLite), with everything off that costs and is not the record of tasks.

Telemetry, the web interface and the sending of logs are off, which is in its favour. ``persisted`` has it keep the
results of tasks, without which a flow that runs again does all of them again.
"""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from typing import Any

from protocol import serve, timed


def main(folder: str, results: str) -> None:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ.update(
        PREFECT_HOME=folder, PREFECT_API_URL=f"http://127.0.0.1:{port}/api", PREFECT_SERVER_UI_ENABLED="false",
        PREFECT_SERVER_ANALYTICS_ENABLED="false", DO_NOT_TRACK="1", PREFECT_LOGGING_LEVEL="ERROR",
        PREFECT_LOGGING_TO_API_ENABLED="false",
    )  # fmt: skip
    with open(f"{folder}/server.log", "wb") as log:
        server = subprocess.Popen(
            [os.path.join(os.path.dirname(sys.executable), "prefect"), "server", "start", "--host", "127.0.0.1",
             "--port", str(port)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        _wait_until_healthy(server, port)
        _measure(folder, results)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def _wait_until_healthy(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 90
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=5).close()
            return
        except OSError as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"prefect's server does not answer: {error}") from None
        time.sleep(0.1)


def _measure(folder: str, results: str) -> None:
    from prefect import flow, task  # once the settings stand
    from prefect.runtime import flow_run

    @task(persist_result=True) if results == "persisted" else task
    def step(number: int) -> int:
        return number

    @flow
    def sequence(count: int) -> dict[str, Any]:
        def work(count: int) -> None:
            for number in range(count):
                step(number)

        return timed(count, work, stored)

    @flow
    def submission(count: int) -> dict[str, Any]:
        def work(count: int) -> None:
            futures = [step.submit(number) for number in range(count)]
            for future in futures:
                future.result()

        return timed(count, work, stored)

    def stored() -> int:
        with closing(sqlite3.connect(f"file:{folder}/prefect.db?mode=ro", uri=True, timeout=30)) as reader:
            return int(reader.execute(
                "SELECT count(*) FROM task_run WHERE flow_run_id = ? AND state_type = 'COMPLETED'", (flow_run.id,)
            ).fetchone()[0])  # fmt: skip

    import prefect

    serve({"prefect": prefect.__version__}, {"sequential": sequence, "submitted": submission})


main(sys.argv[1], sys.argv[2])

"""A box with a store, flow files and real daemons, for tests of what the daemon does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import pytest
from flowdeck.engine.control.control import Control
from flowdeck.store.connection import connect
from flowdeck.store.opening import open_store
from flowdeck.store.reader import Reader

PRELUDE = """
import os, signal, subprocess, sys, time
from pathlib import Path
from flowdeck import Cron, Interval, flow, task
HERE = {here!r}
def effect(text):
    descriptor = os.open(HERE + "/effects", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, (text + chr(10)).encode())
    os.close(descriptor)
def wait_for(name):
    while not os.path.exists(f"{{HERE}}/{{name}}"):
        time.sleep(0.005)
"""
WAIT_SECONDS = 60.0
"""How long a condition may take to come true: a machine that is busy with other things must not fail a test."""
RUN = ("import sys; from flowdeck.engine.daemon.daemon import run_daemon;"
       "sys.exit(run_daemon(sys.argv[1], sys.argv[3:], limit=int(sys.argv[2]) or None))")


class DaemonProcess:
    """One daemon, and what it said."""

    def __init__(self, process, log_path):
        self.process = process
        self.pid = process.pid
        self.log_path = log_path

    @property
    def log(self):
        with open(self.log_path, encoding="utf-8") as file:
            return file.read()

    def stop(self, number=signal.SIGTERM, timeout=WAIT_SECONDS):
        """Signal it and wait for its end; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout)


class Box:
    """A store, a folder of flow files, an effects file, and daemons that are ended with the test."""

    def __init__(self, root):
        self.root = root
        self.folder = root / "store"
        self.flows = root / "flows"
        self.flows.mkdir()
        self.daemons = []
        self.scripts = []
        open_store(self.folder)
        self.reader = Reader(self.folder)
        self.control = Control(self.folder, actor="tester@here via test")

    def write(self, name, text, prelude=True):
        """A flow file in the served folder; replaced in one step, as editors do."""
        path = Path(os.path.normpath(self.flows / name))
        path.parent.mkdir(exist_ok=True, parents=True)
        building = self.root / "building"
        building.write_text((PRELUDE.format(here=str(self.root)) if prelude else "") + dedent(text))
        os.replace(building, path)
        return str(path)

    def touch(self, name):
        """Let flows that wait for this file go on."""
        (self.root / name).touch()

    def effects(self):
        try:
            return (self.root / "effects").read_text().split("\n")[:-1]
        except FileNotFoundError:
            return []

    def daemon(self, *paths, limit=0, ready=True, started_by=(), **environment):
        """Start a daemon on the folder of flows, or on the named paths; ``started_by`` is a program that becomes it."""
        log_path = self.root / f"daemon-{len(self.daemons)}.log"
        with open(log_path, "wb") as log:
            process = subprocess.Popen(
                [*started_by, sys.executable, "-P", "-c", RUN, str(self.folder), str(limit),
                 *(paths or (str(self.flows),))],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **environment})
        daemon = DaemonProcess(process, log_path)
        self.daemons.append(daemon)
        if ready:
            self.wait(lambda: "ready:" in daemon.log or process.poll() is not None)
            assert process.poll() is None, daemon.log
        return daemon

    def script(self, path, **environment):
        """``python FILE``, in a session of its own."""
        process = subprocess.Popen([sys.executable, path], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, start_new_session=True,
                                   env={**os.environ, "FLOWDECK_STORE": str(self.folder), **environment})
        self.scripts.append(process)
        return process

    def submit(self, flow, **parameters):
        return self.control.trigger(flow, parameters)

    def submit_when_known(self, flow, **parameters):
        """As ``submit``, once the daemon has read the flow's file."""
        self.wait(lambda: any(row.flow_name == flow for row in self.reader.deployments()))
        return self.submit(flow, **parameters)

    def state(self, run_id):
        return self.reader.run(run_id).state_name

    def wait(self, condition, timeout=WAIT_SECONDS):
        """Until the condition holds; returns what it gave."""
        deadline = time.monotonic() + timeout
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise AssertionError("waited in vain\n" + self.report())
            time.sleep(0.004)
        return found

    def wait_state(self, run_id, *names):
        """Until the run is in one of these states; returns its row."""
        self.wait(lambda: (row := self.reader.run(run_id)) is not None and row.state_name in names)
        return self.reader.run(run_id)

    def wait_effects(self, *wanted):
        self.wait(lambda: set(wanted) <= set(self.effects()))

    def wait_task(self, run_id, state_type):
        """Until a task of the run is in that state; short calls are written only when they end."""
        self.wait(lambda: any(task.state_type == state_type for task in self.reader.tasks(run_id)))

    def states(self, run_id):
        """The names of the states a run went through."""
        return [event.to_name for event in self.reader.events(run_id=run_id, limit=10_000)
                if event.kind == "state" and event.task_seq is None]

    def said(self, kind):
        return [event.message or "" for event in self.reader.events(limit=100_000) if event.kind == kind]

    def update(self, work):
        """Change the store from outside."""
        connection = connect(self.folder, "state")
        try:
            return work(connection)
        finally:
            connection.close()

    def report(self):
        rows = [f"#{run.id} {run.flow_name} {run.state_name} attempt {run.attempt}: {run.cause}"
                for run in self.reader.runs()]
        logs = [f"--- {daemon.log_path.name}\n{daemon.log}" for daemon in self.daemons]
        return "\n".join([*rows, f"effects: {self.effects()}", *logs])

    def close(self):
        for daemon in self.daemons:
            daemon.stop(signal.SIGKILL)
        for lease in self.reader.leases():
            try:
                os.kill(lease.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for process in self.scripts:
            process.kill()
            process.wait()
        self.control.close()
        self.reader.close()


@pytest.fixture
def box(tmp_path):
    """A store with real daemons on it."""
    box = Box(tmp_path)
    yield box
    box.close()

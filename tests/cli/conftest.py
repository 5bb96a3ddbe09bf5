"""The real ``flowdeck`` in processes of its own, on stores of their own, with flows written by the tests."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

FLOWDECK = [sys.executable, "-m", "flowdeck"]
FLOWS = '''
import datetime
import time
from flowdeck import flow, get_run_logger, task


@task
def extract(n: int) -> list[int]:
    get_run_logger().info("extracting %d", n)
    return list(range(n))


@task
def double(x: int) -> int:
    print("doubling", x)
    return 2 * x


@task
def boom() -> None:
    get_run_logger().warning("about to fail \\x1b[2J\\x1b]0;owned\\x07")
    raise ValueError("no rows \\x1b[2J for \\x9b31m today")


@flow(tags=["nightly"])
def etl(n: int = 3, day: datetime.date = datetime.date(2026, 1, 1), city: str = "Oslo") -> int:
    return sum(future.result() for future in double.map(extract(n)))


@flow
def bad() -> None:
    extract(2)
    boom()


@flow
def slow(seconds: float = 60.0) -> None:
    extract(1)
    print("sleeping", flush=True)
    time.sleep(seconds)
'''


class Cli:
    """Runs commands on one store."""

    def __init__(self, store: Path, flows: Path) -> None:
        self.store = store
        self.flows = flows
        self.started: list[subprocess.Popen[str]] = []
        ours = ("FLOWDECK", "COLUMNS", "NO_COLOR")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
        self.environment = kept | {"FLOWDECK_STORE": str(store), "PYTHONUTF8": "1"}

    def __call__(self, *words: str, timeout: float = 60.0, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run one command to its end; standard input is no terminal."""
        return subprocess.run([*FLOWDECK, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              env=self.environment | environment, timeout=timeout, cwd=self.flows.parent, check=False)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command that goes on; it is ended after the test."""
        process = subprocess.Popen([*FLOWDECK, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, env=self.environment, cwd=self.flows.parent)
        self.started.append(process)
        return process

    def stop(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
            process.communicate()


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    """Commands on an empty place for a store."""
    made = _make(tmp_path)
    yield made
    made.stop()


@pytest.fixture(scope="session")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """Commands on a store with run 1 (etl, completed) and run 2 (bad, failed); only to be read."""
    made = _make(tmp_path_factory.mktemp("seeded"))
    for words, code in ((("etl", "-p", "n=2"), 0), (("bad",), 1)):
        done = made("run", f"{made.flows}:{words[0]}", *words[1:])
        assert done.returncode == code, done.stderr
    return made


def _make(folder: Path) -> Cli:
    flows = folder / "flows.py"
    flows.write_text(FLOWS, encoding="utf-8")
    return Cli(folder / "store", flows)


@pytest.fixture
def until() -> Callable[..., None]:
    """Waits for a condition, and says what it waited for when that does not come."""

    def wait(condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
            time.sleep(0.03)

    return wait


@pytest.fixture
def in_terminal() -> Callable[..., tuple[int, bytes]]:
    """Runs a command with a terminal at all three ends; its exit code and every byte the terminal got.

    With ``killed_at`` it is killed when the terminal has got these bytes.
    """

    def run(
        cli: Cli, *words: str, columns: int = 80, killed_at: bytes | None = None, seconds: float = 60.0,
        **environment: str,
    ) -> tuple[int, bytes]:  # fmt: skip
        leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        process = subprocess.Popen([*FLOWDECK, *words], stdin=follower, stdout=follower, stderr=follower,
                                   env=cli.environment | {"TERM": "xterm-256color"} | environment,
                                   cwd=cli.flows.parent, start_new_session=True)
        os.close(follower)
        seen = bytearray()
        deadline = time.monotonic() + seconds
        try:
            while time.monotonic() < deadline:
                if select.select([leader], [], [], 0.1)[0]:
                    try:
                        data = os.read(leader, 65536)
                    except OSError:  # the other end is closed
                        break
                    seen += data
                if killed_at is not None and killed_at in seen:
                    process.kill()
                    break
        finally:
            process.kill() if process.poll() is None and time.monotonic() >= deadline else None
            code = process.wait(10)
            os.close(leader)
        return code, bytes(seen)

    return run

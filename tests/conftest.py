"""A store of their own for tests that run flows, real scripts in processes of their own, and waiting on conditions.

Tests run side by side (pytest-xdist) and wait for processes most of the time. They share no store, no port and no home;
one marked ``alone`` shares the machine with no other test either.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any, Final

import pytest
from flowdeck.store.opening import open_store
from flowdeck.store.reader import Reader
from hypothesis import HealthCheck, settings

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")  # a machine that is busy with other things must not fail a test


def pytest_configure() -> None:
    """A shell that runs the tests in the background has SIGINT ignored, and every child would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two for each processor: what one test waits for leaves it to another."""
    return min(16, 2 * len(os.sched_getaffinity(0)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that are alone follow each other on one worker, so that the others make way once for all of them."""
    for item in items:
        if item.get_closest_marker("alone"):
            item.add_marker(pytest.mark.xdist_group("alone"))


class Machine:
    """The machine that the workers share: many tests at once, or one that has it for itself.

    Two locks: who wants the machine alone keeps the door from then on, so that the others leave and nobody enters.
    """

    def __init__(self) -> None:
        here = Path(__file__)
        self._door, self._inside = (os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in (here, here.parent))
        self._alone = False

    def enter(self, *, alone: bool) -> None:
        """Wait for one's turn."""
        if self._alone:
            return
        fcntl.flock(self._door, fcntl.LOCK_EX)
        fcntl.flock(self._inside, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        self._alone = alone
        if not alone:
            fcntl.flock(self._door, fcntl.LOCK_UN)

    def leave(self, *, alone_again: bool) -> None:
        """Let others in, unless the next test needs the machine as this one did."""
        if self._alone and alone_again:
            return
        fcntl.flock(self._inside, fcntl.LOCK_UN)
        fcntl.flock(self._door, fcntl.LOCK_UN)
        self._alone = False


MACHINE: Final = Machine()


def _is_alone(item: pytest.Item | None) -> bool:
    return item is not None and item.get_closest_marker("alone") is not None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Each test in its turn; waiting for it is outside of the test's timeout."""
    MACHINE.enter(alone=_is_alone(item))
    try:
        return (yield)
    finally:
        MACHINE.leave(alone_again=_is_alone(nextitem))


WAIT_SECONDS: Final = 60.0
"""How long a condition may take to come true: a machine that is busy with other things must not fail a test."""


def wait_until(condition: Callable[[], Any], timeout: float = WAIT_SECONDS) -> Any:
    """Until the condition holds; returns what it gave, or fails saying which condition never came true."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not so after {timeout:g} s: {getattr(condition, '__qualname__', condition)}")
        time.sleep(0.003)
    return found


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """``eventually(condition, timeout)`` waits until the condition holds and returns what it gave."""
    return wait_until


@pytest.fixture(autouse=True)
def _nothing_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test runs, also in processes of its own, finds its store and its settings under ``tmp_path``."""
    monkeypatch.setenv("FLOWDECK_STORE", str(tmp_path / "store"))
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home" / name.lower()))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new store that flows called in this test record to."""
    folder = tmp_path / "store"
    open_store(folder)
    monkeypatch.setenv("FLOWDECK_STORE", str(folder))
    monkeypatch.setenv("FLOWDECK_CANCEL_GRACE_SECONDS", "2")
    return folder


@pytest.fixture
def reader(store: Path) -> Iterator[Reader]:
    """What the store says."""
    with Reader(store) as reader:
        yield reader


class Effects:
    """Lines that user code appends to a file: what really ran, whatever the records say."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, text: object) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(descriptor, f"{text}\n".encode())
        os.close(descriptor)

    @property
    def lines(self) -> list[str]:
        """Everything so far, in order."""
        return self.path.read_text().splitlines() if self.path.exists() else []

    def count(self, text: object) -> int:
        """How often this was noted."""
        return self.lines.count(str(text))


@pytest.fixture
def effects(tmp_path: Path) -> Effects:
    """``effects("x")`` in user code; ``effects.lines`` in the test."""
    return Effects(tmp_path / "effects")


PRELUDE = """
import os, sys, time
HERE = os.path.dirname(os.path.abspath(__file__))
def effect(text):
    descriptor = os.open(HERE + "/effects", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, (str(text) + chr(10)).encode())
    os.close(descriptor)
def wait_for(name):
    while not os.path.exists(HERE + "/" + name):
        time.sleep(0.003)
from flowdeck import *
"""


class Script:
    """A file of user code, and the processes that run it."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.folder = folder
        self.store = store
        self.path = folder / "script.py"
        self.processes: list[subprocess.Popen[str]] = []

    def write(self, text: str) -> None:
        """The script's text, below the prelude."""
        self.path.write_text(PRELUDE + dedent(text))

    def start(self, text: str | None = None, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """``python script.py`` in a session of its own."""
        if text is not None:
            self.write(text)
        process = subprocess.Popen(
            [sys.executable, "-P", str(self.path), *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True,
            env={**os.environ, "FLOWDECK_STORE": str(self.store), **environment},
        )  # fmt: skip
        self.processes.append(process)
        return process

    def run(self, text: str | None = None, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """``python script.py``, waited for."""
        process = self.start(text, *arguments, **environment)
        out, err = process.communicate(timeout=2 * WAIT_SECONDS)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def touch(self, name: str) -> None:
        """Let a script that waits for this file go on."""
        (self.folder / name).touch()

    def close(self) -> None:
        """Nothing outlives its test."""
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture
def script(tmp_path: Path, store: Path) -> Iterator[Script]:
    """Real scripts on the test's store; ``effects`` and ``wait_for`` there see the test's folder."""
    script = Script(tmp_path, store)
    yield script
    script.close()

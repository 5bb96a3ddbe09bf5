"""The console as a process in a terminal of its own: start, wire, leaving, stores that cannot serve."""

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
from pathlib import Path
from typing import Any

import pyte
import pytest
from flowdeck.store.reader import Reader

PROGRAM = (
    "import sys, json; from flowdeck.tui.app import run_console; "
    "sys.exit(run_console(sys.argv[1], **json.loads(sys.argv[2])))"
)


class Terminal:
    """A process in a pseudo-terminal, its output fed to an emulator."""

    def __init__(self, folder: Path, options: str = "{}", *, size: tuple[int, int] = (100, 30), **env: str) -> None:
        self.screen = pyte.Screen(*size)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""
        environment = {**os.environ, "TERM": "xterm-256color", "FLOWDECK_KEYS": "/nonexistent", **env}
        for name in ("NO_COLOR", "TMUX", "STY", "COLORTERM"):
            if name not in env:
                environment.pop(name, None)
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(sys.executable, [sys.executable, "-c", PROGRAM, str(folder), options], environment)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        self.code: int | None = None

    def read(self, seconds: float = 0.05) -> None:
        if select.select([self.fd], [], [], seconds)[0]:
            try:
                data = os.read(self.fd, 1 << 16)
            except OSError:
                data = b""
            self.raw += data
            # The emulator knows neither of these private sequences.
            self.stream.feed(data.replace(b"\x1b[>25u", b"").replace(b"\x1b[<u", b""))

    def until(self, condition: Any, timeout: float = 40.0) -> None:
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, "not so; the screen:\n" + "\n".join(self.screen.display)
            self.read()

    def shows(self, *texts: str) -> None:
        self.until(lambda: all(text in "\n".join(self.screen.display) for text in texts))

    def quiet(self, seconds: float = 0.4) -> None:
        """Until nothing was written for a while."""
        since, size = time.monotonic(), len(self.raw)
        while time.monotonic() - since < seconds:
            self.read()
            if len(self.raw) != size:
                since, size = time.monotonic(), len(self.raw)

    def wait_for_the_same(self, other: Terminal, seconds: float = 5.0) -> None:
        """Until the other shows the same, or has had its time to: one may lag behind the other."""
        end = time.monotonic() + seconds
        while cells(self.screen) != cells(other.screen) and time.monotonic() < end:
            self.read()
            other.read()

    def keys(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def wait(self, timeout: float = 40.0) -> int:
        end = time.monotonic() + timeout
        while self.code is None:
            assert time.monotonic() < end, "it does not end"
            self.read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        self.read()
        return self.code

    def close(self) -> None:
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


@pytest.fixture
def terminal():
    made: list[Terminal] = []

    def make(*args: Any, **more: Any) -> Terminal:
        made.append(Terminal(*args, **more))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def ended(seeder: Any) -> Path:
    """A store in which nothing moves."""
    for n in range(60):
        run = seeder.run(("etl", "天气", "crawl")[n % 3], ("COMPLETED", "Completed"), age_seconds=4000 - n * 30)
        if n > 55:
            seeder.etl_tasks(run, 13)
            seeder.log(run, 200)
    seeder.close()
    return seeder.folder


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_terminal_as_it_was(terminal: Any, ended: Path, number: signal.Signals) -> None:
    """The alternate screen is left, the mouse is given back, the cursor shown."""
    console = terminal(ended)
    console.shows("Completed")
    os.kill(console.pid, number)
    console.wait()
    for sequence in (b"\x1b[?1049l", b"\x1b[?1000l", b"\x1b[?25h"):
        assert sequence in console.raw


@pytest.mark.parametrize("ignored", [False, True])
def test_a_terminal_that_is_gone_ends_it(terminal: Any, ended: Path, ignored: bool) -> None:
    """Also where the signal of that is ignored, as under nohup: at once, with exit code 0, and nothing spins."""
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        console = terminal(ended)
    finally:
        signal.signal(signal.SIGHUP, previous)
    console.shows("Completed")
    console.quiet()
    before = processor_ticks(console.pid)
    os.close(console.fd)
    console.fd = os.open(os.devnull, os.O_RDWR)
    end = time.monotonic() + 40
    while (used := processor_ticks(console.pid)) is not None and time.monotonic() < end:
        spent = used - before
        time.sleep(0.01)
    assert console.wait() == 0
    assert spent < 2 * os.sysconf("SC_CLK_TCK"), "it took as long as it likes, at the cost of a processor"


def processor_ticks(pid: int) -> int | None:
    """What a process has used of processors; None once it has ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return None if fields[0] == "Z" else int(fields[11]) + int(fields[12])


def test_q_closes_it_and_says_what_goes_on(terminal: Any, ended: Path) -> None:
    """Exit code 0 and one sentence."""
    console = terminal(ended)
    console.shows("Completed")
    console.keys("q")
    assert console.wait() == 0
    assert b"Console closed. What runs goes on." in console.raw


def cells(screen: pyte.Screen) -> list[list[tuple[object, ...]]]:
    return [
        [(c.data, c.fg, c.bg, c.bold, c.reverse) for x in range(screen.columns) for c in [screen.buffer[y][x]]]
        for y in range(screen.lines)
    ]


def test_thin_and_stock_wire_show_the_same_cells(terminal: Any, ended: Path) -> None:
    """Through lists, scrolling, drill-down, tabs, palette and back: cell by cell, at a fraction of the bytes."""
    both = thin, stock = terminal(ended), terminal(ended, '{"wire": "stock"}')
    for console in both:
        console.shows("Completed", "no daemon")
        console.quiet()
    assert cells(thin.screen) == cells(stock.screen)
    before = len(thin.raw), len(stock.raw)
    for keys in ("jjj", "G", "\x1b[5~", "g", "G", "\r", "3", "g\x1b[6~", "G", "4", "5", "2", "1", ":", "ru"):
        shown = cells(thin.screen)
        for console in both:
            console.keys(keys)
        for console in both:  # every one of these changes the screen
            console.until(lambda console=console, shown=shown: cells(console.screen) != shown)
        for console in both:
            console.quiet(0.1)
        thin.wait_for_the_same(stock)
        for y, (ours, theirs) in enumerate(zip(cells(thin.screen), cells(stock.screen), strict=True)):
            where = [x for x, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]]
            assert ours == theirs, f"after {keys!r}, line {y}, columns {where}: {ours[where[0]]} {theirs[where[0]]}"
    sent = len(thin.raw) - before[0], len(stock.raw) - before[1]
    assert sent[0] * 3 < sent[1], sent


def test_an_idle_console_writes_nothing(terminal: Any, ended: Path) -> None:
    """No clock, no spinner, no blinking: not a byte."""
    console = terminal(ended)
    console.shows("Completed", "no daemon")
    console.quiet(1.0)
    size = len(console.raw)
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        console.read()
    assert len(console.raw) == size


def test_no_byte_of_data_reaches_the_terminal_as_control(terminal: Any, seeder: Any) -> None:
    """Hostile lines in the log: the terminal gets no title, no clipboard, no C1 byte."""
    run = seeder.run("etl\x1b]0;pwned\x07", ("COMPLETED", "Completed"), name="\x1b]52;c;UFdO\x07")
    seeder.log(run, 100, hostile=True)
    seeder.close()
    console = terminal(seeder.folder, '{"start": "logs 1"}')
    console.shows("parquet")
    console.quiet()
    assert b"\x1b]0;title" not in console.raw
    assert b"\x1b]52" not in console.raw
    assert b"pwned\x07" not in console.raw
    assert "\x9b" not in console.raw.decode("utf-8", "replace")


def test_no_color_sends_no_colour(terminal: Any, ended: Path) -> None:
    """Attributes only."""
    console = terminal(ended, NO_COLOR="1")
    console.shows("Completed", "no daemon")
    console.quiet()
    colours = (b"38;5;", b"38;2;", b"48;5;", b"48;2;", b"\x1b[31m", b"\x1b[32m")
    assert not [code for code in colours if code in console.raw]


def test_a_store_that_cannot_be_opened_is_told_with_exit_code_5(terminal: Any, tmp_path: Path, ended: Path) -> None:
    """Missing and read-only asked for; damaged; newer: each says which, before the screen is touched."""
    missing = terminal(tmp_path / "nothing", '{"read_only": true}')
    assert missing.wait() == 5
    assert b"no store at" in missing.raw
    (ended / "telemetry.db").write_bytes(b"not a database, not at all" * 100)
    damaged = terminal(ended)
    assert damaged.wait() == 5
    assert b"telemetry.db" in damaged.raw
    for each in (missing, damaged):
        assert b"\x1b[?1049h" not in each.raw


def test_a_keys_file_that_errs_is_told_with_exit_code_2(terminal: Any, ended: Path, tmp_path: Path) -> None:
    """File, line and remedy."""
    keys = tmp_path / "keys"
    keys.write_text("run.cancel\n")
    console = terminal(ended, FLOWDECK_KEYS=str(keys))
    assert console.wait() == 2
    assert b"keys:1" in console.raw


def test_what_is_imported_until_the_first_paint(ended: Path) -> None:
    """Nothing that costs a tenth of a second without being needed: no SQLAlchemy, pydantic, croniter, markdown."""
    code = (
        "import sys; from pathlib import Path; from flowdeck.tui import app, feed, asks, console; "
        "import flowdeck.store.reader, flowdeck.store.changes, flowdeck.engine.control.control; "
        "print(' '.join(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"sqlalchemy", "sqlmodel", "alembic", "pydantic", "croniter", "tenacity", "cloudpickle", "watchfiles"}
    assert not heavy & set(done.stdout.split())


def test_what_the_start_leaves_out_can_be_had_later() -> None:
    """The console's start imports neither TLS nor Textual's palette, and hides them from nobody."""
    code = (
        "import sys; from flowdeck.tui import lean; lean.import_textual(); import flowdeck.tui.console; "
        "print(*(name in sys.modules for name in ('textual.app', 'ssl', 'textual.command'))); "
        "import ssl, textual.command, textual.widgets; print(ssl.SSLContext, textual.command.CommandPalette)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout.splitlines() == [
        "True False False", "<class 'ssl.SSLContext'> <class 'textual.command.CommandPalette'>",
    ], done.stderr  # fmt: skip


def test_the_sanitiser_costs_nothing_to_the_command_line() -> None:
    """It imports neither Textual nor Rich."""
    code = "import sys; import flowdeck.tui.text.sanitize; print('textual' in sys.modules, 'rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_a_filter_pasted_in_one_read_asks_nothing_of_any_run(terminal: Any, seeder: Any) -> None:
    """As a laggy link brings it: ``/`` and what follows come in one write, and the run at the cursor is left alone."""
    run = seeder.run("etl", ("RUNNING", "Running"))
    seeder.run("prod", ("COMPLETED", "Completed"))
    console = terminal(seeder.folder)
    console.shows("Running", "prod")
    console.keys("/prod\r")
    console.until(lambda: "etl" not in "\n".join(console.screen.display[2:10]))
    console.shows("prod")
    console.quiet()
    with Reader(seeder.folder) as reader:
        assert reader.run(run).intent == "none"
        assert [event for event in reader.events(run_id=run) if event.kind == "request"] == []

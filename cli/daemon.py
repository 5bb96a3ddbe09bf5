"""``daemon PATH…`` in the foreground, and ``up PATH…``: one in the background if there is none, then the console."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..engine.errors import NotAllowed, NotFound
from ..store import files
from ..store.errors import FlowdeckError
from ..store.judging import why_not_signalled
from ..store.opening import open_store
from ..store.reader import Reader
from ..store.tables.leases import is_alive
from .console import has_terminal, open_plain_console, refuse_without_terminal
from .listings import count_argument
from .opening import folder_of, store_exists
from .output import Output

if TYPE_CHECKING:
    from ..store.rows import LeaseRow

LOG_NAME: Final = "daemon.log"
_START_SECONDS: Final = 20.0
_STOP_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.02


class DaemonError(FlowdeckError):
    """The daemon in the background did not come up, or does not end."""


def configure(command: str, parser: argparse.ArgumentParser) -> None:
    """Define the arguments of ``daemon`` or ``up``."""
    if command == "daemon":
        parser.add_argument("--stop", action="store_true", help="end the daemon of this store; runs go on without it")
        parser.add_argument("--limit", metavar="N", type=count_argument, help="at most so many runs at once")
        parser.set_defaults(handler=run_in_foreground)
    else:
        parser.set_defaults(handler=up)
    parser.add_argument("paths", metavar="PATH", nargs="*", default=[],
                        help="flow files, or folders of them; the working folder when none is named")


def run_in_foreground(args: argparse.Namespace, out: Output) -> int:
    """Schedule, claim and supervise until SIGINT or SIGTERM."""
    folder = folder_of(args)
    if args.stop:
        return _stop_daemon_of(folder, out)
    from ..engine.daemon.daemon import run_daemon

    return run_daemon(folder, _existing(args.paths), limit=args.limit, as_json=out.as_json)


def up(args: argparse.Namespace, out: Output) -> int:
    """A daemon if none is alive, then the console; quitting the console leaves the daemon running."""
    if not has_terminal():
        return refuse_without_terminal(out, "`flowdeck daemon PATH…` runs without one")
    folder, paths = folder_of(args), _existing(args.paths)
    running = daemon_lease(folder)
    if running is None:
        started = start_daemon(folder, paths)
        out.say(f"daemon {started.pid} started; it writes {folder / LOG_NAME}", "dim")
    else:
        _note_other_paths(running, paths, out)
    code = open_plain_console(folder, out)
    if daemon_lease(folder) is not None:
        out.say("`flowdeck daemon --stop` ends the daemon", "dim")
    return code


def _existing(paths: Sequence[str]) -> list[str]:
    absolute = [os.path.abspath(path) for path in paths or ["."]]
    for path in absolute:
        if not os.path.exists(path):
            raise NotFound(f"{path}: there is no such file or folder; name flow files, or folders of them")
    return absolute


def _note_other_paths(running: LeaseRow, paths: Sequence[str], out: Output) -> None:
    """A running daemon watches what it was started with, not what this command names."""
    watched = json.loads(running.info).get("paths", []) if running.info else []
    missing = [path for path in paths
               if not any(path == own or path.startswith(os.path.join(own, "")) for own in watched)]
    if missing:
        out.say(f"daemon {running.pid} is running already and does not watch {', '.join(missing)}; "
                "`flowdeck daemon --stop`, then again", "yellow")


def daemon_lease(folder: Path) -> LeaseRow | None:
    """The lease of the store's living daemon, or None."""
    if not store_exists(folder):
        return None
    with Reader(folder) as reader:
        return reader.daemon()


def start_daemon(folder: Path, paths: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a daemon in a session of its own and wait for its lease; ``DaemonError`` says why it did not come up."""
    open_store(folder)
    log_path = folder / LOG_NAME
    log = files.open_to_append(folder, LOG_NAME)
    try:
        # -P: a folder called flowdeck where the person stands must not be taken for the package.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "flowdeck", "--store", str(folder), "daemon", *paths],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )
    finally:
        os.close(log)
    deadline = time.monotonic() + _START_SECONDS
    with Reader(folder) as reader:
        while time.monotonic() < deadline:
            if reader.daemon() is not None:
                return process
            if process.poll() is not None:
                raise DaemonError(f"the daemon ended at once with code {process.returncode}: {_last_line(folder)}; "
                                   f"all it said is in {log_path}")
            time.sleep(_POLL_SECONDS)
    process.terminate()
    raise DaemonError(f"the daemon did not come up within {_START_SECONDS:.0f} s; see {log_path}")


def _last_line(folder: Path) -> str:
    lines = [line for line in files.read(folder, LOG_NAME).decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("flowdeck: ") if lines else "it said nothing"


def stop_daemon(folder: Path) -> int | None:
    """End the store's daemon and wait until it is gone; its pid, or None when there was none."""
    lease = daemon_lease(folder)
    if lease is None:
        return None
    reason = why_not_signalled(lease, folder, lease.store)
    if reason is not None:
        raise NotAllowed(f"daemon {lease.pid} on {lease.host} cannot be ended from here: it is {reason}; end it there")
    os.kill(lease.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while time.monotonic() < deadline:
        if not is_alive(lease, folder):
            return lease.pid
        time.sleep(_POLL_SECONDS)
    raise DaemonError(f"daemon {lease.pid} does not end; see {folder / LOG_NAME}, or kill -9 {lease.pid}")


def _stop_daemon_of(folder: Path, out: Output) -> int:
    pid = stop_daemon(folder)
    if pid is None:
        raise NotFound(f"no daemon is running on {folder}")
    out.line(f"daemon {pid} ended; runs that are under way go on")
    return 0

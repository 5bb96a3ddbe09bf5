"""The console in a real pty: from the start of its process to the first screen that shows a run of the store."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Iterator

from .measure import FLOWDECK, PYTHON, Bench, Measure, bench, median, seconds_of, spread
from .seeded_store import seed
from .terminal import ANSWERS, ESCAPES


def first_paint(here: Bench, marker: bytes, *, rows: int = 45, columns: int = 160, seconds: float = 10.0) -> float:
    """Milliseconds until ``marker`` is on the screen."""
    begun = time.perf_counter()
    pid, terminal = pty.fork()
    if pid == 0:
        environment = {**os.environ, **here.environment, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        for name in ("TMUX", "STY"):
            environment.pop(name, None)
        os.chdir(here.root)
        os.execvpe(FLOWDECK[0], [*FLOWDECK, "tui"], environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    seen = b""
    try:
        while (now := time.perf_counter() - begun) < seconds:
            if not select.select([terminal], [], [], 0.01)[0]:
                continue
            try:
                data = os.read(terminal, 1 << 16)
            except OSError:
                break
            for question, answer in ANSWERS:
                if question in data:
                    os.write(terminal, answer)
            seen += data
            if marker in ESCAPES.sub(b"", seen):
                return (time.perf_counter() - begun) * 1000
        raise RuntimeError(f"{marker!r} was not shown within {now:.1f} s: {ESCAPES.sub(b'', seen)[-500:]!r}")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def run(*, quick: bool) -> Iterator[Measure]:
    for runs in (10, 20_000 if quick else 1_000_000):
        with bench() as here:
            seed(here.store, runs=runs)
            marker = b"seeded-%d" % runs
            first_paint(here, marker)
            textual, ours = [], []
            for _ in range(4 if quick else 12):
                textual.append(seconds_of([*PYTHON, "-c", "import textual.app"], cwd=here.root) * 1000)
                ours.append(first_paint(here, marker))
        figure = median(ours)
        yield Measure(
            "console_start", f"console, start → first run shown, {runs:,} runs", figure, "ms", median(textual),
            "python -c 'import textual.app'", median([a / b for a, b in zip(ours, textual, strict=True)]), "≤ 400 ms",
            figure <= 400, spread(ours),
        )  # fmt: skip

"""``run_console``: opens the store, starts the threads, runs the app, and says goodbye. Imports Textual last."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import Literal

from ..store.errors import FlowdeckError, StoreError, StoreMissing, StoreReadOnly

Wire = Literal["thin", "stock"]

_SWITCH_SECONDS = 0.0005
"""Neither must the feed's many short reads each wait 5 ms for a thread that computes, nor a key for the feed."""


def run_console(
    folder: str | Path,
    *,
    read_only: bool = False,
    wire: Wire = "thin",
    ascii: bool = False,  # noqa: A002 - the option's name
    mouse: bool = True,
    start: str | None = None,
) -> int:
    """Show the store in ``folder`` until the person leaves. Returns the exit code: 5 when it cannot be opened."""
    # Before Textual is imported, which reads these once. Motion costs bytes and says nothing.
    os.environ["TEXTUAL_ANIMATIONS"] = "none"
    os.environ.setdefault("TEXTUAL_FPS", "30")
    from .actions import keys_path, read_keymap
    from .text.sanitize import clean

    try:
        keymap = read_keymap(keys_path())
        read_only = _open(Path(folder), read_only=read_only)
    except FlowdeckError as error:
        sys.stderr.write(f"flowdeck: {clean(str(error))}\n")
        return error.exit_code
    from .asks import Asker
    from .feed.thread import Feed

    feed = Feed(Path(folder))
    asker = Asker(Path(folder), read_only=read_only)
    first = start.split(None, 1) if start else []
    if first and first[0] == "runs" and len(first) == 2:
        feed.list_runs(first[1])
    # What is made until the first paint lives on: looking through it for garbage again and again costs some 30 ms.
    gc.disable()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    feed.start()  # reads while Textual is imported
    asker.start()
    try:
        from . import lean

        lean.import_textual()
        from . import console
        from .look import theme


        theme.use(theme.make(theme.depth_of_terminal(), ascii_only=ascii or not _speaks_unicode()))
        code, daemon = console.start(
            feed, asker, read_only=read_only, wire=wire, mouse=mouse, keymap=keymap, start=start
        )
    finally:
        gc.enable()
        sys.setswitchinterval(interval)
        feed.stop()
        asker.stop()
        feed.join(2.0)
    if code == 0:
        going_on = f"The daemon ({daemon.pid}) goes on." if daemon.state == "alive" else "What runs goes on."
        sys.stderr.write(f"Console closed. {going_on}\n")
    return code


def _open(folder: Path, *, read_only: bool) -> bool:
    """Make sure the store can be read; whether the console must be read-only. Raises what makes it impossible."""
    from ..store.opening import open_store
    from ..store.reader import Reader

    try:
        open_store(folder, create=not read_only)
    except StoreReadOnly as error:
        try:
            Reader(folder).close()
        except StoreError:
            raise error from None
        return True
    except StoreMissing as error:
        raise StoreMissing(f"{error} A read-only console makes none.") from error
    if not read_only and not os.access(folder / "state.db", os.W_OK):
        return True
    return read_only


def _speaks_unicode() -> bool:
    encoding = (sys.stdout.encoding or "ascii").lower()
    return "utf" in encoding

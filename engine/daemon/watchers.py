"""Noticing that files change: one thread of watchfiles over the folders that matter.

Folders are watched one by one and not recursively, so hidden, cached and installed ones cost nothing and the store
itself is never watched. Where the kernel's watches are used up, watchfiles polls. The thread only hands on paths.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from ..states.state import describe_exception
from ..system.flow_files import folders_of_flows

STEP_MS: Final = 200
"""Between looks at what the kernel reported; each costs a wake-up."""
DEBOUNCE_MS: Final = 400
POLL_DELAY_MS: Final = 1000
_IMPORTABLE: Final = (".py", ".pyc", ".so", ".zip", ".egg", ".whl")


class FileWatcher:
    """Calls back, in its own thread, with the set of paths that changed."""

    def __init__(self, changed: Callable[[set[str]], None], say: Callable[[str], None]) -> None:
        self._changed = changed
        self._say = say
        self._folders: frozenset[tuple[str, str]] = frozenset()
        """Each with what it is by now: a link to a folder may lead elsewhere."""
        self._stop: threading.Event | None = None
        self._polling = False

    def watch(self, folders: Iterable[str]) -> None:
        """Watch these folders from now on, instead of those before."""
        wanted = frozenset((folder, os.path.realpath(folder)) for folder in folders if os.path.isdir(folder))
        if wanted == self._folders:
            return
        self.close()
        self._folders = wanted
        if wanted:
            self._stop = threading.Event()
            watched = sorted({folder for folder, _ in wanted})
            threading.Thread(target=self._run, args=(watched, self._stop), name="flowdeck-files", daemon=True).start()

    def close(self) -> None:
        """Stop watching; the thread ends within a step."""
        if self._stop is not None:
            self._stop.set()
        self._stop = None
        self._folders = frozenset()

    def _run(self, folders: list[str], stop: threading.Event) -> None:
        from watchfiles._rust_notify import RustNotify  # documented; tells when it watches, which watch() does not

        try:
            with RustNotify(folders, False, self._polling, POLL_DELAY_MS, False, True) as notify:
                # What changed before the watch stood was not seen: look once.
                self._changed(set())
                while not stop.is_set():
                    found = notify.watch(DEBOUNCE_MS, STEP_MS, 0, stop)
                    if isinstance(found, set):
                        self._hand_on({path for _, path in found})
        except (OSError, RuntimeError) as error:
            if stop.is_set():
                return
            if self._polling:
                self._say(f"changes of files are not noticed: {error}; restart the daemon after changing one")
                return
            self._say(f"the kernel cannot watch these folders ({error}); looking at them every second instead")
            self._polling = True
            self._run(folders, stop)
        except BaseException as error:  # noqa: BLE001 - a service thread: nobody would hear of one that is gone
            self._say(f"changes of files are not noticed any more: {describe_exception(error)}; restart the daemon")

    def _hand_on(self, paths: set[str]) -> None:
        """What can be imported, and what is or may have been a folder or a link to one."""
        wanted = {path for path in paths
                  if path.endswith(_IMPORTABLE) or "." not in os.path.basename(path) or os.path.isdir(path)}
        if wanted:
            self._changed(wanted)


def folders_to_watch(paths: Iterable[str], files: Iterable[str]) -> set[str]:
    """The folders below each folder among ``paths``, and the folder of each file, wherever links on the way lead."""
    found = {os.path.dirname(place) for file in files for place in (file, os.path.realpath(file))}
    for path in paths:
        if not os.path.isdir(path):
            found.add(os.path.dirname(path))
            continue
        found.update(place for place, _ in folders_of_flows(path))
    return found | {os.path.dirname(link) for folder in found for link in _links(folder)}


def _links(folder: str) -> Iterator[str]:
    """The links on the way to a folder: with one of them, a release folder is replaced by another."""
    while (above := os.path.dirname(folder)) != folder:
        if os.path.islink(folder):
            yield folder
        folder = above

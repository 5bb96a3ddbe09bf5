"""The daemon's flow files: which there are, which host serves each, and what the store knows of them.

A changed file or import gets a new host; a broken one is a visible problem while its last good version serves; a
deleted one is scheduled no more; two with one flow name are a problem naming both. Files are hashed here and never
imported; that is for hosts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from logging import ERROR, WARNING
from typing import TYPE_CHECKING, Any, Final

from ...store.connection import Connection
from ...store.errors import StoreError
from ...store.tables import deployments
from ..system.clock import Clock
from ..system.flow_files import find_flow_files, source_hash
from ..system.loop import Loop
from . import registration
from .host import Host
from .hosts import Hosts
from .saying import Line
from .served import Served
from .watchers import FileWatcher, folders_to_watch

if TYPE_CHECKING:
    from ..control.deployable import Deployment

RESCAN_SECONDS: Final = 0.2
"""Files that change together are loaded together."""
AGAIN_SECONDS: Final = 1.0
"""After the store could not be written."""


class FlowFiles:
    """Keeps hosts and rows true to the files under ``paths``."""

    def __init__(self, paths: list[str], state: Connection, hosts: Hosts, loop: Loop,
                 say: Callable[[str], None], clock: Clock, deployments: Sequence[Deployment] = ()) -> None:
        self._paths = paths
        self._state = state
        self._hosts = hosts
        self._loop = loop
        self._say = say
        self._clock = clock
        self._deployments = deployments
        """What a script serves beside the deployments its file names itself."""
        self._watcher = FileWatcher(lambda changed: loop.post(lambda: self._files_changed(changed)), say)
        self._wanted: set[str] = set()
        self._clashing: set[str] = set()
        self._changed: set[str] = set()
        self._rescan_due = False
        self._loaded: list[tuple[Served, Host, str]] = []
        """Files that a host has loaded and that are not registered yet, with the hashes of their texts."""
        self._told: dict[str, str] = {}
        """What was last said about each file that cannot be loaded."""
        self._watched: set[str] = set()
        """Folders of what was imported."""
        self.on_change: Callable[[str | None], None] = lambda _path: None
        """What is deployed or served of a file has changed (None: of any), or was tried in vain."""
        hosts.on_loaded = self._host_loaded
        hosts.on_broken = self._host_broken
        hosts.on_long = self._host_long

    def __len__(self) -> int:
        return len(self._wanted)

    def close(self) -> None:
        """Stop watching."""
        self._watcher.close()

    def is_served(self, path: str) -> bool:
        """Whether runs of the file may be made: a host has loaded it, or what it holds is known and not changed."""
        served = self._hosts.served.get(path)
        return served is not None and not served.on_demand and served.is_served

    def tried(self) -> bool:
        """Whether of each file it is known and stored what it holds, or that this takes long."""
        return not self._loaded and self._hosts.tried()

    def scan(self) -> None:
        """Which flow files there are now: host the new and the changed, drop those that are gone."""
        self._rescan_due = False
        changed, self._changed = self._changed, set()
        wanted = set(find_flow_files(path for path in self._paths if os.path.exists(path)))
        for path in self._wanted - wanted:
            self._drop(path)
        self._wanted = wanted
        known = self._known() if not self._hosts.served else []
        for path in sorted(wanted - set(known)):
            served = self._hosts.served.get(path)
            if served is None or served.on_demand or _is_stale(served, changed):
                self._hosts.serve(path)
        for path in known:
            self._hosts.serve(path)
        self._watch_folders()

    def reload(self) -> None:
        """Make a new host for every file, changed or not: what a file computes at its import is computed anew."""
        known = set(self._hosts.served) & self._wanted
        self.scan()
        for path in sorted(known & self._wanted):
            self._hosts.serve(path)

    def _known(self) -> list[str]:
        """At the start: files whose text the store knows are scheduled at once; their hosts are made after the others.
        """
        known = []
        for row in deployments.files(self._state):
            if row.error is None and row.path in self._wanted and source_hash(row.path) == row.source_hash:
                self._hosts.know(row.path, row.source_hash)
                known.append(row.path)
        return known

    def retire_unwanted(self) -> None:
        """What the store knows from daemons with other files is not scheduled by this one."""
        for path in registration.known_paths(self._state) - self._wanted:
            registration.forget_file(self._state, path, f"{path} is not among the files of the daemon",
                                     self._clock().us)

    def _files_changed(self, changed: set[str]) -> None:
        self._changed |= changed
        if not self._rescan_due:
            self._rescan_due = True
            self._loop.after(RESCAN_SECONDS, self.scan)

    def _watch_folders(self) -> None:
        files = {path for served in self._hosts.served.values() for path in served.hashes}
        self._watched = {os.path.dirname(path) for path in files}
        self._watcher.watch(folders_to_watch(self._paths, files))

    def _drop(self, path: str) -> None:
        self._hosts.drop(path)
        why = f"{path} was deleted" if not os.path.exists(path) else f"{path} is no flow file any more"
        registration.forget_file(self._state, path, why, self._clock().us)
        self._say(f"{why}: its flows are no longer scheduled")
        self.on_change(None)
        # A name may have become free.
        clashing, self._clashing = self._clashing, set()
        for other in clashing & set(self._hosts.served):
            self._hosts.serve(other)

    def _host_loaded(self, served: Served, host: Host, report: dict[str, Any]) -> None:
        if not {os.path.dirname(path) for path in host.hashes} <= self._watched and not served.on_demand:
            served.hashes = host.hashes
            self._watch_folders()
        if served.on_demand:
            self._tell_loaded(served, host)
        elif not host.flows and served.path in self._paths:
            registration.note_broken(self._state, served.path, report["hash"],
                                     f"{served.path}: holds no flow; decorate a function with @flow", None,
                                     self._clock().us)
            self._tell_loaded(served, host)
        else:
            self._loaded.append((served, host, report["hash"]))
            if len(self._loaded) == 1:  # with those that are heard of in the same step of the loop
                self._loop.post(self._register)

    def _tell_loaded(self, served: Served, host: Host) -> None:
        self._told.pop(served.path, None)
        self._say(f"loaded {served.path}: {', '.join(host.flows) or 'no flows'}")
        self._loop.post(partial(self.on_change, served.path))

    def _register(self) -> None:
        """Store what was loaded: in one transaction, or where that fails for a reason of one file's each in its own."""
        loaded = [one for one in self._loaded if self._hosts.served.get(one[0].path) is one[0]]
        self._loaded = []
        one_by_one = len(loaded) > 1
        try:
            self._register_these(loaded)
            one_by_one = False
        except StoreError:
            one_by_one = False
            self._loaded = loaded
            self._loop.after(AGAIN_SECONDS, self._register)
            raise
        finally:
            for one in loaded if one_by_one else ():
                self._loop.post(partial(self._register_these, [one]))

    def _register_these(self, loaded: list[tuple[Served, Host, str]]) -> None:
        own = {served.path for served, _, _ in loaded}
        holders = {flow: other.path for other in self._hosts.served.values()
                   if other.path not in own and not other.on_demand and other.is_served for flow in other.flows}
        found = [registration.Found(served.path, source, self._entries(served, host))
                 for served, host, source in loaded]
        all_clashes = registration.register(self._state, found, holders, self._clock().us) if found else []
        for (served, host, _), clashes in zip(loaded, all_clashes, strict=True):
            for name in clashes:
                host.flows.pop(name, None)
            if clashes:
                self._clashing.add(served.path)
                self._say(Line(f"{served.path}: {', '.join(clashes)}: also in another file, which keeps the name",
                               WARNING))
            self._tell_loaded(served, host)

    def _entries(self, served: Served, host: Host) -> list[dict[str, Any]]:
        """What the file names itself, and what is served beside that."""
        here = [each for each in self._deployments if each.path == served.path and each.flow.name in host.flows]
        moved = {each.flow.name for each in here if each.has_flows_schedules}
        entries = [{**entry, "schedules": []} if entry["name"] in moved else entry for entry in host.flows.values()]
        return entries + [deployment.entry() for deployment in here]

    def _host_broken(self, served: Served, error: str, traceback: str | None) -> None:
        kept = "; its last good version stays in service" if served.current is not None else ""
        if not served.on_demand:
            registration.note_broken(self._state, served.path, source_hash(served.path), error, traceback,
                                     self._clock().us)
        if self._told.get(served.path) != error:  # it is tried again with each change nearby, and said once
            self._told[served.path] = error
            self._say(Line(f"cannot load {error}{kept}", ERROR))
        self._loop.post(partial(self.on_change, served.path))

    def _host_long(self, served: Served, text: str | None) -> None:
        """A problem until it is loaded; what serves the file meanwhile goes on doing so."""
        if text is not None:
            self._say(Line(text, WARNING))
        if text is not None and not served.on_demand:
            registration.note_broken(self._state, served.path, source_hash(served.path), text, None, self._clock().us)
        self._loop.post(partial(self.on_change, served.path))


def _is_stale(served: Served, changed: set[str]) -> bool:
    if served.loading is not None:
        return served.loading.changed()
    if served.error is not None:
        # What would mend it need not be in the file: a module beside it may have been missing.
        return bool(changed)
    return not served.is_being_made and (not served.is_loaded or served.changed())

"""What living hosts were given and have not begun: each attempt is one host's own, until it begins or the host ends."""

from __future__ import annotations

from typing import TypeAlias

from .host import Host

Given: TypeAlias = tuple[int, int]
"""A run and its attempt."""


class GivenRuns:
    """Who has what; the hosts' own books are kept with it."""

    def __init__(self) -> None:
        self._hosts: dict[Given, Host] = {}

    def __contains__(self, given: Given) -> bool:
        return given in self._hosts

    def __bool__(self) -> bool:
        return bool(self._hosts)

    def add(self, host: Host, given: Given, at: float) -> None:
        """The host is to make a process for it."""
        if not host.is_silent:
            host.heard_at = at  # until now there was nothing to answer
        host.used_at = at
        host.given[given] = False
        self._hosts[given] = host

    def begun(self, given: Given) -> bool:
        """A process has the run; says whether a host was to make it."""
        host = self._hosts.pop(given, None)
        if host is not None:
            del host.given[given]
        return host is not None

    def take_back(self, host: Host, given: Given) -> bool:
        """The host does nothing about it any more; says whether it had it, and it had not begun."""
        had = host.given.pop(given, None) is not None
        if had and self._hosts.get(given) is host:
            del self._hosts[given]
        return had

    def silent(self, since: float) -> list[Host]:
        """Hosts that have said nothing since then about what they were given."""
        return [host for host in set(self._hosts.values()) if host.is_silent and host.heard_at < since]

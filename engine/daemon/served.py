"""A flow file as the daemon serves it: what is known of it, and the hosts that have it. Starts and ends none."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Final

from .host import Host, is_changed

SHORT_LIFE_SECONDS: Final = 10.0
"""A host that ended sooner after it began is not replaced at once when that happens again."""
FIRST_REST_SECONDS: Final = 0.1
LONGEST_REST_SECONDS: Final = 30.0


class Served:
    """A flow file, what is known of it, and the hosts that have it."""

    def __init__(self, path: str, *, on_demand: bool) -> None:
        self.path = path
        self.on_demand = on_demand
        """Not among the daemon's files: kept only while a run needs it."""
        self.is_known = False
        """The store knows what this very text holds: it is scheduled although no host has loaded it yet."""
        self.flows: dict[str, dict[str, Any]] = {}
        """What the last good load found, also when no host is kept warm."""
        self.hashes: dict[str, str] = {}
        self.is_loaded = False
        self.current: Host | None = None
        self.loading: Host | None = None
        self.stuck: Host | None = None
        """One that did not answer and was replaced, as long as it lives."""
        self.queued = False
        self.again = False
        """It changed while it was being loaded."""
        self.tries = 0
        """Hosts that somebody killed while they loaded the file."""
        self.deaths = 0
        """Hosts of it that ended soon after they had loaded it, one after the other."""
        self.error: str | None = None
        self.is_wanted = False
        """A run waits for its host."""
        self.crashed: list[tuple[int, int, str]] = []
        """Dead runs whose hooks wait for a host: run, attempt, flow."""

    @property
    def is_served(self) -> bool:
        """Whether runs of it may be made: a host has it, or would have it as soon as one is needed."""
        return self.current is not None or (self.error is None and (self.is_known or self.is_loaded))

    @property
    def is_tried(self) -> bool:
        """Whether nobody need wait to hear what it holds: that is known, or takes long."""
        if self.loading is not None:
            return self.is_known or self.loading.is_long
        return self.is_known or not self.queued

    @property
    def waits_for(self) -> str | None:
        """Why no run of it begins, where that may take long."""
        if self.current is not None or self.loading is None or not self.loading.is_long:
            return None
        return f"waits for the import of {self.path}, which takes long"

    @property
    def is_being_made(self) -> bool:
        """Whether a host for it is on its way."""
        return self.queued or self.loading is not None

    def changed(self) -> bool:
        """Whether what was loaded last is no longer what the files say."""
        return is_changed(self.hashes)

    def rest_after_death(self, lived_seconds: float) -> float:
        """How long to wait before another host is made: not at all, unless they die again and again."""
        if lived_seconds > SHORT_LIFE_SECONDS:
            self.deaths = 0
        self.deaths += 1
        return 0.0 if self.deaths == 1 else min(FIRST_REST_SECONDS * 2 ** self.deaths, LONGEST_REST_SECONDS)

    def why_not(self, flow: str) -> tuple[str, bool] | None:
        """Why no run of the flow can be given to its host, and whether to try that again; None when it can."""
        if self.current is None:
            if self.error is not None:
                return f"its file cannot be imported: {self.error}", False
            gone = not os.path.isfile(self.path)
            return (f"its file {self.path} is gone", False) if gone else ("its code host is being made", True)
        if not self.current.runs(flow):
            known = f"it holds {', '.join(self.current.flows)}" if self.current.flows else "it holds none"
            return f"{self.path} holds no flow {flow!r}; {known}", False
        return None


def too_warm(all_served: Iterable[Served], just_loaded: Served, most: int) -> list[Served]:
    """Files whose hosts are to end, where more than so many are warm: the one not needed, or those used longest ago."""
    warm = [served for served in all_served if served.current is not None and not served.on_demand]
    if len(warm) <= most:
        return []
    idle = [served for served in warm if served.current is not None and served.current.is_idle
            and not served.is_being_made]
    if just_loaded in idle:
        return [just_loaded]
    return sorted(idle, key=lambda served: served.current.used_at if served.current is not None else 0.0)[
        : len(warm) - most]

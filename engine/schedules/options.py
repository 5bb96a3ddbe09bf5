"""What every schedule carries besides its times: whether it is active, and what becomes of ticks that cannot be kept.

``General`` is a schedule that says its next tick itself. Pure, as all of this room.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Literal, get_args

from ..errors import ScheduleError

Catchup = Literal["latest", "all", "none"]
"""What becomes of ticks missed while no daemon ran: run the last one, every one, or none."""
Overlap = Literal["skip", "queue", "allow", "cancel_running"]
"""What becomes of a tick while the schedule's earlier run has not ended."""


class Options:
    """What every schedule carries besides its times."""

    __slots__ = ("_zone_from", "active", "catchup", "catchup_window_seconds", "overlap", "parameters", "slug")
    kind: str

    def __init__(self, *, parameters: dict[str, Any] | None, slug: str | None, catchup: Catchup,
                 catchup_window_seconds: float, overlap: Overlap, active: bool) -> None:
        _one_of("catchup", catchup, get_args(Catchup))
        _one_of("overlap", overlap, get_args(Overlap))
        if not catchup_window_seconds >= 0:
            raise ScheduleError(f"catchup_window_seconds={catchup_window_seconds!r} must be zero or more seconds")
        self.parameters: dict[str, Any] = dict(parameters or {})
        self.slug = slug
        self.catchup: Catchup = catchup
        self.catchup_window_seconds = float(catchup_window_seconds)
        self.overlap: Overlap = overlap
        self.active = bool(active)

    def times(self) -> dict[str, Any]:
        """What decides the times, as JSON values."""
        raise NotImplementedError

    def describe(self) -> str:
        """For people: ``cron 0 6 * * * (UTC)``, ``every 5 minutes``."""
        raise NotImplementedError

    @property
    def zone_from(self) -> str | None:
        """Where its zone comes from, when the zone itself does not tell: see ``zone_source``."""
        return getattr(self, "_zone_from", None)

    @zone_from.setter
    def zone_from(self, source: str | None) -> None:
        # Else left unset: such a schedule pickles, and is hashed as an input, as in versions that did not know it.
        if source is not None:
            self._zone_from = source
        elif self.zone_from is not None:
            del self._zone_from

    def zone_source(self) -> str:
        """Where its zone comes from, in words."""
        if self.zone_from is None:
            return "the default" if getattr(self, "timezone", "UTC") == "UTC" else "as given"
        return {"local": "this machine's", "anchor": "of its first date", "rule": "of its rule", "given": "as given",
                }[self.zone_from]

    def _all(self) -> tuple[Any, ...]:
        return (self.times(), self.parameters, self.slug, self.catchup, self.catchup_window_seconds, self.overlap,
                self.active)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Options) and self._all() == other._all()

    def __hash__(self) -> int:
        return hash(json.dumps(self.times(), sort_keys=True))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.describe()}>"


class General(Options):
    """A schedule of any other kind; it says its next tick itself."""

    __slots__ = ()
    may_end = False
    """Whether a schedule that never fires again is as it should be: its last date has passed."""

    def following(self, at: datetime) -> datetime | None:
        """The first tick strictly after ``at``, in UTC; None when there is none."""
        raise NotImplementedError


def _one_of(field: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ScheduleError(f"{field}={value!r} is not known: use one of {', '.join(map(repr, allowed))}")

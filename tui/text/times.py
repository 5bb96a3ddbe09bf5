"""Times and sizes as a person reads them, in the console and on the command line. Pure.

The one rule for moments: local time of whoever reads, with the date when it is not today, and with its offset where
that is another one than now (before a change of clocks). What shows moments says ``zone`` once. For programs
(``--json``) moments are ISO 8601 with their offset; in stored words they say UTC, which ``localised`` turns.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

SECOND_US = 1_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_STORED: Final = re.compile(r"\b(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC\b")
_RELATIVE_DAYS: Final = 30


def duration(us: int | None) -> str:
    """``0.4s`` ``12s`` ``3:07`` ``1:04:09`` ``2d 03h``; a dash when there is none."""
    if us is None:
        return "–"
    if us < 10 * SECOND_US:
        return f"{max(0, us) / SECOND_US:.1f}s"
    seconds = us // SECOND_US
    if seconds < 60:
        return f"{seconds}s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes}:{seconds:02}"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}:{minutes:02}:{seconds:02}"
    days, hours = divmod(hours, 24)
    return f"{days}d {hours:02}h"


def running_duration(us: int) -> str:
    """A duration that still grows: whole seconds only, so that it changes once a second."""
    return duration(us) if us >= 10 * SECOND_US else f"{max(0, us) // SECOND_US}s"


def span_words(us: int) -> str:
    """``8 s`` ``5 min`` ``5 h 33 min`` ``2 d 3 h`` ``12 d``: how long until, or since, to the unit that matters."""
    seconds = abs(us) // SECOND_US
    if seconds < 90:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return _two(*divmod(minutes, 60), "h", "min")
    hours = round(seconds / 3600)
    return _two(*divmod(hours, 24), "d", "h") if hours < 240 else f"{round(hours / 24)} d"


def _two(large: int, small: int, unit: str, smaller: str) -> str:
    return f"{large} {unit} {small} {smaller}" if small else f"{large} {unit}"


def ago(at_us: int, now_us: int) -> str:
    """A moment seen from now: ``now``, ``12 s ago``, ``in 5 h 33 min``; beyond 30 days its date."""
    distance = now_us - at_us
    if abs(distance) < SECOND_US:
        return "now"
    if abs(distance) >= _RELATIVE_DAYS * 86_400 * SECOND_US:
        return f"{local(at_us):%Y-%m-%d}"
    return f"{span_words(distance)} ago" if distance > 0 else f"in {span_words(distance)}"


def with_ago(shown: str, at_us: int, now_us: int) -> str:
    """A moment and how far it is: ``06:00:00 (in 5 h 33 min)``; far away its date is enough."""
    far = abs(now_us - at_us) >= _RELATIVE_DAYS * 86_400 * SECOND_US
    return shown if far else f"{shown} ({ago(at_us, now_us)})"


def clock(at_us: int | None, now_us: int) -> str:
    """For narrow columns: the time today, else the day, with the time when it is not long ago. At most nine cells."""
    if at_us is None:
        return "–"
    at = local(at_us)
    today = local(now_us).date()
    if at.date() == today:
        return at.strftime("%H:%M:%S")
    days = abs((at.date() - today).days)
    if days < 7:
        return at.strftime("%a %H:%M")
    return at.strftime("%d %b") if days < 300 else at.strftime("%b %Y")


def narrow(at_us: int, now_us: int) -> str:
    """For a column of events: to the millisecond today, else the day and the minute. At most twelve cells."""
    at = local(at_us)
    today = local(now_us).date()
    if at.date() == today:
        return f"{at:%H:%M:%S}.{at.microsecond // 1000:03}"
    return f"{at:%d %b %H:%M}" if abs((at.date() - today).days) < 300 else f"{at:%d %b %Y}"


def moment(at_us: int | None, now_us: int, *, milliseconds: bool = False) -> str:
    """``14:03:07`` today, else ``2026-11-29 14:03:07``; with its offset when that is not the one of now."""
    if at_us is None:
        return "–"
    at, now = local(at_us), local(now_us)
    text = _text(at, now, milliseconds)
    return text if at.date() != now.date() else text[11:]


def stamp(at_us: int | None, now_us: int, *, milliseconds: bool = False) -> str:
    """As ``moment``, with the date also when it is today's."""
    return "–" if at_us is None else _text(local(at_us), local(now_us), milliseconds)


def _text(at: datetime, now: datetime, milliseconds: bool) -> str:
    text = f"{at:%Y-%m-%d %H:%M:%S}" + (f".{at.microsecond // 1000:03}" if milliseconds else "")
    return text if at.utcoffset() == now.utcoffset() else text + f"{at:%z}"[:3] + ":" + f"{at:%z}"[3:5]


def zone(at_us: int) -> str:
    """The zone in which moments are shown: ``CET (UTC+01:00)``; ``UTC`` where that is it."""
    at = local(at_us)
    name, offset = at.tzname() or "", at.utcoffset() or timedelta(0)
    if not offset:
        return name if name.isalpha() else "UTC"
    text = f"UTC{at:%z}"[:6] + ":" + f"{at:%z}"[3:5]
    return f"{name} ({text})" if name.isalpha() else text


def localised(text: str, now_us: int) -> str:
    """Stored words with their moments, which say UTC, as whoever reads is shown moments."""
    if " UTC" not in text:
        return text

    def shown(found: re.Match[str]) -> str:
        try:
            at = datetime.fromisoformat(found.group(1)).replace(tzinfo=UTC)
        except ValueError:
            return found.group()
        return moment((at - _EPOCH) // timedelta(microseconds=1), now_us)

    return _STORED.sub(shown, text)


def local(at_us: int) -> datetime:
    """The moment in the time zone of the person at the terminal."""
    return (_EPOCH + timedelta(microseconds=at_us)).astimezone()


def size(count: int | None) -> str:
    """Bytes in the unit that keeps three figures."""
    if count is None:
        return "–"
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def number(count: int) -> str:
    """A count with thin groups: ``12 480``."""
    return f"{count:,}".replace(",", " ")

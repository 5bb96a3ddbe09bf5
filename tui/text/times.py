"""Times and sizes as a person reads them: short, of stable width, local time. Pure."""

from __future__ import annotations

from datetime import datetime

SECOND_US = 1_000_000
_DAY_SECONDS = 86_400


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
    """``8 s`` ``5 min`` ``3 h`` ``2 d``: how long until, or since, in the unit that matters."""
    seconds = abs(us) // SECOND_US
    if seconds < 90:
        return f"{seconds} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    if seconds < 36 * 3600:
        return f"{round(seconds / 3600)} h"
    return f"{round(seconds / _DAY_SECONDS)} d"


def clock(at_us: int | None, now_us: int) -> str:
    """The time today, else the day, with the time when it is not long ago. At most nine cells, local time."""
    if at_us is None:
        return "–"
    at = local(at_us)
    now = local(now_us)
    if at.date() == now.date():
        return at.strftime("%H:%M:%S")
    days = abs((at.date() - now.date()).days)
    if days < 7:
        return at.strftime("%a %H:%M")
    return at.strftime("%d %b") if days < 300 else at.strftime("%b %Y")


def stamp(at_us: int | None) -> str:
    """Date and time with milliseconds, local time."""
    if at_us is None:
        return "–"
    at = local(at_us)
    return at.strftime("%Y-%m-%d %H:%M:%S") + f".{at.microsecond // 1000:03}"


def local(at_us: int) -> datetime:
    """The moment in the time zone of the person at the terminal."""
    return datetime.fromtimestamp(at_us / SECOND_US).astimezone()


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

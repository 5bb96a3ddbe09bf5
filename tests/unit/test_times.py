"""Moments as people read them: one rule, in any zone and on both sides of a change of clocks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from flowdeck.engine.system.clock import in_words
from flowdeck.tui.text import times

MINUTE_US = 60 * times.SECOND_US


def us(text: str) -> int:
    """A moment that is written in UTC."""
    return (datetime.fromisoformat(text).replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(
        microseconds=1
    )


@pytest.fixture
def at_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Lets the reader be in a zone."""

    def move(zone: str) -> None:
        monkeypatch.setenv("TZ", zone)
        time.tzset()

    before = os.environ.get("TZ")
    yield move
    if before is None:
        monkeypatch.delenv("TZ", raising=False)
    else:
        monkeypatch.setenv("TZ", before)
    time.tzset()


@pytest.mark.parametrize(("zone", "shown", "said"), [
    ("UTC", "06:30:00", "UTC"),
    ("Europe/Berlin", "07:30:00", "CET (UTC+01:00)"),
    ("America/St_Johns", "03:00:00", "NST (UTC-03:30)"),
    ("Asia/Kathmandu", "12:15:00", "UTC+05:45"),
    ("Pacific/Kiritimati", "20:30:00", "UTC+14:00"),
    ("Europe/London", "06:30:00", "GMT"),
])  # fmt: skip
def test_a_moment_of_today_is_its_time(at_home: Callable[[str], None], zone: str, shown: str, said: str) -> None:
    """In the zone of whoever reads, which is said once."""
    at_home(zone)
    now = us("2026-11-30 06:31:00")
    assert times.moment(us("2026-11-30 06:30:00"), now) == shown
    assert times.moment(us("2026-11-30 06:30:00.123"), now, milliseconds=True) == f"{shown}.123"
    assert times.zone(now) == said


def test_a_moment_of_another_day_has_its_date(at_home: Callable[[str], None]) -> None:
    """Yesterday, tomorrow and the same time of another year; midnight is the reader's."""
    at_home("Europe/Berlin")
    now = us("2026-11-30 06:31:00")
    assert times.moment(us("2026-11-29 22:59:59"), now) == "2026-11-29 23:59:59"
    assert times.moment(us("2026-11-29 23:00:00"), now) == "00:00:00"
    assert times.moment(us("2026-12-01 12:00:00"), now) == "2026-12-01 13:00:00"
    assert times.moment(us("2025-11-30 06:30:00"), now) == "2025-11-30 07:30:00"
    assert times.stamp(us("2026-11-30 06:30:00"), now) == "2026-11-30 07:30:00"
    assert times.moment(None, now) == times.stamp(None, now) == "–"


def test_a_moment_before_a_change_of_clocks_says_its_offset(at_home: Callable[[str], None]) -> None:
    """What is not at the offset of now says which it is at, so that the hour that comes twice is two."""
    at_home("Europe/Berlin")
    now = us("2026-10-25 02:00:00")
    assert times.moment(us("2026-10-25 00:30:00"), now) == "02:30:00+02:00"
    assert times.moment(us("2026-10-25 01:30:00"), now) == "02:30:00"
    assert times.stamp(us("2026-07-01 10:00:00.5"), now, milliseconds=True) == "2026-07-01 12:00:00.500+02:00"


@pytest.mark.parametrize(("span_us", "words"), [
    (0, "0 s"), (89 * times.SECOND_US, "89 s"), (10 * MINUTE_US - 1, "10 min"), (59 * MINUTE_US, "59 min"),
    (60 * MINUTE_US, "1 h"), (333 * MINUTE_US, "5 h 33 min"), (1439 * MINUTE_US, "23 h 59 min"),
    (1440 * MINUTE_US, "1 d"), (51 * 60 * MINUTE_US, "2 d 3 h"), (300 * 60 * MINUTE_US, "12 d"),
])  # fmt: skip
def test_how_long_until(span_us: int, words: str) -> None:
    """To the unit that matters: five hours and a half are not five hours."""
    assert times.span_words(span_us) == times.span_words(-span_us) == words
    now = us("2026-11-30 06:31:00")
    if span_us >= times.SECOND_US:
        assert times.ago(now + span_us, now) == f"in {words}"
        assert times.ago(now - span_us, now) == f"{words} ago"


def test_stored_words_say_utc_and_are_shown_in_the_readers_zone(at_home: Callable[[str], None]) -> None:
    """What outlives the zone of its reader names its own; text that merely looks alike stays as it is."""
    at_home("America/New_York")
    now = us("2026-11-30 15:00:00")
    stored = f"asleep until {in_words(us('2026-11-30 17:00:00'))}, or {in_words(us('2026-12-24 17:00:00'))}"
    assert stored == "asleep until 2026-11-30 17:00:00 UTC, or 2026-12-24 17:00:00 UTC"
    assert times.localised(stored, now) == "asleep until 12:00:00, or 2026-12-24 12:00:00"
    for text in ("2026-13-45 99:00:00 UTC", "at 17:00 UTC", "2026-11-30 17:00:00 UTCX", ""):
        assert times.localised(text, now) == text


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kathmandu"])
@pytest.mark.parametrize("days", [0, 1, 6, 200, 400])
def test_narrow_columns_hold_their_moments(at_home: Callable[[str], None], zone: str, days: int) -> None:
    """Nine cells in lists, twelve among events, whatever the day."""
    at_home(zone)
    now = us("2026-11-30 06:31:00")
    assert len(times.clock(now - days * 1440 * MINUTE_US, now)) <= 9
    assert len(times.narrow(now - days * 1440 * MINUTE_US, now)) <= 12

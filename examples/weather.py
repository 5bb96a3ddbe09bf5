"""Seattle's weather, 2012–2015: read, validate, sum up month by month, store, and tell in a report.

1 461 daily observations by NOAA stand beside this file. Each row is validated with pydantic; rows that make no sense
are left out and named in the log. The 48 months are summed up as one mapped group. The report is a Markdown artifact.
"""

from __future__ import annotations

import csv
import os
import sqlite3
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from datetime import date, datetime
from pathlib import Path
from statistics import fmean
from typing import Literal, TypedDict

from flowdeck import create_markdown_artifact, flow, get_run_logger, metric, task
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

HERE = Path(__file__).resolve().parent
MONTH_NAMES = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
               "November", "December")
WET_DAY_MM = 1.0
"""A day counts as wet from this much precipitation, as the World Meteorological Organization counts."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS day (
    date TEXT PRIMARY KEY, precipitation_mm REAL, max_celsius REAL, min_celsius REAL, wind REAL, weather TEXT
);
CREATE TABLE IF NOT EXISTS month (
    month TEXT PRIMARY KEY, days INTEGER, mean_max_celsius REAL, mean_min_celsius REAL, precipitation_mm REAL,
    wet_days INTEGER
);
"""


class Observation(BaseModel):
    """One day as observed; refuses what cannot be."""

    day: date = Field(alias="date")
    precipitation_mm: float = Field(alias="precipitation", ge=0, le=500)
    max_celsius: float = Field(alias="temp_max", ge=-60, le=60)
    min_celsius: float = Field(alias="temp_min", ge=-60, le=60)
    wind: float = Field(ge=0, le=100)
    weather: Literal["drizzle", "fog", "rain", "snow", "sun"]

    @field_validator("day", mode="before")
    @classmethod
    def _with_slashes(cls, value: object) -> object:
        return datetime.strptime(value, "%Y/%m/%d").date() if isinstance(value, str) else value  # noqa: DTZ007

    @model_validator(mode="after")
    def _in_order(self) -> Observation:
        if self.min_celsius > self.max_celsius:
            raise ValueError(f"the day's lowest, {self.min_celsius} °C, is above its highest, {self.max_celsius} °C")
        return self


class Day(TypedDict):
    """A validated observation, as it travels between tasks and into the database."""

    date: str
    precipitation_mm: float
    max_celsius: float
    min_celsius: float
    wind: float
    weather: str


class Month(TypedDict):
    """One month summed up."""

    month: str
    days: int
    mean_max_celsius: float
    mean_min_celsius: float
    precipitation_mm: float
    wet_days: int


@task
def extract(source: str) -> list[dict[str, str]]:
    """The rows of the file, as text."""
    with open(source, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@task
def validate(rows: list[dict[str, str]]) -> list[Day]:
    """The rows that make sense; the others are named in the log."""
    logger = get_run_logger()
    days: list[Day] = []
    for number, row in enumerate(rows, start=2):  # line 1 of the file holds the names
        try:
            seen = Observation.model_validate(row)
        except ValidationError as error:
            what = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'row'}: {one['msg']}" for one in error.errors())
            logger.warning("line %d left out: %s", number, what)
            continue
        days.append(Day(date=seen.day.isoformat(), **seen.model_dump(exclude={"day"})))  # type: ignore[typeddict-item]
    if not days:
        raise ValueError(f"none of {len(rows)} rows makes sense")
    metric("rows_valid", len(days))
    metric("rows_left_out", len(rows) - len(days))
    logger.info("%d of %d rows are valid", len(days), len(rows))
    return days


@task
def split_by_month(days: list[Day]) -> list[list[Day]]:
    """The days of each month, in order."""
    months: defaultdict[str, list[Day]] = defaultdict(list)
    for day in days:
        months[day["date"][:7]].append(day)
    return [months[month] for month in sorted(months)]


@task
def sum_up(days: list[Day]) -> Month:
    """One month in figures."""
    return Month(
        month=days[0]["date"][:7],
        days=len(days),
        mean_max_celsius=round(fmean(day["max_celsius"] for day in days), 2),
        mean_min_celsius=round(fmean(day["min_celsius"] for day in days), 2),
        precipitation_mm=round(sum(day["precipitation_mm"] for day in days), 1),
        wet_days=sum(day["precipitation_mm"] >= WET_DAY_MM for day in days),
    )


@task(retries=3, retry_delay_seconds=[0.2, 1, 2])
def load(warehouse: str, days: list[Day], months: list[Month]) -> int:
    """Store days and months in one transaction; the same data stored again replaces itself."""
    with closing(sqlite3.connect(warehouse, timeout=5)) as connection, connection:
        connection.executescript(SCHEMA)
        for table, rows in (("day", days), ("month", months)):
            values = [tuple(row.values()) for row in rows]
            connection.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, ?, ?, ?)", values)
    get_run_logger().info("%d days and %d months are in %s", len(days), len(months), warehouse)
    return len(days)


@task
def report(days: list[Day], months: list[Month]) -> str:
    """Tell it in Markdown, kept with the run as an artifact."""
    text = "\n".join(
        [
            f"# Seattle's weather, {days[0]['date']} to {days[-1]['date']}",
            "",
            f"{len(days)} days, observed by NOAA.",
            "",
            *_climate(months),
            "",
            *_extremes(days),
        ]
    )
    create_markdown_artifact(key="seattle-weather", markdown=text, description="Seattle's weather in figures")
    return text


def _climate(months: list[Month]) -> list[str]:
    """The twelve months of the year, averaged over the years."""
    lines = ["| month | mean high °C | mean low °C | precipitation mm | wet days |", "|---|--:|--:|--:|--:|"]
    for number, name in enumerate(MONTH_NAMES, start=1):
        same = [month for month in months if int(month["month"][5:]) == number]
        if same:
            figures = (
                f"{fmean(month['mean_max_celsius'] for month in same):.1f}",
                f"{fmean(month['mean_min_celsius'] for month in same):.1f}",
                f"{fmean(month['precipitation_mm'] for month in same):.0f}",
                f"{fmean(month['wet_days'] for month in same):.0f}",
            )
            lines.append(f"| {name} | {' | '.join(figures)} |")
    return lines


def _extremes(days: list[Day]) -> list[str]:
    hottest = max(days, key=lambda day: day["max_celsius"])
    coldest = min(days, key=lambda day: day["min_celsius"])
    windiest = max(days, key=lambda day: day["wind"])
    dry = _longest_streak(days, lambda day: day["precipitation_mm"] == 0)
    wet = _longest_streak(days, lambda day: day["precipitation_mm"] > 0)
    wettest = sorted(days, key=lambda day: day["precipitation_mm"], reverse=True)[:5]
    return [
        f"- Hottest: {hottest['max_celsius']} °C on {hottest['date']}",
        f"- Coldest: {coldest['min_celsius']} °C on {coldest['date']}",
        f"- Windiest: {windiest['wind']} m/s on {windiest['date']}",
        f"- Longest without a drop: {_span(dry)}",
        f"- Longest with some every day: {_span(wet)}",
        "- Wettest days: " + ", ".join(f"{day['date']} ({day['precipitation_mm']} mm)" for day in wettest),
    ]


def _longest_streak(days: list[Day], holds: Callable[[Day], bool]) -> list[Day]:
    longest: list[Day] = []
    current: list[Day] = []
    for day in days:
        current = [*current, day] if holds(day) else []
        longest = max(longest, current, key=len)
    return longest


def _span(days: list[Day]) -> str:
    return f"{len(days)} days from {days[0]['date']}" if days else "never"


def default_warehouse() -> str:
    """In the store's folder when FLOWDECK_STORE names one, else in the user's data folder."""
    store = os.environ.get("FLOWDECK_STORE", "")
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    folder = Path(store) if store and "://" not in store else Path(data) / "flowdeck"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return str(folder / "weather.db")


@flow(name="weather", schedule="0 6 * * *")
def weather(source: str = str(HERE / "seattle-weather.csv"), warehouse: str | None = None) -> int:
    """Load Seattle's weather into a database and report on it; returns the number of days."""
    days = validate(extract(source))
    months = sum_up.map(split_by_month(days))
    loaded = load.submit(warehouse or default_warehouse(), days, months)
    report(days, months)
    stored: int = loaded.result()
    return stored


if __name__ == "__main__":
    weather()

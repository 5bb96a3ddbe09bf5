"""A Prefect 1 flow that keeps its schedule itself: ``flow.run()`` waits for each time and runs, until Ctrl-C."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from ..running.run_process.answers import RunCancelled
from ..schedules.schedule import Schedule, next_after
from ..system.clock import now_us
from .states import FlowState, Pending

_LONGEST_WAIT_SECONDS = 60.0
"""The wall clock may be set meanwhile: looked at again after so long."""


def run_on_schedule(
    name: str, schedules: list[Schedule], values: dict[str, Any], run_once: Callable[[dict[str, Any]], FlowState]
) -> FlowState:
    """Run the flow of this name at each time of its schedules; the last run's state, once there are no more times.

    A time that passes while a run is under way is left out. Ctrl-C ends the script with exit code 130.
    """
    state: FlowState = Pending("its schedule has no more times", {})
    while (tick := _next_tick(schedules)) is not None:
        due, schedule = tick
        try:
            sys.stderr.write(f"flowdeck: {name} runs next at {due:%Y-%m-%d %H:%M:%S} UTC (Ctrl-C ends this)\n")
            _wait_until(due)
        except KeyboardInterrupt:
            raise RunCancelled(f"flow {name!r}: stopped waiting for its schedule (Ctrl-C)") from None
        state = run_once({**schedule.parameters, **values})
        if state.is_cancelled() and "Ctrl-C" in (state.message or ""):
            raise RunCancelled(f"flow {name!r}: stopped (Ctrl-C)")
    return state


def _next_tick(schedules: list[Schedule]) -> tuple[datetime, Schedule] | None:
    now = datetime.fromtimestamp(now_us() / 1e6, UTC)
    return min(_ticks(schedules, now), key=lambda one: one[0], default=None)


def _ticks(schedules: list[Schedule], now: datetime) -> Iterator[tuple[datetime, Schedule]]:
    for schedule in schedules:
        if schedule.active and (tick := next_after(schedule, now)) is not None:
            yield tick, schedule


def _wait_until(due: datetime) -> None:
    while (left := due.timestamp() - now_us() / 1e6) > 0:
        time.sleep(min(left, _LONGEST_WAIT_SECONDS))


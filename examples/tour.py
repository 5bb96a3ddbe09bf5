"""A tour, made up so that a newcomer sees what can become of a task: nothing here does real work.

It holds a task that fails twice and then succeeds, one that fails for good, one that waits for the failed one and so
never starts, a long and talkative one, a mapped group and a flow within the flow. The run ends FAILED, on purpose:
look at it with ``flowdeck show @failed``, or press ``r`` on it in the console. Paused, frozen and cancelled are left
to you: there are 20 seconds for it.
"""

from __future__ import annotations

import itertools
import logging
import subprocess
import sys
import time

from flowdeck import Interval, flow, get_run_logger, metric, task

calls_of_the_flaky_service = itertools.count(1)


@task(retries=3, retry_delay_seconds=2)
def fails_twice_then_succeeds() -> str:
    """Ask a flaky service: two of three calls fail, so two retries mend it."""
    call = next(calls_of_the_flaky_service)
    if call % 3:
        raise ConnectionError(f"call {call}: the made-up service hung up; the next attempt comes in 2 s")
    return f"answered at call {call}"


@task
def fails_for_good() -> None:
    """Fail on every attempt, deliberately."""
    raise RuntimeError("deliberate: this task of the tour always fails, so that you see what a failure looks like")


@task
def needs_the_failed_one(outcome: None) -> None:
    """Never starts: what it needs failed."""


@task
def talks_for_a_while(seconds: float) -> int:
    """Work for some seconds and talk on every channel there is: logger, print, standard error, a child process."""
    logger = get_run_logger()
    lines, began = 0, time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        lines += 1
        metric("progress_percent", round(100 * passed / seconds, 1))
        _say(logger, lines, passed, seconds)
        time.sleep(min(0.25, seconds / 10))
    metric("progress_percent", 100.0)
    logger.info("done after %d rounds", lines)
    return lines


def _say(logger: logging.Logger, round_number: int, passed: float, seconds: float) -> None:
    match round_number % 10:
        case 3:
            logger.debug("round %d: a detail, for who looks closely", round_number)
        case 5:
            print(f"round {round_number}: a line that was printed", flush=True)
        case 6:
            print(f"round {round_number}: a line on standard error", file=sys.stderr, flush=True)
        case 7:
            logger.warning("round %d: a warning about nothing", round_number)
        case 8:
            subprocess.run(["echo", f"round {round_number}: a line from a child process"], check=True)
        case 9:
            logger.error("round %d: an error that hurts nobody", round_number)
        case _:
            logger.info("round %d: %.0f %% done", round_number, 100 * passed / seconds)


@task
def weigh(parcel: int) -> float:
    """Weigh one parcel of the mapped group."""
    time.sleep(0.2 + 0.1 * (parcel % 5))
    return 0.5 + parcel / 4


@task
def stamp(total: float) -> str:
    """Stamp the parcels' papers."""
    return f"{total:.2f} kg, stamped"


@flow(name="tour-parcels")
def parcels(count: int = 8) -> str:
    """The flow within the flow: a mapped group and what follows from it."""
    weights = weigh.map(range(count))
    return stamp(sum(future.result() for future in weights))


@flow(name="tour", schedule=Interval(60))
def tour(seconds: float = 20.0, count: int = 8) -> None:
    """Show what can become of tasks. Ends FAILED, on purpose."""
    logger = get_run_logger()
    logger.info("welcome: this run ends FAILED, on purpose")
    flaky = fails_twice_then_succeeds.submit()
    talker = talks_for_a_while.submit(seconds)
    failing = fails_for_good.submit()
    needs_the_failed_one.submit(failing)
    logger.info("the parcels: %s", parcels(count))
    logger.info("the flaky service: %s", flaky.result())
    logger.info("the talker: %d rounds", talker.result())
    failing.result()  # raises: a flow whose exception nobody catches has failed


if __name__ == "__main__":
    tour()

"""Huey: tasks in a SQLite queue with fsync, and its consumer's threads in the same process.

It polls, so it is told to do so each millisecond: by default its consumer looks ten times a second, and less often
the longer nothing came.
"""

from __future__ import annotations

import sys
from typing import Any

from huey import SqliteHuey
from protocol import serve, timed

POLL_SECONDS = 0.001


def main(folder: str) -> None:
    queue = SqliteHuey("bench", filename=f"{folder}/huey.db", fsync=True)

    @queue.task()
    def step(number: int) -> int:
        return number

    def read(result: Any) -> None:
        result.get(blocking=True, backoff=1.0, max_delay=POLL_SECONDS)

    def sequence(count: int) -> None:
        for number in range(count):
            read(step(number))

    def submission(count: int) -> None:
        for result in [step(number) for number in range(count)]:
            read(result)

    def round_of(work: Any, workers: int) -> Any:
        def measure(count: int) -> dict[str, Any]:
            consumer = queue.create_consumer(
                workers=workers, worker_type="thread", periodic=False, initial_delay=POLL_SECONDS, backoff=1.0,
                max_delay=POLL_SECONDS, check_worker_health=False,
            )  # fmt: skip
            consumer.start()
            try:
                return timed(count, work, lambda: count)
            finally:
                consumer.stop(graceful=True)

        return measure

    connection = queue.storage.conn
    serve(
        {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")},
        {"sequential": round_of(sequence, 1), "submitted": round_of(submission, 4)},
    )


main(sys.argv[1])

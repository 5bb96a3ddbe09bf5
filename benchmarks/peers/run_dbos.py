"""DBOS: steps of one workflow, with its SQLite system database. ``wal`` switches that file's journal by hand."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from contextlib import closing
from typing import Any

from dbos import DBOS
from dbos._dbos import _get_dbos_instance
from protocol import serve, settled, timed
from sqlalchemy import text


def main(folder: str, journal: str) -> None:
    path = f"{folder}/dbos.db"
    if journal == "wal":
        with closing(sqlite3.connect(path)) as made:  # the mode stays with the file
            made.execute("PRAGMA journal_mode=WAL")
    DBOS(config={"name": "bench", "system_database_url": f"sqlite:///{path}", "log_level": "ERROR",
                 "run_admin_server": False})  # fmt: skip

    @DBOS.step()
    def step(number: int) -> int:
        return number

    @DBOS.step()
    async def async_step(number: int) -> int:
        return number

    def recorded() -> int:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as reader:
            query = "SELECT count(*) FROM operation_outputs WHERE workflow_uuid = ?"
            return int(reader.execute(query, (DBOS.workflow_id,)).fetchone()[0])

    @DBOS.workflow()
    def sequence(count: int) -> dict[str, Any]:
        def work(count: int) -> None:
            for number in range(count):
                step(number)

        return timed(count, work, recorded)

    @DBOS.workflow()
    async def submission(count: int) -> dict[str, Any]:
        begun = time.perf_counter()
        await asyncio.gather(*[async_step(number) for number in range(count)])
        return {"seconds": time.perf_counter() - begun, **settled(count, begun, recorded)}

    DBOS.launch()
    with _get_dbos_instance()._sys_db.engine.connect() as connection:
        mode, synchronous = (connection.execute(text(f"PRAGMA {name}")).scalar() for name in
                             ("journal_mode", "synchronous"))  # fmt: skip

    serve({"journal_mode": mode, "synchronous": synchronous},
          {"sequential": sequence, "submitted": lambda count: asyncio.run(submission(count))})  # fmt: skip
    DBOS.destroy()


main(sys.argv[1], sys.argv[2])

"""``flowdeck limits``: made, listed with holders and waiters, paused, removed; as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from .conftest import Cli

HOLD = '''
import time
from flowdeck import concurrency, flow, task

@task
def work(n: int) -> None:
    with concurrency("db"):
        time.sleep(60)

@flow
def hold() -> None:
    work.map(range(3)).wait()
'''


def parsed(done: Any) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_limit_is_made_changed_paused_and_removed(cli: Cli) -> None:
    """Each says what was obtained; an unknown one is refused with exit code 3 and what to do."""
    assert "no limits" in cli("limits").stderr
    assert parsed(cli("limits", "--json")) == []
    assert cli("limits", "set", "db", "2").stdout == "limit db: 2 slots\n"
    assert cli("limits", "set", "api", "5", "--decay", "0.5").returncode == 0
    rows = parsed(cli("limits", "--json"))
    assert [(row["name"], row["slots"], row["slot_decay_per_second"], row["active"]) for row in rows] == [
        ("api", 5, 0.5, True), ("db", 2, None, True)]
    assert cli("limits", "pause", "db").returncode == 0
    assert parsed(cli("limits", "show", "db", "--json"))["active"] is False
    table = cli("limits").stdout
    assert "LIMIT" in table
    assert "paused" in table
    assert cli("limits", "resume", "db").returncode == 0
    assert cli("limits", "rm", "db").returncode == 0
    gone = cli("limits", "show", "db")
    assert gone.returncode == 3
    assert "flowdeck limits set db N" in gone.stderr
    assert cli("limits", "rm", "db").returncode == 3
    for words in (("set", "db"), ("set", "db", "-1"), ("set", "db", "many"), ("show",), ("explode", "db")):
        assert cli("limits", *words).returncode == 2, words


def test_who_holds_and_who_waits_is_listed(cli: Cli, until: Callable[..., None]) -> None:
    """By run and task, in the order of asking; ``show RUN`` says the same of each task."""
    cli.environment["FLOWDECK_CANCEL_GRACE_SECONDS"] = "0.5"
    cli("limits", "set", "db", "1")
    path = cli.flows.parent / "hold.py"
    path.write_text(HOLD)
    cli.start("run", str(path))
    until(lambda: len(parsed(cli("limits", "show", "db", "--json"))["waiting"]) == 2, "two waiters")
    limit = parsed(cli("limits", "show", "db", "--json"))
    assert limit["taken"] == 1
    assert [one["run"] for one in limit["holders"]] == [1]
    assert [one["position"] for one in limit["waiting"]] == [1, 2]
    assert {one["task"] for one in (*limit["holders"], *limit["waiting"])} == {1, 2, 3}
    words = cli("limits", "show", "db").stdout
    assert "1 of 1 slot" in words
    assert words.count("waits") == 2
    until(lambda: "waiting for slot db, position 2 of 2, held by 1/" in cli("show", "1").stdout, "words in show")

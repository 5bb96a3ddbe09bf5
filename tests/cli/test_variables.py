"""``flowdeck vars``: what is set is listed, read as it was written, and removed."""

from __future__ import annotations

import json

from .conftest import Cli


def test_variables_from_the_command_line(cli: Cli) -> None:
    """JSON where it is JSON, else a text; control characters of values never reach the terminal."""
    assert json.loads(cli("vars", "--json").stdout) == []
    assert "no variables" in cli("vars").stderr
    assert cli("vars", "set", "limit", "5", "--tag", "a").returncode == 0
    assert cli("vars", "set", "greeting", "hello \x1b[2J world").returncode == 0
    assert cli("vars", "get", "limit").stdout == "5\n"
    assert "\x1b" not in cli("vars", "get", "greeting").stdout
    rows = json.loads(cli("vars", "--json").stdout)
    assert [(row["name"], row["value"], row["tags"]) for row in rows] == [
        ("greeting", "hello \x1b[2J world", []), ("limit", 5, ["a"])]
    assert "\x1b" not in cli("vars").stdout
    assert cli("vars", "set", "limit", '{"a": 1}').returncode == 0
    one = json.loads(cli("vars", "get", "limit", "--json").stdout)
    assert (one["value"], one["tags"]) == ({"a": 1}, ["a"])
    assert cli("vars", "set", "limit", "6", "--new").returncode == 4
    assert cli("vars", "rm", "limit").returncode == 0
    assert cli("vars", "get", "limit").returncode == 3
    assert cli("vars", "rm", "limit").returncode == 3
    assert cli("vars", "set", "limit").returncode == 2
    assert cli("vars", "set", "bad name", "1").returncode == 2

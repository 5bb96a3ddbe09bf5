"""``flowdeck artifacts``: the newest of each key with who made it, one of them in full, and its versions."""

from __future__ import annotations

import json
import subprocess
import sys

from .conftest import Cli

MADE = """
from flowdeck import create_markdown_artifact, create_table_artifact, flow
create_table_artifact([{"name": "a", "count": 1}], key="numbers", description="from a script")

@flow
def main():
    create_markdown_artifact("# Hello", key="report")
    create_markdown_artifact("# Again \\x1b[31m", key="report")

main()
"""


def test_listed_and_shown(cli: Cli) -> None:
    """Of runs and from outside of them."""
    assert "no artifacts" in cli("artifacts").stderr
    subprocess.run([sys.executable, "-c", MADE], env=cli.environment, check=True, capture_output=True)
    listed = cli("artifacts").stdout.splitlines()
    assert [line.split()[:3] for line in listed[1:]] == [["report", "markdown", "#1"], ["numbers", "table", "no"]]
    shown = cli("artifacts", "numbers").stdout
    assert "made outside of runs" in shown
    assert "from a script" in shown
    again = cli("artifacts", "report").stdout
    assert "by #1" in again
    assert "version 2 of 2" in again
    assert "Again" in again
    versions = json.loads(cli("artifacts", "report", "--json").stdout)
    assert [(one["run"], one["data"].splitlines()[0]) for one in versions] == [(1, "# Again \x1b[31m"), (1, "# Hello")]
    assert cli("artifacts", "nope").returncode == 3
    assert "\x1b[31m" not in cli("artifacts", "report").stdout

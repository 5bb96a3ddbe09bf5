"""The store is settled once per process and handed to its children: also for code that is no run's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from flowdeck.store.opening import open_store
from flowdeck.store.reader import Reader

OUTSIDE = """
import os, subprocess, sys
from flowdeck import Variable, concurrency, flow, send_input, sh, transaction
from flowdeck.testing.utilities import flowdeck_test_harness

@flow
def ran():
    sh([sys.executable, "-P", "-m", "flowdeck", "vars", "set", "of-sh", "1"])

FIRST
os.chdir("deeper")
with flowdeck_test_harness():
    Variable.set("of-the-harness", 1)
Variable.set("after", 1)
with concurrency("limit", occupy=1):
    pass
with transaction("key") as block:
    block.stage({"a": 1})
subprocess.run([sys.executable, "-P", "-m", "flowdeck", "vars", "set", "of-a-child", "1"], check=True)
ran()
"""
FIRST = {
    "a limit": "with concurrency('first'): pass",
    "a transaction": "with transaction('first') as first: first.stage({'b': 1})",
}  # fmt: skip


def variables(folder: Path) -> set[str]:
    with Reader(folder) as reader:
        return {row.name for row in reader.variables()}


def test_who_moves_stays_with_the_store_of_before(tmp_path: Path) -> None:
    """A folder further down has a store of its own: whatever the first use was, all later ones are of one store."""
    for number, (what, first) in enumerate(FIRST.items()):
        here = tmp_path / str(number)
        deeper = here / "deeper"
        for folder in (here, deeper):
            folder.mkdir()
            open_store(folder / ".flowdeck")
        (here / "script.py").write_text(OUTSIDE.replace("FIRST", first))
        environment = {name: value for name, value in os.environ.items() if name != "FLOWDECK_STORE"}
        subprocess.run([sys.executable, "script.py"], cwd=here, env=environment, check=True, capture_output=True)
        assert variables(here / ".flowdeck") >= {"after", "of-a-child", "of-sh"}, what
        assert "of-the-harness" not in variables(here / ".flowdeck")
        assert variables(deeper / ".flowdeck") == set(), what
        with Reader(deeper / ".flowdeck") as reader:
            assert list(reader.runs()) == [], what


def test_what_is_named_is_everybodys(tmp_path: Path) -> None:
    """``flowdeck --store X run``: also what the file does as it is imported, and what it starts."""
    open_store(tmp_path / ".flowdeck")
    (tmp_path / "deeper").mkdir()
    open_store(tmp_path / "deeper" / ".flowdeck")
    (tmp_path / "file.py").write_text(OUTSIDE.replace("FIRST", FIRST["a limit"]).replace("\nran()\n", "\n"))
    named = tmp_path / "named"
    done = subprocess.run(
        [sys.executable, "-P", "-m", "flowdeck", "--store", str(named), "run", "file.py:ran"], cwd=tmp_path,
        capture_output=True, text=True, check=False,
        env={name: value for name, value in os.environ.items() if name != "FLOWDECK_STORE"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert variables(named) == {"after", "of-a-child", "of-sh"}
    for folder in (tmp_path, tmp_path / "deeper"):
        assert variables(folder / ".flowdeck") == set()
